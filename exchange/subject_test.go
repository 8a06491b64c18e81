package exchange

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

// TestAlgorithms: providers sign by what they like; what is issued is ES256.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ec := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		return key
	}
	for _, c := range []struct {
		key     crypto.Signer
		methods []jwt.SigningMethod
	}{
		{rsaKey, []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
			jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512}},
		{ec(elliptic.P256()), []jwt.SigningMethod{jwt.SigningMethodES256}},
		{ec(elliptic.P384()), []jwt.SigningMethod{jwt.SigningMethodES384}},
		{ec(elliptic.P521()), []jwt.SigningMethod{jwt.SigningMethodES512}},
		{edKey, []jwt.SigningMethod{jwt.SigningMethodEdDSA}},
	} {
		for _, method := range c.methods {
			p := newProviderWith(t, nil, c.key, method)
			g := newGateway(t, aliceMayInvoke(t, p, "dev:*"))
			res, err := g.exchange(t, p.token(t, nil), "function")
			require.NoError(t, err, method.Alg())
			require.Equal(t, []string{"dev:env"}, g.opens(t, res.AccessToken, []string{"dev:env", "prod:env"}), method.Alg())
		}
	}
}

// TestSeveralAudiences: one of the JwtIssuer's is enough, wherever it stands in
// the token.
func TestSeveralAudiences(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "*")) // of gatehound and gatehound-cli
	for _, aud := range []any{"gatehound", "gatehound-cli", []string{"gatehound-cli"}, []string{"account", "gatehound"}, []string{"gatehound", "gatehound-cli"}} {
		_, err := g.exchange(t, p.token(t, map[string]any{"aud": aud}), "")
		require.NoError(t, err, aud)
	}
	for _, aud := range []any{"account", "gatehound ", "Gatehound", "gatehound,gatehound-cli", []string{}, []string{"account", "gate"}, nil, "*", 7} {
		_, err := g.exchange(t, p.token(t, map[string]any{"aud": aud}), "")
		requireRefused(t, err, InvalidRequest, "subject_token: failed to parse JWT token: aud")
	}
}

// TestAttenuationIsASubset takes permissions and audience by chance: a token
// opens what both cover, no more and no less, and an audience is refused if and
// only if one of its entries can be met by no permission.
func TestAttenuationIsASubset(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	id := p.token(t, nil)
	chance := mathrand.New(mathrand.NewPCG(5, 17))
	sides := []string{"a", "b", "ab", "*", "a*", "*b"}
	patterns := func(least int) (all []iam.Resource) {
		for range least + chance.IntN(3) {
			r := iam.Resource(sides[chance.IntN(len(sides))] + ":" + sides[chance.IntN(len(sides))])
			if chance.IntN(10) == 0 {
				r = "*"
			}
			all = append(all, r)
		}
		return all
	}
	// Every function that tells two of the patterns apart.
	var functions []string
	names := []string{"a", "b", "ab", "aa", "bb", "c"}
	for _, namespace := range names {
		for _, name := range names {
			functions = append(functions, namespace+":"+name)
		}
	}
	covers := func(patterns []iam.Resource, function string) bool {
		namespace, name, _ := strings.Cut(function, ":")
		for _, r := range patterns {
			if r.Matches(namespace, name) {
				return true
			}
		}
		return false
	}
	seen := map[string]int{}
	for range 150 {
		permissions, entries := patterns(1), patterns(0)
		var audience, want []string
		idle := ""
		for _, a := range entries {
			audience = append(audience, string(a))
			meets := false
			for _, f := range functions {
				meets = meets || covers([]iam.Resource{a}, f) && covers(permissions, f)
			}
			if !meets && idle == "" {
				idle = string(a)
			}
		}
		for _, f := range functions {
			if covers(permissions, f) && (len(entries) == 0 || covers(entries, f)) {
				want = append(want, f)
			}
		}
		g := newGateway(t, aliceMayInvoke(t, p, permissions...))
		res, err := g.exchange(t, id, "function", audience...)
		if idle != "" {
			requireRefused(t, err, InvalidTarget, "audience '"+idle+"' is not covered")
			seen["refused"]++
			continue
		}
		require.NoError(t, err, "%s for %s", permissions, audience)
		require.Equal(t, want, g.opens(t, res.AccessToken, functions), "%s for %s", permissions, audience)
		seen["issued"]++
	}
	require.Greater(t, seen["refused"], 15)
	require.Greater(t, seen["issued"], 50)
}

// TestSystemIssuer: the JwtIssuer of our own URL says how long our API tokens
// can be used for others; it is documented as one that every installation has.
func TestSystemIssuer(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	policy, role := invoke("invoke", "alice", "*")
	g := newGateway(t, compile(t, iam.Objects{
		Issuers: []iam.JwtIssuer{p.trusted("idp", "2h"), {Metadata: iam.Metadata{Name: "system"},
			Spec: iam.JwtIssuerSpec{Iss: gatewayURL, Aud: []string{gatewayURL}, TokenExpiry: "30m"}}},
		Policies: []iam.Policy{policy}, Roles: []iam.Role{role},
	}))
	api, err := g.exchange(t, p.token(t, nil), "")
	require.NoError(t, err)
	require.Equal(t, 7200, api.ExpiresIn, "a login lasts for the provider's tokenExpiry")
	function, err := g.exchange(t, api.AccessToken, "function")
	require.NoError(t, err)
	require.Equal(t, 1800, function.ExpiresIn, "what is issued for our own token, for the system's")
	g.advance(105 * time.Minute)
	function, err = g.exchange(t, api.AccessToken, "function")
	require.NoError(t, err)
	require.Equal(t, 900, function.ExpiresIn, "and never beyond the login's end")
}
