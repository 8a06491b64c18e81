package exchange

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// TestOwnKeysRotate: an API token is good as long as it lives, however often
// keys are replaced meanwhile, and is refused once its key is withdrawn.
func TestOwnKeysRotate(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	policy, role := invoke("invoke", "alice", "*")
	set := func(expiry string) *iam.Set {
		return compile(t, iam.Objects{Issuers: []iam.JwtIssuer{p.trusted("idp", expiry)}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role}})
	}
	id := p.token(t, map[string]any{"exp": now.Add(1000 * time.Hour).Unix()})
	g := newGateway(t, set("100h"))
	folder := t.TempDir()
	first, err := issuer.Add(folder, issuer.ES256, g.now().Add(-time.Hour))
	require.NoError(t, err)
	second, err := issuer.Add(folder, issuer.EdDSA, g.now().Add(time.Minute))
	require.NoError(t, err)
	g.issuer, err = issuer.Open(issuer.Config{URL: gatewayURL, Path: folder, Now: g.now})
	require.NoError(t, err)
	g.Exchanger, err = New(Config{Issuer: g.issuer, Objects: g.objects.Load, Now: g.now})
	require.NoError(t, err)
	go g.issuer.Run(t.Context())

	g.advance(24*time.Hour + 5*time.Minute)
	require.Contains(t, string(g.issuer.JWKS()), first.Key.ID(), "before the first request, the objects count already")
	g.advance(-24*time.Hour - 5*time.Minute)
	res, err := g.exchange(t, id, "")
	require.NoError(t, err)
	g.objects.Store(set("1h")) // from now on; that token is out
	_, err = g.exchange(t, id, "")
	require.NoError(t, err)
	g.advance(99 * time.Hour)
	_, err = g.exchange(t, res.AccessToken, "function")
	require.NoError(t, err)
	g.advance(2 * time.Hour)
	require.NotContains(t, string(g.issuer.JWKS()), first.Key.ID())

	res, err = g.exchange(t, id, "")
	require.NoError(t, err)
	_, err = g.exchange(t, res.AccessToken, "function")
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(folder, second.Name)))
	require.Eventually(t, func() bool {
		_, err = g.exchange(t, res.AccessToken, "function")
		return err != nil
	}, 20*time.Second, 10*time.Millisecond, "a withdrawn key's API token is still taken")
	requireRefused(t, err, InvalidRequest, "key")
}
