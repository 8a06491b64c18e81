package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain is the program itself where a test starts this binary as one.
func TestMain(m *testing.M) {
	if os.Getenv("PRO_TEST_IS_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// unsigned is a token with these claims, good for who looks at no signature.
func unsigned(claims map[string]any) string {
	text, _ := json.Marshal(claims)
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"ES256"}`)) + "." + enc(text) + "." + enc([]byte("signature"))
}

// tokenUntil is an API token that ends then.
func tokenUntil(end time.Time, name string) string {
	return unsigned(map[string]any{"exp": end.Unix(), "sub": "fed:" + name, "iss": "https://gw", "fed:iss": "https://idp"})
}

// fakeGateway exchanges what it is told to.
type fakeGateway struct {
	*httptest.Server
	mu       sync.Mutex
	exchange func(form url.Values) (status int, answer map[string]any)
	forms    []url.Values
}

func newGateway(t *testing.T, exchange func(form url.Values) (int, map[string]any)) *fakeGateway {
	t.Helper()
	g := &fakeGateway{exchange: exchange}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		g.mu.Lock()
		g.forms = append(g.forms, r.PostForm)
		status, answer := g.exchange(r.PostForm)
		g.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(g.Close)
	return g
}

func gives(token string) func(url.Values) (int, map[string]any) {
	return func(form url.Values) (int, map[string]any) {
		if form.Get("scope") == "function" {
			return 200, map[string]any{"access_token": "function-token-for-" + strings.Join(form["audience"], ","), "token_type": "Bearer"}
		}
		return 200, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600}
	}
}

func refuses(description string) func(url.Values) (int, map[string]any) {
	return func(url.Values) (int, map[string]any) {
		return 400, map[string]any{"error": "invalid_request", "error_description": description}
	}
}

// user is somebody with a folder of their own.
type user struct {
	home string
	env  map[string]string
}

func newUser(t *testing.T) *user {
	t.Helper()
	dir := t.TempDir()
	return &user{dir, map[string]string{"HOME": dir}}
}

func (u *user) run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	code = run(t.Context(), args, program{strings.NewReader(stdin), &out, &said, func(name string) string { return u.env[name] }})
	return code, out.String(), said.String()
}

func (u *user) config(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(u.home, ".openfaas", "config.yml"))
	require.NoError(t, err)
	return string(data)
}

func TestToken(t *testing.T) {
	t.Parallel()
	api := tokenUntil(time.Now().Add(time.Hour), "alice")
	g := newGateway(t, gives(api))
	u := newUser(t)
	id := unsigned(map[string]any{"sub": "alice"})
	code, stdout, stderr := u.run(t, id+"\n", "auth", "-g", g.URL+"/", "--token-file", "-")
	require.Equal(t, 0, code, stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "Logged in as alice: saved the gateway's token for "+g.URL+", good until ")
	require.Contains(t, stderr, "(1h0m0s)")
	require.Equal(t, id, g.forms[0].Get("subject_token"))
	require.Equal(t, fmt.Sprintf("auths:\n  - gateway: %s\n    auth: oauth2\n    token: %s\n", g.URL, api), u.config(t))
	for _, file := range []string{"config.yml", "pro.yml"} {
		info, err := os.Stat(filepath.Join(u.home, ".openfaas", file))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}

	code, stdout, _ = u.run(t, "", "token", "-g", g.URL, "--function", "openfaas-fn:env", "--function", "dev:*")
	require.Equal(t, 0, code)
	require.Equal(t, "function-token-for-openfaas-fn:env,dev:*\n", stdout)
	require.Equal(t, api, g.forms[1].Get("subject_token"))
	_, stdout, _ = u.run(t, "", "token", "-g", g.URL)
	require.Equal(t, api+"\n", stdout)

	u.env["OPENFAAS_URL"] = g.URL
	code, stdout, stderr = u.run(t, "", "auth", "--token", id, "--print-token")
	require.Equal(t, 0, code)
	require.Equal(t, api+"\n", stdout)
	require.Contains(t, stderr, "warning: secrets given as flags can be seen")
	_, stdout, _ = u.run(t, "", "auth", "--token", id, "--pretty")
	require.JSONEq(t, fmt.Sprintf(`{"header":{"alg":"ES256"},"payload":{"exp":%d,"sub":"fed:alice","iss":"https://gw","fed:iss":"https://idp"}}`,
		int64(must(decode(api))["exp"].(float64))), stdout)
	before := u.config(t)
	asked := len(g.forms)
	_, stdout, _ = u.run(t, "", "auth", "--token", id, "--no-exchange", "--print-token")
	require.Equal(t, id+"\n", stdout)
	require.Equal(t, before, u.config(t), "it is looked at only")
	require.Len(t, g.forms, asked)
	code, _, stderr = u.run(t, "", "auth", "--token", id, "--no-exchange")
	require.Equal(t, 0, code)
	require.Contains(t, stderr, "saved the provider's token")
	require.Contains(t, u.config(t), id)
	code, _, stderr = u.run(t, "", "token", "--function", "*")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "it is not exchanged for functions")

	code, _, stderr = u.run(t, "", "logout")
	require.Equal(t, 0, code)
	require.Contains(t, stderr, "Forgot the login at "+g.URL)
	require.Equal(t, "auths: []\n", u.config(t))
	code, _, stderr = u.run(t, "", "token")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "you are not logged in at "+g.URL+": faas-cli pro auth --gateway "+g.URL)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTokenEnded(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(-time.Hour)
	ended := end.Format("2006-01-02 15:04")
	g := newGateway(t, gives(tokenUntil(end, "alice")))
	u := newUser(t)
	u.env["OPENFAAS_URL"] = g.URL
	code, _, _ := u.run(t, unsigned(map[string]any{"sub": "alice"}), "auth", "--token-file", "-")
	require.Equal(t, 0, code)
	code, stdout, stderr := u.run(t, "", "token", "--function", "*")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Equal(t, "pro: the login at "+g.URL+" has ended, at "+ended+" by this computer's clock: faas-cli pro auth --gateway "+g.URL+" --token-file FILE\n", stderr)
}

// TestExplain: each refusal says what was seen, and who can do what about it.
func TestExplain(t *testing.T) {
	t.Parallel()
	token := unsigned(map[string]any{
		"iss": "https://idp.example.com", "sub": "a\u009b31mlice", "aud": []string{"openfaas"}, "groups": []string{"dev"}, "nonce": "hidden",
	})
	for description, want := range map[string][]string{
		"No policies found for subject: alice":                            {`principal: {"jwt:sub": ["a�31mlice"]}`, `condition: {StringEqual: {"jwt:iss": ["https://idp.example.com"]}}`},
		"issuer https://idp.example.com is not a registered JwtIssuer":    {"adds a JwtIssuer with\n  iss: \"https://idp.example.com\"\n  aud: [\"openfaas\"]\n"},
		"subject_token: aud does not name the expected audience":          {`The token is for ["openfaas"]. Have that in the JwtIssuer's spec.aud`},
		"the keys of issuer https://idp.example.com cannot be fetched":    {"The gateway cannot reach the provider"},
		"audience dev:x is not covered by any Function:Invoke permission": {"You may not call these functions"},
		"subject_token: token is expired":                                 {"The clocks of provider and gateway may differ."},
	} {
		g := newGateway(t, refuses(description))
		u := newUser(t)
		code, stdout, stderr := u.run(t, token, "auth", "-g", g.URL, "--token-file", "-")
		require.Equal(t, 1, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "pro: the gateway refuses the token: invalid_request: "+description)
		require.Contains(t, stderr, "It saw\n  aud: [\"openfaas\"]\n  groups: [\"dev\"]\n  iss: \"https://idp.example.com\"\n  sub: \"a�31mlice\"\n")
		for _, w := range want {
			require.Contains(t, stderr, w)
		}
		require.NotContains(t, stderr, token)
		require.NoFileExists(t, filepath.Join(u.home, ".openfaas", "config.yml"))
	}
}

func TestExplainNetwork(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"api","token_type":"Bearer"}`)
	}))
	t.Cleanup(secure.Close)
	ca := filepath.Join(u.home, "ca.crt")
	require.NoError(t, os.WriteFile(ca, pemOf(secure.Certificate().Raw), 0o600))
	plain := newGateway(t, gives("api"))
	_, port, _ := strings.Cut(secure.Listener.Addr().String(), ":")
	for _, tc := range []struct{ gateway, want string }{
		{"http://127.0.0.1:1", "Nobody listens at 127.0.0.1:1: is it running"},
		{secure.URL, "by an authority that is not known here: give that one's certificate by --ca."},
		{strings.Replace(plain.URL, "http:", "https:", 1), "It does not speak TLS: is it http:// in place of https://?"},
		{"http://no-such-name.invalid", "Nobody knows a computer of the name no-such-name.invalid"},
	} {
		code, _, stderr := u.run(t, "", "auth", "-g", tc.gateway, "--token", "t")
		require.Equal(t, 1, code)
		require.Contains(t, stderr, tc.want)
	}
	code, _, stderr := u.run(t, "", "auth", "-g", "https://localhost:"+port, "--token", "t", "--ca", ca)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "Its certificate is for example.com, *.example.com: use one of these names.")
	code, _, stderr = u.run(t, "", "auth", "-g", secure.URL, "--token", "t", "--ca", ca)
	require.Equal(t, 0, code, stderr)
	code, _, stderr = u.run(t, "", "token", "-g", secure.URL, "-f", "*")
	require.Equal(t, 0, code, "it remembers --ca: "+stderr)
	code, _, stderr = u.run(t, "", "auth", "-g", secure.URL, "--token", "t", "--ca", ca+"none")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "--ca: open ")
	code, _, stderr = newUser(t).run(t, "", "auth", "-g", secure.URL, "--token", "t", "--tls-no-verify")
	require.Equal(t, 0, code)
	require.Contains(t, stderr, "warning: certificates are not checked")
}

func TestClocks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(2*time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_request","error_description":"token is expired"}`)
	}))
	t.Cleanup(server.Close)
	_, _, stderr := newUser(t).run(t, unsigned(map[string]any{"sub": "alice"}), "auth", "-g", server.URL, "--token-file", "-")
	require.Regexp(t, `The clock of 127\.0\.0\.1:\d+ is (2h0m0s|1h59m5\ds) ahead of this computer's\.`, stderr)
}

// TestUsage: what is wrong is said, and the exit code is another.
func TestUsage(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	for _, tc := range []struct{ args, want string }{
		{"auth --client-id c", "--authority is missing: the issuer URL of the OpenID provider that http://127.0.0.1:8080 trusts"},
		{"auth --authority https://idp", "--client-id is missing"},
		{"auth --authority idp --client-id c", `--authority is "idp"; want https://host/path`},
		{"auth --authority https://a:b@idp --client-id c", "--authority contains a password"},
		{"auth -g ftp://x --token t", `--gateway is "ftp://x"`},
		{"auth --authority https://idp --client-id c --grant password", `--grant is "password"; want code, implicit-id, client_credentials, device`},
		{"auth --authority https://idp --client-id c --grant implicit", "use code, or implicit-id"},
		{"auth --authority https://idp --client-id c --grant client_credentials", "needs --client-secret-file"},
		{"auth --authority https://idp --client-id c --listen-port 70000", "want 1 to 65535"},
		{"auth --token a --token-file b", "token token-file"},
		{"auth --authority https://idp --auth-url https://idp/auth", "authority auth-url"},
		{"auth --no-such-flag", "unknown flag"},
		{"auth extra", "unknown command"},
		{"nothing", "unknown command"},
		{"token --function env", `--function is "env"; want namespace:name`},
	} {
		code, stdout, stderr := u.run(t, "", strings.Fields(tc.args)...)
		require.Equal(t, 2, code, tc.args)
		require.Contains(t, stderr, tc.want)
		require.Empty(t, stdout)
	}
	code, stdout, _ := u.run(t, "", "completion", "bash")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "complete")
	code, stdout, _ = u.run(t, "", "__complete", "auth", "--grant", "")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "client_credentials\n")
	code, stdout, _ = u.run(t, "", "version")
	require.Equal(t, 0, code)
	require.NotEmpty(t, stdout)
}

func TestWarnOfPlain(t *testing.T) {
	t.Parallel()
	for address, warns := range map[string]bool{
		"http://127.0.0.1:8080": false, "http://localhost": false, "http://[::1]:8080": false, "https://gw.example.com": false, "": false,
		"http://gw.example.com": true, "http://127.evil.example": true, "http://10.0.0.1": true,
	} {
		var said bytes.Buffer
		program{stderr: &said}.warnOfPlain("gateway", address)
		require.Equal(t, warns, said.Len() > 0, address)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	g := newGateway(t, func(url.Values) (int, map[string]any) { cancel(errInterrupted); return 200, nil })
	var said bytes.Buffer
	u := newUser(t)
	code := run(ctx, []string{"auth", "-g", g.URL, "--token", "t"}, program{strings.NewReader(""), &said, &said, func(name string) string { return u.env[name] }})
	require.Equal(t, 1, code)
	require.Contains(t, said.String(), "pro: interrupted\n")
}

func TestInstall(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	code, _, stderr := u.run(t, "", "install")
	require.Equal(t, 0, code, stderr)
	plugin := filepath.Join(u.home, ".openfaas", "plugins", "pro")
	require.Contains(t, stderr, "Installed "+plugin+"\n")
	info, err := os.Stat(filepath.Join(u.home, ".openfaas"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "tokens will be there")
	info, err = os.Stat(plugin)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())
	code, _, stderr = u.run(t, "", "install")
	require.Equal(t, 0, code)
	require.Contains(t, stderr, plugin+" is this program already")
	require.NoError(t, os.WriteFile(plugin, []byte("another"), 0o755))
	code, _, stderr = u.run(t, "", "install")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "is another program; --force replaces it")
	code, _, stderr = u.run(t, "", "install", "--force")
	require.Equal(t, 0, code)
	require.Contains(t, stderr, "Replaced "+plugin)

	// What a link leads to may be others' too.
	shared := filepath.Join(u.home, "shared")
	require.NoError(t, os.WriteFile(shared, []byte("another"), 0o755))
	require.NoError(t, os.Remove(plugin))
	require.NoError(t, os.Symlink(shared, plugin))
	code, _, stderr = u.run(t, "", "install", "--force")
	require.Equal(t, 0, code, stderr)
	data, err := os.ReadFile(shared)
	require.NoError(t, err)
	require.Equal(t, "another", string(data))
	info, err = os.Lstat(plugin)
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
}
