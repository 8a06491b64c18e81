package issuer

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/stretchr/testify/require"
)

func testIssuer(t testing.TB, url string) *Issuer {
	t.Helper()
	k, err := Generate()
	require.NoError(t, err)
	i, err := New(url, k)
	require.NoError(t, err)
	return i
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	k, err := Generate()
	require.NoError(t, err)
	for _, url := range []string{
		"", "gw.example.com", "//gw", "http://", "ftp://gw", "https://gw?x=1", "https://gw?", "https://gw#", "https://u:p@gw", "http://gw:port", "%",
	} {
		_, err := New(url, k)
		require.ErrorContains(t, err, "want an http or https URL", url)
	}
	_, err = New("http://gw", nil)
	require.Error(t, err)
	for _, url := range []string{"http://gw", "https://gw.example.com:8443/", "http://127.0.0.1:8080/idp"} {
		i, err := New(url, k)
		require.NoError(t, err)
		require.Equal(t, url, i.URL())
	}
}

// TestSign verifies with golang-jwt and with jwx, both by the published JWKS'
// key, and compares claims and header exactly.
func TestSign(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{ES256, ES384, EdDSA} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			k, err := generate(algorithm)
			require.NoError(t, err)
			require.Equal(t, algorithm, k.Algorithm())
			i, err := New("https://gw.example.com", k)
			require.NoError(t, err)
			require.Contains(t, string(i.Discovery("")), `"id_token_signing_alg_values_supported":["`+algorithm+`"]`)
			requireSigns(t, i, jwa.SignatureAlgorithm(algorithm))
		})
	}
}

func requireSigns(t *testing.T, i *Issuer, algorithm jwa.SignatureAlgorithm) {
	t.Helper()
	set, err := jwk.Parse(i.JWKS())
	require.NoError(t, err)
	require.Equal(t, 1, set.Len())
	public, ok := set.LookupKeyID(i.published()[0].ID())
	require.True(t, ok)
	require.NoError(t, public.Validate())
	var raw any
	require.NoError(t, public.Raw(&raw))

	claims := map[string]any{
		"iss": "https://gw.example.com", "sub": "fed:alice", "exp": json.Number("4102444800"),
		"big": json.Number("12345678901234567890"), "frac": json.Number("1.50"),
		// Names that a builder, a path language or a struct tag might act on.
		"a.b": 1, "": "empty", "kid": "x", "alg": "none", "__proto__": map[string]any{"admin": true}, "fed:iss": "x", "<&>": "\u2028",
		"function": map[string]any{"permissions": []string{"dev:env"}},
	}
	want, err := json.Marshal(claims)
	require.NoError(t, err)
	for range 200 { // short r or s values turn up about once in 128
		token, err := i.Sign(claims)
		require.NoError(t, err)

		parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return raw, nil }, jwt.WithValidMethods([]string{algorithm.String()}))
		require.NoError(t, err)
		require.Equal(t, map[string]any{"alg": algorithm.String(), "kid": i.published()[0].ID(), "typ": "JWT"}, parsed.Header)
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(payload))

		_, err = jws.Verify([]byte(token), jws.WithKey(algorithm, public))
		require.NoError(t, err)
	}
	payload, err := i.Sign(claims)
	require.NoError(t, err)
	decoded, err := base64.RawURLEncoding.DecodeString(strings.Split(payload, ".")[1])
	require.NoError(t, err)
	require.Contains(t, string(decoded), `"big":12345678901234567890`)
	require.Contains(t, string(decoded), `"frac":1.50`)
}

func TestSignRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	i := testIssuer(t, "http://gw")
	for _, v := range []any{make(chan int), math.NaN(), json.Number("1e"), func() {}} {
		_, err := i.Sign(map[string]any{"x": v})
		require.Error(t, err)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	i := testIssuer(t, "https://gw.example.com/")

	var keys struct{ Keys []map[string]any }
	require.NoError(t, json.Unmarshal(i.JWKS(), &keys))
	require.Len(t, keys.Keys, 1)
	require.NotContains(t, keys.Keys[0], "d", "a private key is published")
	require.Equal(t, map[string]any{
		"kty": "EC", "crv": "P-256", "x": keys.Keys[0]["x"], "y": keys.Keys[0]["y"], "kid": i.published()[0].ID(), "use": "sig", "alg": "ES256",
	}, keys.Keys[0])

	require.JSONEq(t, `{
		"issuer": "https://gw.example.com/",
		"jwks_uri": "https://gw.example.com/.well-known/jwks.json",
		"token_endpoint": "https://gw.example.com/oauth/token",
		"grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
		"response_types_supported": ["id_token"],
		"subject_types_supported": ["public"],
		"id_token_signing_alg_values_supported": ["ES256"],
		"token_endpoint_auth_methods_supported": ["none"],
		"scopes_supported": ["function"],
		"claims_supported": ["iss","sub","aud","exp","iat","nbf","jti","fed:iss","policy","function"]
	}`, string(i.Discovery("/oauth/token")))
	require.JSONEq(t, `{
		"issuer": "https://gw.example.com/",
		"jwks_uri": "https://gw.example.com/.well-known/jwks.json",
		"grant_types_supported": [],
		"response_types_supported": ["id_token"],
		"subject_types_supported": ["public"],
		"id_token_signing_alg_values_supported": ["ES256"],
		"claims_supported": ["iss","sub","aud","exp","iat","nbf","jti"]
	}`, string(i.Discovery("")))
}

func BenchmarkSign(b *testing.B) {
	i := testIssuer(b, "https://gw.example.com")
	claims := map[string]any{"iss": "https://gw.example.com", "sub": "fed:alice", "exp": 4102444800, "policy": []string{"a", "b"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Sign(claims); err != nil {
			b.Fatal(err)
		}
	}
}
