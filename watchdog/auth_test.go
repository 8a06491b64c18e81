package watchdog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/config"
)

// issuer is a gateway, as far as a watchdog sees it.
type issuer struct {
	*httptest.Server
	key  *ecdsa.PrivateKey
	down atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	i := &issuer{key: key}
	point, err := key.PublicKey.ECDH()
	require.NoError(t, err)
	xy := point.Bytes()[1:]
	b64 := base64.RawURLEncoding.EncodeToString
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case i.down.Load():
			http.Error(w, "down", 500)
		case r.URL.Path == "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]any{"issuer": "http://" + r.Host, "jwks_uri": "http://" + r.Host + "/keys"})
		default:
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
				"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": b64(xy[:32]), "y": b64(xy[32:])}}})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, permission string, expires time.Duration) string {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": i.URL, "aud": i.URL, "sub": "fed:alice",
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(expires).Unix(),
		"function": map[string]any{"permissions": []string{permission}},
	})
	token.Header["kid"] = "k1"
	s, err := token.SignedString(i.key)
	require.NoError(t, err)
	return s
}

func TestFunctionTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_debug=true", "jwt_auth_authority="+i.URL,
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", "max_inflight=1")
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	good, expired := i.token(t, "dev:env", time.Hour), i.token(t, "dev:env", -time.Minute)
	other := i.token(t, "dev:e", time.Hour) // matches a part of the name only
	forged := good[:strings.LastIndex(good, ".")] + "." + strings.Split(other, ".")[2]

	const noBearer = "Bearer must be present in Authorization header\n"
	for _, c := range []struct {
		name    string
		target  string
		headers []string
		status  int
		body    string
	}{
		{"good", "/", []string{"Authorization: Bearer " + good}, 200, ""},
		{"any case of the header's name", "/", []string{"aUTHORIZATION: Bearer " + good}, 200, ""},
		{"none", "/", nil, 401, noBearer},
		{"basic", "/", []string{"Authorization: Basic eA=="}, 401, noBearer},
		{"expired", "/", []string{"Authorization: Bearer " + expired}, 401, "failed to parse JWT token: "},
		{"forged", "/", []string{"Authorization: Bearer " + forged}, 401, "failed to parse JWT token: "},
		{"nonsense", "/", []string{"Authorization: Bearer nonsense"}, 401, "failed to parse JWT token: "},
		{"two headers", "/", []string{"Authorization: Bearer " + good, "authorization: Bearer " + other}, 401, "failed to parse JWT token: "},
		{"another function's", "/", []string{"Authorization: Bearer " + other}, 403, "insufficient permissions\n"},
		{"in the query", "/?access_token=" + good, nil, 401, noBearer},
		{"health", "/_/health", nil, 200, "OK"},
		{"health with a query", "/_/health?x", nil, 200, "OK"},
		{"ready", "/_/ready", nil, 200, ""},
		{"health/", "/_/health/", nil, 401, noBearer},
		{"escaped", "/%5f/health", nil, 401, noBearer},
		{"doubled", "//_/health", nil, 401, noBearer},
		{"dotted", "/x/../_/health", nil, 401, noBearer},
		{"other case", "/_/Health", nil, 401, noBearer},
	} {
		r := p.get(c.target, c.headers...)
		require.Equal(t, c.status, r.status, c.name)
		require.True(t, strings.HasPrefix(r.body, c.body), "%s: %q", c.name, r.body)
		switch c.status {
		case 401:
			require.Equal(t, "Bearer realm=IAM function invoke", r.header.Get("WWW-Authenticate"), c.name)
			require.Equal(t, "faas-middleware", r.header.Get("X-Openfaas-Internal"), c.name)
		case 403:
			require.Equal(t, "faas-middleware", r.header.Get("X-Openfaas-Internal"), c.name)
			require.NotContains(t, r.header, "Www-Authenticate")
		}
		for _, secret := range []string{good, expired, other, "nonsense"} {
			require.NotContains(t, r.body, secret, c.name)
		}
	}
	require.Contains(t, p.raw("GET http://h/_/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "401 Unauthorized")

	// A large upload without a token is told so, and does not see a reset.
	res, err := client.Do(p.request("POST", "/", strings.NewReader(strings.Repeat("x", 8<<20))))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, 401, res.StatusCode)

	i.down.Store(true) // the last good keys go on
	require.Equal(t, 200, p.get("/", "Authorization: Bearer "+good).status)
	for _, token := range []string{good, expired, other, forged} {
		for _, part := range strings.Split(token, ".") {
			require.NotContains(t, p.stderr.String(), part)
		}
	}
}

// Who has no token does not use up max_inflight.
func TestAuthComesBeforeTheLimit(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := start(t, "fprocess=sleep 300", "exec_timeout=1m", "max_inflight=1", "jwt_auth=1",
		"jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	go client.Do(p.request("GET", "/", nil, "Authorization: Bearer "+i.token(t, "*", time.Hour)))
	p.eventually(func() bool { return p.get("/_/ready").status == 429 }, "the slot's use")
	require.Equal(t, 401, p.get("/").status)
	require.Equal(t, 429, p.get("/", "Authorization: Bearer "+i.token(t, "*", time.Hour)).status)
}

func TestNoKeysYet(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.down.Store(true)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL+"/.well-known/openid-configuration",
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
	bearer := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour)
	require.Equal(t, 200, p.get("/_/health").status)
	require.Equal(t, 503, p.get("/_/ready").status)
	r := p.get("/", bearer)
	require.Equal(t, 503, r.status)
	require.Equal(t, "1", r.header.Get("Retry-After"))
	require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
	i.down.Store(false)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys after the outage")
	require.Equal(t, 200, p.get("/", bearer).status)
}

func TestNamespaceOfTheServiceAccount(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "namespace")
	settings, err := config.ParseWatchdog([]string{"fprocess=cat", "jwt_auth=1", "OPENFAAS_NAME=env"})
	require.NoError(t, err)
	c := Config{Settings: settings, Stdout: os.Stdout, Stderr: os.Stderr, NamespaceFile: file}
	_, err = New(c)
	require.ErrorContains(t, err, "OPENFAAS_NAMESPACE is not set")
	require.NoError(t, os.WriteFile(file, []byte(" \n"), 0o600))
	_, err = New(c)
	require.ErrorContains(t, err, "is empty")
	require.NoError(t, os.WriteFile(file, []byte("dev\n"), 0o600))
	_, err = New(c)
	require.NoError(t, err)
}

// A header that cannot be read may hold a token all the same.
func TestUnreadableHeadersAreNotLogged(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat")
	for _, header := range []string{
		"Authorization Bearer geheim", "Authorization\x00: Bearer geheim", "Authorization: Bearer geheim\x00", "Authorizatiön: Bearer geheim",
		"A: b\r\n Bearer geheim\x00", "Bearer geheim : x", "Transfer-Encoding: geheim", "Content-Length: geheim", ": geheim",
	} {
		got := p.raw("GET / HTTP/1.1\r\nHost: x\r\n" + header + "\r\n\r\n")
		require.Contains(t, got, "HTTP/1.1 400 ", header)
		require.NotContains(t, got, "geheim", header)
	}
	p.raw("GET /\x00geheim HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	p.halfClosed("geheim")
	p.logged(`malformed mime header: missing colon: \[hidden\]`)
	require.NotContains(t, p.stderr.String(), "geheim")

	p = start(t, httpEnv(t, 0)...)
	require.Contains(t, p.raw("GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer geheim: x\r\n\r\n"), "HTTP/1.1 400 ")
	p.logged(`a header name has a space behind "Authorization"`)
	for _, trailer := range []string{"Authorization Bearer geheim", "Authorization: Bearer geheim", "X: geheim\x00"} {
		require.NotContains(t, p.raw("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"+trailer+"\r\n\r\n"), "geheim")
	}
	p.logged(`missing colon: \[hidden\]`)
	require.NotContains(t, p.stderr.String(), "geheim")
}
