package federated

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/gateway/basicauth"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	f := newFed(t, nil, nil)
	now := time.Now()
	for name, c := range map[string]struct{ change, header map[string]any }{
		"one audience":              {},
		"several":                   {map[string]any{"aud": []string{"account", "fed-gw"}}, nil},
		"no sub":                    {map[string]any{"sub": nil}, nil},
		"typ of RFC 9068":           {nil, map[string]any{"typ": "at+jwt"}},
		"typ of RFC 9068, in full":  {nil, map[string]any{"typ": "application/at+JWT"}},
		"expired, within leeway":    {map[string]any{"exp": now.Unix()}, nil},
		"azp is of no concern":      {map[string]any{"azp": "other"}, nil},
		"roles are of no concern":   {map[string]any{"scope": "", "permissions": []string{}}, nil},
		"no header typ":             {nil, map[string]any{"typ": nil}},
		"exp with a fraction":       {map[string]any{"exp": float64(now.Add(time.Minute).Unix()) + 0.5}, nil},
		"audience twice":            {map[string]any{"aud": []string{"fed-gw", "fed-gw"}}, nil},
		"nbf in the past":           {map[string]any{"nbf": now.Add(-time.Minute).Unix()}, nil},
		"a function claim's cousin": {map[string]any{"functions": map[string]any{}}, nil},
	} {
		res, body := f.send(t, "GET /system/info", "authorization: bEARER "+f.idp.token(t, c.change, c.header))
		require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", name, body)
	}
	passed := f.local.count()

	stranger := newIDP(t)
	signed := func(method jwt.SigningMethod, key any, change, header map[string]any) string {
		token := jwt.NewWithClaims(method, f.idp.claims(change))
		token.Header["kid"] = "1"
		for n, v := range header {
			token.Header[n] = v
		}
		s, err := token.SignedString(key)
		require.NoError(t, err)
		return s
	}
	good := f.idp.token(t, nil, nil)
	parts := strings.Split(good, ".")
	point, err := f.idp.key.PublicKey.Bytes()
	require.NoError(t, err)
	forged, err := json.Marshal(f.idp.claims(map[string]any{"sub": "root"}))
	require.NoError(t, err)
	other := f.idp.token(t, map[string]any{"sub": "other"}, nil)
	tokens := map[string]string{
		"other audience":              f.idp.token(t, map[string]any{"aud": "fed-gw.example.com"}, nil),
		"ID token of another client":  f.idp.token(t, map[string]any{"aud": "web", "azp": "fed-gw"}, nil),
		"azp is no audience":          f.idp.token(t, map[string]any{"aud": "account", "azp": "fed-gw", "client_id": "fed-gw"}, nil),
		"no audience":                 f.idp.token(t, map[string]any{"aud": nil}, nil),
		"empty audiences":             f.idp.token(t, map[string]any{"aud": []string{}}, nil),
		"audience a part":             f.idp.token(t, map[string]any{"aud": "fed-gw,other"}, nil),
		"audience in other case":      f.idp.token(t, map[string]any{"aud": "Fed-GW"}, nil),
		"audience an object":          f.idp.token(t, map[string]any{"aud": map[string]any{"fed-gw": true}}, nil),
		"audiences not all text":      f.idp.token(t, map[string]any{"aud": []any{"fed-gw", 1}}, nil),
		"other issuer":                f.idp.token(t, map[string]any{"iss": stranger.issuer}, nil),
		"issuer with a slash":         f.idp.token(t, map[string]any{"iss": f.idp.issuer + "/"}, nil),
		"realm of the same server":    f.idp.token(t, map[string]any{"iss": strings.Replace(f.idp.issuer, "openfaas", "master", 1)}, nil),
		"no issuer":                   f.idp.token(t, map[string]any{"iss": nil}, nil),
		"stranger's key":              stranger.token(t, map[string]any{"iss": f.idp.issuer}, nil),
		"stranger's own":              stranger.token(t, nil, nil),
		"expired":                     f.idp.token(t, map[string]any{"exp": now.Add(-10 * time.Second).Unix(), "iat": now.Add(-time.Hour).Unix()}, nil),
		"no exp":                      f.idp.token(t, map[string]any{"exp": nil}, nil),
		"exp as text":                 f.idp.token(t, map[string]any{"exp": "9999999999"}, nil),
		"exp in milliseconds":         f.idp.token(t, map[string]any{"exp": now.Add(time.Hour).UnixMilli()}, nil),
		"no iat":                      f.idp.token(t, map[string]any{"iat": nil}, nil),
		"issued in the future":        f.idp.token(t, map[string]any{"iat": now.Add(30 * time.Second).Unix()}, nil),
		"not valid yet":               f.idp.token(t, map[string]any{"nbf": now.Add(30 * time.Second).Unix()}, nil),
		"function token":              f.idp.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}}, nil),
		"function token, bad claim":   f.idp.token(t, map[string]any{"function": false}, nil),
		"alg none":                    signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil),
		"alg none, with a signature":  base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"1"}`)) + "." + parts[1] + "." + parts[2],
		"HMAC with the public key":    signed(jwt.SigningMethodHS256, point, nil, nil),
		"other curve's alg":           f.idp.token(t, nil, map[string]any{"alg": "ES384"}),
		"unknown kid":                 f.idp.token(t, nil, map[string]any{"kid": "2"}),
		"no kid":                      f.idp.token(t, nil, map[string]any{"kid": nil}),
		"kid a path":                  f.idp.token(t, nil, map[string]any{"kid": "../../dev/null"}),
		"kid a URL":                   f.idp.token(t, nil, map[string]any{"kid": stranger.issuer + "/keys"}),
		"stranger's key by jku":       stranger.token(t, map[string]any{"iss": f.idp.issuer}, map[string]any{"jku": stranger.issuer + "/keys"}),
		"stranger's key, named so":    stranger.token(t, map[string]any{"iss": f.idp.issuer}, map[string]any{"kid": "stranger", "jku": stranger.issuer + "/keys"}),
		"crit":                        f.idp.token(t, nil, map[string]any{"crit": []string{"exp"}}),
		"logout token":                f.idp.token(t, nil, map[string]any{"typ": "logout+jwt"}),
		"DPoP proof":                  f.idp.token(t, nil, map[string]any{"typ": "dpop+jwt"}),
		"type of nothing":             f.idp.token(t, nil, map[string]any{"typ": "application/application/at+jwt"}),
		"claims of another":           parts[0] + "." + base64.RawURLEncoding.EncodeToString(forged) + "." + parts[2],
		"signature of another":        parts[0] + "." + parts[1] + "." + strings.Split(other, ".")[2],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"two parts":                   parts[0] + "." + parts[1],
		"something behind":            good + ".x",
		"space behind, and another":   good + " " + good,
		"comma and another":           good + "," + good,
		"padded":                      good + "=",
		"quoted":                      `"` + good + `"`,
		"junk":                        "junk",
		"longer than any":             strings.Repeat("a", 9000),
		"the local password, encoded": strings.TrimPrefix(password.Header(), "Basic "),
	}
	for name, token := range tokens {
		res, body := f.send(t, "GET /system/info", "Authorization: Bearer "+token)
		require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s: %s", name, body)
		require.Equal(t, `Bearer realm="federated gateway", error="invalid_token"`, res.Header.Get("WWW-Authenticate"), name)
		require.NotContains(t, f.log.String(), token[:min(len(token), 40)], name)
	}

	for name, header := range map[string][]string{
		"none":                  {"X: y"},
		"empty":                 {"Authorization: "},
		"bearer of nothing":     {"Authorization: Bearer"},
		"bearer of a space":     {"Authorization: Bearer "},
		"Basic":                 {"Authorization: " + password.Header()},
		"a token by Basic":      {"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("oauth2:"+good))},
		"without a scheme":      {"Authorization: " + good},
		"DPoP":                  {"Authorization: DPoP " + good},
		"two tokens":            {"Authorization: Bearer " + good, "Authorization: Bearer " + good},
		"two, cases":            {"Authorization: Bearer " + good, "AUTHORIZATION: Bearer " + good},
		"the password beside":   {"Authorization: Bearer " + good, "authorization: " + password.Header()},
		"proxy's":               {"Proxy-Authorization: Bearer " + good},
		"a cookie":              {"Cookie: access_token=" + good + "; Authorization=Bearer " + good},
		"another header":        {"X-Forwarded-Access-Token: " + good, "X-Authorization: Bearer " + good},
		"a WebSocket's way":     {"Sec-WebSocket-Protocol: bearer, " + good},
		"X-Original-Url":        {"X-Original-Url: /healthz"},
		"a method in a header":  {"X-HTTP-Method-Override: GET"},
		"scheme by a tab":       {"Authorization: Bearer\t" + good},
		"two spaces":            {"Authorization: Bearer  " + good},
		"listed in Connection":  {"Connection: Authorization"},
		"a colon in the scheme": {"Authorization: Bearer: " + good},
	} {
		res, body := f.send(t, "GET /system/info", header...)
		require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s: %s", name, body)
		require.Contains(t, res.Header.Get("WWW-Authenticate"), `Bearer realm="federated gateway"`, name)
		require.NotContains(t, res.Header.Values("WWW-Authenticate"), "Basic", name)
	}
	res, _ := f.send(t, "GET /system/info?access_token="+good)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "RFC 6750 §2.3 is not for us")
	require.Equal(t, passed, f.local.count(), "none of it has touched the local gateway")
	require.NotContains(t, f.log.String(), parts[2])
	require.NotContains(t, f.log.String(), password.Password())
	require.NotContains(t, f.log.String(), strings.TrimPrefix(password.Header(), "Basic "))
}

// TestWithoutKeys starts before its issuer does.
func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	p.down.Store(true)
	f := newFed(t, nil, func(c *Config) {
		keys, err := jwks.NewRemote(jwks.Config{Authority: p.issuer, Issuer: p.issuer})
		require.NoError(t, err)
		c.Keys = keys
	})
	status := func(target string, header ...string) int {
		res, _ := f.send(t, "GET "+target, header...)
		if res.StatusCode == http.StatusServiceUnavailable && target != "/healthz" {
			require.Equal(t, "1", res.Header.Get("Retry-After"))
			require.Empty(t, res.Header.Get("WWW-Authenticate"), "the token may be good")
		}
		return res.StatusCode
	}
	bearer := "Authorization: Bearer " + p.token(t, nil, nil)
	require.Equal(t, http.StatusServiceUnavailable, status("/healthz"))
	require.Equal(t, http.StatusServiceUnavailable, status("/system/info", bearer))
	require.Equal(t, http.StatusUnauthorized, status("/system/info"), "no token is needed to say that there is none")
	require.Equal(t, http.StatusNotFound, status("/function/echo", bearer))
	require.Zero(t, f.local.conns.Load())

	p.down.Store(false)
	go f.config.Keys.Run(t.Context())
	require.Eventually(t, func() bool { return status("/healthz") == http.StatusOK }, patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, status("/system/info", bearer))
	p.down.Store(true)
	require.Equal(t, http.StatusOK, status("/system/info", bearer), "the keys are kept")
}

// TestRotation: a key that is new is fetched when a token names it.
func TestRotation(t *testing.T) {
	t.Parallel()
	f := newFed(t, nil, nil)
	res, _ := f.send(t, "GET /system/info", f.bearer(t))
	require.Equal(t, http.StatusOK, res.StatusCode)
	before := f.bearer(t)
	f.idp.key, f.idp.kid = newIDP(t).key, "2"
	res, _ = f.send(t, "GET /system/info", f.bearer(t))
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, _ = f.send(t, "GET /system/info", before)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "its key has been taken back")
}

// TestPanic: the value of a panic may hold what the client sent.
func TestPanic(t *testing.T) {
	t.Parallel()
	f := newFed(t, nil, func(c *Config) {
		c.Credentials = func() basicauth.Credentials { panic("the secret") }
	})
	res, body := f.send(t, "GET /system/info", f.bearer(t))
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	require.Equal(t, "internal error\n", body)
	require.Contains(t, f.log.String(), "panic while serving GET: string")
	require.NotContains(t, f.log.String(), "the secret")
}
