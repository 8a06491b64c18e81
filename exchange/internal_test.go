package exchange

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

// TestInternalAddress: with an issInternal nothing is asked of the public
// address, although the discovery document names it.
func TestInternalAddress(t *testing.T) {
	t.Parallel()
	const public = "https://idp.invalid/realms/dev" // resolves nowhere (RFC 6761)
	elsewhere := newProvider(t, nil)                // another server, with the same keys
	for name, c := range map[string]struct {
		jwksURI, internalPath string
		asked                 []string
	}{
		"below the issuer":  {public + "/certs", "/auth/dev", []string{"/auth/dev/.well-known/openid-configuration", "/auth/dev/certs"}},
		"with a slash":      {public + "/certs", "/auth/dev/", []string{"/auth/dev/.well-known/openid-configuration", "/auth/dev/certs"}},
		"at the root":       {public + "/certs", "", []string{"/.well-known/openid-configuration", "/certs"}},
		"beside the issuer": {"https://idp.invalid/dev/keys?v=2", "/auth/dev", []string{"/auth/dev/.well-known/openid-configuration", "/dev/keys?v=2"}},
		"encoded path":      {public + "/a%2Fb", "/x", []string{"/x/.well-known/openid-configuration", "/x/a%2Fb"}},
		"discovery URL":     {public + "/certs", "/i/.well-known/openid-configuration", []string{"/i/.well-known/openid-configuration", "/i/certs"}},
		"another server":    {elsewhere.URL + "/keys", "/i", []string{"/i/.well-known/openid-configuration"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []string
			inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r.RequestURI)
				if len(asked) == 1 {
					_ = json.NewEncoder(w).Encode(map[string]string{"issuer": public, "jwks_uri": c.jwksURI})
					return
				}
				r.URL.Path = "/keys"
				elsewhere.Config.Handler.ServeHTTP(w, r)
			}))
			t.Cleanup(inside.Close)
			trusted := elsewhere.trusted("idp", "1h")
			trusted.Spec.Iss, trusted.Spec.IssInternal = public, inside.URL+c.internalPath
			policy, role := invoke("invoke", "alice", "*")
			g := newGateway(t, compile(t, iam.Objects{Issuers: []iam.JwtIssuer{trusted}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role}}))
			_, err := g.exchange(t, elsewhere.token(t, map[string]any{"iss": public}), "")
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, c.asked, asked)
		})
	}
}
