package exchange

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// gatewayURL is the issuer under test; half a second past the second shows
// whether times are cut to whole ones.
const gatewayURL = "https://gw.example.com"

var now = time.Date(2026, 5, 4, 12, 0, 0, 500e6, time.UTC)

// provider is an OpenID provider over HTTP that signs with golang-jwt.
type provider struct {
	*httptest.Server
	key     crypto.Signer
	method  jwt.SigningMethod
	fetches atomic.Int32
	// hang makes every answer wait until it is closed; nil = no wait.
	hang chan struct{}
}

func newProvider(t testing.TB, hang chan struct{}) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return newProviderWith(t, hang, key, jwt.SigningMethodES256)
}

func newProviderWith(t testing.TB, hang chan struct{}, key crypto.Signer, method jwt.SigningMethod) *provider {
	t.Helper()
	p := &provider{key: key, method: method, hang: hang}
	public, err := jwk.FromRaw(key.Public())
	require.NoError(t, err)
	require.NoError(t, public.Set(jwk.KeyIDKey, "idp-1"))
	require.NoError(t, public.Set(jwk.AlgorithmKey, method.Alg()))
	set := jwk.NewSet()
	require.NoError(t, set.AddKey(public))
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		if p.hang != nil {
			select {
			case <-p.hang:
			case <-r.Context().Done():
				return
			}
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "jwks_uri": p.URL + "/keys"})
		case "/keys":
			_ = json.NewEncoder(w).Encode(set)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// token returns an ID token with claims on top of usual ones; nil removes one.
func (p *provider) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := jwt.MapClaims{
		"iss": p.URL, "aud": "gatehound", "sub": "alice",
		"iat": now.Unix() - 60, "exp": now.Unix() + 300, "groups": []string{"dev"},
	}
	for n, v := range claims {
		if all[n] = v; v == nil {
			delete(all, n)
		}
	}
	token := jwt.NewWithClaims(p.method, all)
	token.Header["kid"] = "idp-1"
	signed, err := token.SignedString(p.key)
	require.NoError(t, err)
	return signed
}

// trusted is a JwtIssuer for the provider.
func (p *provider) trusted(name, expiry string) iam.JwtIssuer {
	return iam.JwtIssuer{
		Metadata: iam.Metadata{Name: name},
		Spec:     iam.JwtIssuerSpec{Iss: p.URL, Aud: []string{"gatehound", "gatehound-cli"}, TokenExpiry: expiry},
	}
}

// invoke is a policy, of the same name as its role, that lets subject invoke
// resources.
func invoke(name, subject string, resources ...iam.Resource) (iam.Policy, iam.Role) {
	return policy(name, "Function:Invoke", resources...), iam.Role{
		Metadata: iam.Metadata{Name: name},
		Spec:     iam.RoleSpec{Policy: []string{name}, Principal: iam.Match{"jwt:sub": {subject}}},
	}
}

func policy(name, action string, resources ...iam.Resource) iam.Policy {
	return iam.Policy{
		Metadata: iam.Metadata{Name: name},
		Spec:     iam.PolicySpec{Statement: []iam.Statement{{Effect: "Allow", Action: []string{action}, Resource: resources}}},
	}
}

func compile(t testing.TB, o iam.Objects) *iam.Set {
	t.Helper()
	set, problems := iam.Compile(o)
	require.Empty(t, problems)
	return set
}

// gateway is an exchanger whose objects and clock a test can change.
type gateway struct {
	*Exchanger
	issuer  *issuer.Issuer
	objects atomic.Pointer[iam.Set]
	clock   atomic.Pointer[time.Time]
}

func newGateway(t testing.TB, set *iam.Set, changes ...func(*Config)) *gateway {
	t.Helper()
	key, err := issuer.Generate()
	require.NoError(t, err)
	i, err := issuer.New(gatewayURL, key)
	require.NoError(t, err)
	g := &gateway{issuer: i}
	g.objects.Store(set)
	g.clock.Store(&now)
	c := Config{Issuer: i, Objects: g.objects.Load, Now: g.now}
	for _, change := range changes {
		change(&c)
	}
	g.Exchanger, err = New(c)
	require.NoError(t, err)
	return g
}

func (g *gateway) now() time.Time { return *g.clock.Load() }

func (g *gateway) advance(d time.Duration) {
	later := g.now().Add(d)
	g.clock.Store(&later)
}

// exchange asks for a token as a client would.
func (g *gateway) exchange(t testing.TB, token, scope string, audience ...string) (Response, error) {
	return g.Exchange(t.Context(), Request{
		GrantType: GrantType, SubjectToken: token, SubjectTokenType: TokenTypeIDToken, Scope: scope, Audience: audience,
	})
}

// claims verifies a token of the gateway with golang-jwt, by the JWKS that the
// gateway publishes, and returns its claims. jti is checked and left out.
func (g *gateway) claims(t testing.TB, token string) map[string]any {
	t.Helper()
	set, err := jwk.Parse(g.issuer.JWKS())
	require.NoError(t, err)
	parsed, err := jwt.Parse(token, func(token *jwt.Token) (any, error) {
		key, ok := set.LookupKeyID(token.Header["kid"].(string))
		require.True(t, ok)
		var public ecdsa.PublicKey
		return &public, key.Raw(&public)
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(gatewayURL), jwt.WithAudience(gatewayURL),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(g.now))
	require.NoError(t, err)
	claims := parsed.Claims.(jwt.MapClaims)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, claims["jti"])
	delete(claims, "jti")
	return claims
}
