package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func basicAuth(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// claimsOf verifies a token of the gateway's with golang-jwt and the key set
// the gateway publishes, and returns its claims.
func claimsOf(t *testing.T, gatewayURL, token string) jwt.MapClaims {
	t.Helper()
	var discovery struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	require.NoError(t, json.Unmarshal([]byte(get(t, gatewayURL+"/.well-known/openid-configuration").body), &discovery))
	require.Equal(t, gatewayURL, discovery.Issuer)
	var set struct {
		Keys []struct{ Kid, Kty, Crv, X, Y, Alg, Use, D string }
	}
	require.NoError(t, json.Unmarshal([]byte(get(t, discovery.JWKSURI).body), &set))
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(tok *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			require.Empty(t, k.D, "a private key is published")
			if k.Kid != tok.Header["kid"] {
				continue
			}
			x, _ := base64.RawURLEncoding.DecodeString(k.X)
			y, _ := base64.RawURLEncoding.DecodeString(k.Y)
			return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		}
		return nil, fmt.Errorf("no key %v", tok.Header["kid"])
	}, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(discovery.Issuer), jwt.WithAudience(discovery.Issuer),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	require.NoError(t, err)
	return claims
}

// TestFunctionAuthentication is the contract's table for calls of a function
// with jwt_auth: status, headers and body, byte for byte.
func TestFunctionAuthentication(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	good := g.functionToken(t)
	id := g.idToken(t, "--sub", "alice")
	_, api := g.exchange(t, id)
	signature := strings.LastIndex(good, ".")
	flipped := good[:signature+1] + flip(good[signature+1:])

	const noBearer = "Bearer must be present in Authorization header\n"
	cases := []struct {
		name          string
		authorization []string
		status        int
		body          string // "" = begins with "failed to parse JWT token: " when 401
	}{
		{"no header", nil, 401, noBearer},
		{"basic auth", []string{basicAuth("admin", "x")}, 401, noBearer},
		{"good", []string{"Authorization: Bearer " + good}, 200, "Hello! You sent GET /x\n"},
		{"lower case scheme and header name", []string{"authorization: bearer " + good}, 200, "Hello! You sent GET /x\n"},
		{"good for hello alone", []string{"Authorization: Bearer " + g.functionToken(t, "openfaas-fn:hello")}, 200, "Hello! You sent GET /x\n"},
		{"for another function", []string{"Authorization: Bearer " + g.functionToken(t, "openfaas-fn:upper")}, 403, "insufficient permissions\n"},
		{"two headers", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, 401, ""},
		{"garbage", []string{"Authorization: Bearer garbage"}, 401, ""},
		{"trailing bytes", []string{"Authorization: Bearer " + good + " x"}, 401, ""},
		{"bad signature", []string{"Authorization: Bearer " + flipped}, 401, ""},
		{"ID token", []string{"Authorization: Bearer " + id}, 401, ""},
		{"API token", []string{"Authorization: Bearer " + api["access_token"].(string)}, 401, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := get(t, g.url+"/function/hello/x", c.authorization...)
			require.Equal(t, c.status, a.status, a.body)
			switch {
			case c.body != "":
				require.Equal(t, c.body, a.body)
			default:
				require.Regexp(t, `^failed to parse JWT token: [^\n]+\n$`, a.body)
			}
			for _, h := range c.authorization {
				if secret := strings.TrimPrefix(h, "Authorization: Bearer "); len(secret) > 20 {
					require.NotContains(t, a.body, secret[len(secret)-20:])
				}
			}
			wantChallenge, wantInternal := "", ""
			if c.status != 200 {
				wantInternal = "faas-middleware"
			}
			if c.status == 401 {
				wantChallenge = "Bearer realm=IAM function invoke"
			}
			require.Equal(t, wantChallenge, a.header.Get("WWW-Authenticate"))
			require.Equal(t, wantInternal, a.header.Get("X-OpenFaaS-Internal"))
			require.NotEmpty(t, a.header.Get("X-Call-Id"))
		})
	}

	t.Run("a token in the query opens nothing", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, 401, get(t, g.url+"/function/hello/x?access_token="+good).status)
	})
	t.Run("a function token opens no administration", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/system/functions", "/system/info", "/system/function/hello", "/system/nonsense"} {
			require.Equal(t, 401, get(t, g.url+path, "Authorization: Bearer "+good).status, path)
		}
	})
	t.Run("paths around the watchdog's own do not get in", func(t *testing.T) {
		t.Parallel()
		for _, path := range []string{"/_/health/", "/_/health/../x", "//_/ready", "/%5f/health", "/_/READY", "/_/metrics", "/_/"} {
			require.Equal(t, 401, rawGet(t, g.url, "/function/hello"+path), path)
		}
	})
}

// flip changes the first character of a base64url text.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// rawGet sends a request target as it is and returns the status.
func rawGet(t *testing.T, base, target string) int {
	t.Helper()
	u, err := url.Parse(base)
	require.NoError(t, err)
	req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: u.Host, Opaque: target}, Host: u.Host, Header: http.Header{}}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	res.Body.Close()
	return res.StatusCode
}

// TestTokens checks what is in the tokens that the exchange issues.
func TestTokens(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	id := g.idToken(t, "--sub", "bob", "--claim", "groups=dev", "--claim", "groups=ops", "--claim", "email=bob@example.com")

	a, reply := g.exchange(t, id)
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(t, "Bearer", reply["token_type"])
	require.Equal(t, idTokenType, reply["issued_token_type"])
	require.EqualValues(t, 1800, reply["expires_in"])
	require.NotContains(t, reply, "scope")
	api := claimsOf(t, g.url, reply["access_token"].(string))
	require.Equal(t, "fed:bob", api["sub"])
	require.Equal(t, g.url+"/dev-idp", api["fed:iss"])
	require.Equal(t, []any{"invoke"}, api["policy"])
	require.Equal(t, "bob@example.com", api["email"])
	require.Equal(t, g.url, api["aud"])
	require.NotContains(t, api, "function")

	a, reply = g.exchange(t, id, "scope", "function", "audience", "openfaas-fn:hello")
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, "function", reply["scope"])
	function := claimsOf(t, g.url, reply["access_token"].(string))
	require.Equal(t, map[string]any{"permissions": []any{"openfaas-fn:*"}, "audience": []any{"openfaas-fn:hello"}}, function["function"])
	for name := range function {
		require.Contains(t, []string{"iss", "aud", "sub", "fed:iss", "iat", "nbf", "exp", "jti", "function"}, name)
	}

	// An API token is exchanged for a function token too.
	_, first := g.exchange(t, id)
	a, reply = g.exchange(t, first["access_token"].(string), "scope", "function")
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, 200, get(t, g.url+"/function/hello", "Authorization: Bearer "+reply["access_token"].(string)).status)

	// Parameters in the query are as good, as the documents show it.
	query := url.Values{"grant_type": {tokenExchange}, "subject_token_type": {idTokenType}, "subject_token": {id}}
	require.Equal(t, 200, do(t, http.MethodPost, g.url+"/oauth/token?"+query.Encode(), "").status)
}

// TestExchangeErrors checks the RFC's error codes and that a person can act on
// what is said.
func TestExchangeErrors(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	alice := g.idToken(t, "--sub", "alice")
	foreign := foreignToken(t, "http://127.0.0.1:9/elsewhere")
	cases := []struct {
		name       string
		token      string
		parameters []string
		code, says string
	}{
		{"no policies", g.idToken(t, "--sub", "mallory"), nil, "invalid_request", "No policies found for subject: mallory"},
		{"expired", g.idToken(t, "--sub", "alice", "--lifetime", "-1h"), nil, "invalid_request", "expired"},
		{"foreign issuer", foreign, nil, "invalid_request", "127.0.0.1:9/elsewhere"},
		{"our issuer, another's key", foreignToken(t, g.url+"/dev-idp"), nil, "invalid_request", "key"},
		{"garbage", "garbage", nil, "invalid_request", "subject_token"},
		{"scope", alice, []string{"scope", "everything"}, "invalid_scope", "function"},
		{"audience without scope", alice, []string{"audience", "openfaas-fn:hello"}, "invalid_request", "scope"},
		{"audience outside of the permissions", alice, []string{"scope", "function", "audience", "dev:env"}, "invalid_target", "dev:env"},
		{"audience that is no pattern", alice, []string{"scope", "function", "audience", "hello"}, "invalid_target", "hello"},
		{"grant type twice", alice, []string{"grant_type", tokenExchange}, "invalid_request", "grant_type"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, body := g.exchange(t, c.token, c.parameters...)
			require.Equal(t, 400, a.status)
			require.Equal(t, "application/json", a.header.Get("Content-Type"))
			require.Equal(t, c.code, body["error"], a.body)
			require.Contains(t, body["error_description"], c.says)
			require.NotContains(t, a.body, "eyJ")
		})
	}
	t.Run("grant type", func(t *testing.T) {
		t.Parallel()
		a := do(t, http.MethodPost, g.url+"/oauth/token", "grant_type=password", "Content-Type: application/x-www-form-urlencoded")
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, `"unsupported_grant_type"`)
	})
	t.Run("body too large", func(t *testing.T) {
		t.Parallel()
		a := do(t, http.MethodPost, g.url+"/oauth/token", "x="+strings.Repeat("a", 1<<20), "Content-Type: application/x-www-form-urlencoded")
		require.Equal(t, 400, a.status)
		require.Contains(t, a.body, `"invalid_request"`)
	})
	t.Run("method", func(t *testing.T) {
		t.Parallel()
		a := get(t, g.url+"/oauth/token")
		require.Equal(t, 405, a.status)
		require.Equal(t, "POST", a.header.Get("Allow"))
	})
}

// foreignToken is signed by a key the gateway does not know.
func foreignToken(t *testing.T, issuer string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": issuer, "aud": "gatehound", "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	token.Header["kid"] = "foreign"
	signed, err := token.SignedString(key)
	require.NoError(t, err)
	return signed
}

// TestFunctionTokenExpires waits until a function token is refused, although
// its verdict is cached, and takes a policy away while the gateway runs.
func TestFunctionTokenExpires(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	iam := filepath.Join(g.dir, ".gatehound", "iam")
	id := g.idToken(t, "--sub", "alice")

	trust, err := os.ReadFile(filepath.Join(iam, "dev-idp.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(iam, "dev-idp.yaml"), []byte(strings.Replace(string(trust), "30m", "2s", 1)), 0o600))
	var token string
	eventually(t, func() bool {
		a, reply := g.exchange(t, id, "scope", "function")
		require.Equal(t, 200, a.status, a.body)
		token = reply["access_token"].(string)
		return reply["expires_in"] == 2.0
	}, "the new tokenExpiry is not used")
	require.Equal(t, 200, get(t, g.url+"/function/hello", "Authorization: Bearer "+token).status)
	var refused answer
	eventually(t, func() bool {
		refused = get(t, g.url+"/function/hello", "Authorization: Bearer "+token)
		return refused.status != 200
	}, "the token never expires")
	require.Equal(t, 401, refused.status)
	require.Contains(t, refused.body, "expired")

	require.NoError(t, os.Remove(filepath.Join(iam, "sample.yaml")))
	eventually(t, func() bool {
		a, _ := g.exchange(t, id)
		return a.status == 400 && strings.Contains(a.body, "No policies found for subject: alice")
	}, "the removed policy still counts")
}

// TestLogsHoldNoToken sends tokens wherever a client may, with every log on and
// in JSON, of which each line has to be an object.
func TestLogsHoldNoToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(`
functions:
  hello: {fprocess: hello, environment: {mode: http, jwt_auth: true, jwt_auth_debug: true}}
`), 0o600))
	g := startUp(t, dir, []string{"debug=true", "log_encoding=json"}, "-f", "stack.yml")
	id := g.idToken(t, "--sub", "alice")
	stranger := g.idToken(t, "--sub", "mallory")
	good := g.functionToken(t)
	narrow := g.functionToken(t, "openfaas-fn:other")
	for _, token := range []string{id, stranger} {
		query := url.Values{"grant_type": {tokenExchange}, "subject_token_type": {idTokenType}, "subject_token": {token}}
		do(t, http.MethodPost, g.url+"/oauth/token?"+query.Encode(), "")
		g.exchange(t, token, "scope", "function", "audience", token)
		g.exchange(t, token, "subject_token_type", token)
		g.exchange(t, token+"x")
	}
	for _, token := range []string{id, good, narrow, good + "x"} {
		get(t, g.url+"/function/hello?access_token="+token, "Authorization: Bearer "+token)
		get(t, g.url+"/system/functions?token="+token, "Authorization: Bearer "+token)
	}
	g.cmd.Process.Signal(os.Interrupt)
	require.Zero(t, g.wait(t))

	log := g.stderr.String()
	for _, line := range lines(log) {
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &object), line)
		require.NotEmpty(t, object["level"], line)
	}
	require.Contains(t, log, "/function/hello")
	require.Contains(t, log, "No policies found for subject: mallory")
	for _, token := range []string{id, stranger, good, narrow} {
		for _, part := range strings.Split(token, ".")[1:] { // the headers are all the same
			require.NotContains(t, log, part)
		}
	}
}

// TestFaultyObjects: each is named with its file and line, in the log and by
// `gateway iam check`, and the others count.
func TestFaultyObjects(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	iam := filepath.Join(".gatehound", "iam")
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, iam, "faulty.yaml"), []byte(`
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: deny}
spec: {statement: [{effect: Deny, action: ["Function:Invoke"], resource: ["*"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: unknown-action}
spec: {statement: [{effect: Allow, action: ["Function:Call"], resource: ["*"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: carol}
spec: {policy: [missing, invoke], principal: {"jwt:sub": [carol]}}
`), 0o600))
	said := []string{
		iam + `/faulty.yaml:2: (error: )?Policy "deny": .*effect is "Deny"`,
		iam + `/faulty.yaml:7: (warning: )?Policy "unknown-action": .*the unknown action "Function:Call"`,
		iam + `/faulty.yaml:12: (warning: )?Role "carol": spec.policy names "missing"`,
	}
	check := exec.Command(binary("gateway"), "iam", "check", iam)
	check.Dir = g.dir
	check.Env = []string{"GORACE=atexit_sleep_ms=0"}
	printed, err := check.Output()
	require.Error(t, err)
	require.Equal(t, 1, check.ProcessState.ExitCode())
	for _, problem := range said {
		g.stderr.find(t, g.program, problem)
		require.Regexp(t, `(?m)^`+problem, string(printed))
	}
	for _, sub := range []string{"alice", "carol"} {
		a, _ := g.exchange(t, g.idToken(t, "--sub", sub), "scope", "function")
		require.Equal(t, 200, a.status, a.body)
	}
}

// TestStandaloneWatchdog runs fwatchdog as an image would: with the gateway as
// its authority, with the gateway's keys in a file, and with a gateway that comes
// later.
func TestStandaloneWatchdog(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	w := start(t, t.TempDir(), []string{
		"fprocess=cat", "listen=127.0.0.1:0", "metrics_port=0", "suppress_lock=true", "healthcheck_interval=0s",
		"jwt_auth=true", "jwt_auth_authority=" + g.url, "OPENFAAS_NAME=echo", "OPENFAAS_NAMESPACE=openfaas-fn",
	}, "fwatchdog")
	at := "http://" + w.stderr.find(t, w, `Serving mode \w+ on (127\.0\.0\.1:\d+)`)[1]
	eventually(t, func() bool { return get(t, at+"/_/ready").status == 200 }, "never ready")
	token := g.functionToken(t)
	require.Equal(t, "ping", do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+token).body)
	require.Equal(t, 401, do(t, http.MethodPost, at, "ping").status)
	require.Equal(t, 403, do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+g.functionToken(t, "openfaas-fn:hello")).status)

	// Without a network, the keys are a file.
	keys := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(keys, []byte(get(t, g.url+"/.well-known/jwks.json").body), 0o600))
	offline := start(t, t.TempDir(), []string{
		"fprocess=cat", "listen=127.0.0.1:0", "metrics_port=0", "suppress_lock=true", "healthcheck_interval=0s",
		"jwt_auth=true", "jwt_auth_jwks_file=" + keys, "jwt_auth_issuer=" + g.url, "OPENFAAS_NAME=echo", "OPENFAAS_NAMESPACE=openfaas-fn",
	}, "fwatchdog")
	at = "http://" + offline.stderr.find(t, offline, `Serving mode \w+ on (127\.0\.0\.1:\d+)`)[1]
	eventually(t, func() bool { return get(t, at+"/_/ready").status == 200 }, "never ready")
	require.Equal(t, "ping", do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+token).body)
	require.Equal(t, 401, do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+foreignToken(t, g.url)).status)

	// With nobody to ask for keys it starts, fails closed, and opens as soon as
	// somebody is there.
	var back atomic.Bool
	discovery := get(t, g.url+"/.well-known/openid-configuration").body
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !back.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, discovery)
	}))
	defer away.Close()
	alone := start(t, t.TempDir(), []string{
		"fprocess=cat", "listen=127.0.0.1:0", "metrics_port=0", "suppress_lock=true", "healthcheck_interval=0s",
		"jwt_auth=true", "jwt_auth_authority=" + away.URL, "OPENFAAS_NAME=echo", "OPENFAAS_NAMESPACE=openfaas-fn",
	}, "fwatchdog")
	at = "http://" + alone.stderr.find(t, alone, `Serving mode \w+ on (127\.0\.0\.1:\d+)`)[1]
	require.Equal(t, 503, get(t, at+"/_/ready").status)
	a := do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+token)
	require.Equal(t, 503, a.status, a.body)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, "of-watchdog", a.header.Get("X-OpenFaaS-Internal"))
	back.Store(true)
	returned := time.Now()
	eventually(t, func() bool { return get(t, at+"/_/ready").status == 200 }, "never ready after the gateway's return")
	require.Less(t, time.Since(returned), 3*time.Second) // one is the promise, the rest for a busy machine
	require.Equal(t, "ping", do(t, http.MethodPost, at, "ping", "Authorization: Bearer "+token).body)
}
