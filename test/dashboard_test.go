package test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// browser is somebody's: it keeps cookies and follows redirects.
type browser struct {
	http.Client
	url string
}

func newBrowser(t *testing.T, gatewayURL string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := &browser{http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{}}, gatewayURL}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

func (b *browser) do(t *testing.T, r *http.Request) (answer, string) {
	t.Helper()
	res, err := b.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(body)}, res.Request.URL.Path
}

// open returns a page, and the path at which it was in the end.
func (b *browser) open(t *testing.T, path string) (answer, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.url+path, nil)
	require.NoError(t, err)
	return b.do(t, r)
}

// send sends a form as the page of the same path has it.
func (b *browser) send(t *testing.T, path string, form url.Values) (answer, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.url)
	return b.do(t, r)
}

func (b *browser) csrf(t *testing.T) string {
	t.Helper()
	page, _ := b.open(t, "/ui/me")
	found := regexp.MustCompile(`name="_csrf" value="([^"]+)"`).FindStringSubmatch(page.body)
	require.NotNil(t, found, page.body)
	return found[1]
}

func (g *gatewayUp) password(t *testing.T) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(g.dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	return strings.TrimSpace(string(password))
}

// TestDashboardByPassword goes from / to a function's page, and out again.
func TestDashboardByPassword(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	b := newBrowser(t, g.url)
	login, at := b.open(t, "/")
	require.Equal(t, "/ui/login", at)
	require.Contains(t, login.header.Get("Content-Security-Policy"), "default-src 'none'")

	list, at := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {g.password(t)}})
	require.Equal(t, "/ui/", at)
	require.Equal(t, 200, list.status)
	require.Equal(t, 2, strings.Count(list.body, "needs a token"))
	hello, _ := b.open(t, "/ui/functions/openfaas-fn/hello")
	require.Contains(t, hello.body, "gatehound/hello")
	missing, _ := b.open(t, "/ui/functions/openfaas-fn/nope")
	require.Equal(t, 404, missing.status)

	// The function env shows what it gets: no cookie of ours, even if the browser
	// would send it.
	u, err := url.Parse(g.url + "/ui/")
	require.NoError(t, err)
	cookies := b.Jar.Cookies(u)
	require.Len(t, cookies, 1)
	env := get(t, g.url+"/function/env", "Cookie: a=b; "+cookies[0].String())
	require.Contains(t, env.body, "Http_Cookie=a=b\n")
	require.NotContains(t, env.body, cookies[0].Value)
	require.Empty(t, env.header.Get("Content-Security-Policy"), "plain text is no page")

	b.send(t, "/ui/logout", nil) // without the form's token
	_, at = b.open(t, "/ui/me")
	require.Equal(t, "/ui/me", at, "still logged in")
	other := newBrowser(t, g.url)
	other.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {g.password(t)}})
	_, at = other.send(t, "/ui/logout/everywhere", url.Values{"_csrf": {other.csrf(t)}})
	require.Equal(t, "/ui/login", at)
	_, at = b.open(t, "/ui/me")
	require.Equal(t, "/ui/login", at)
	require.NotContains(t, g.stderr.String(), g.password(t))

	off := startUp(t, "", []string{"dashboard=false"})
	require.Equal(t, 404, get(t, off.url+"/").status)
	require.Equal(t, 404, get(t, off.url+"/ui/").status)
}

// openID is an OpenID provider that takes everybody for carol.
type openID struct {
	*httptest.Server
	key    *rsa.PrivateKey
	mu     sync.Mutex
	nonces map[string]string // by code
}

func newOpenID(t *testing.T) *openID {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p := &openID{key: key, nonces: map[string]string{}}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"authorization_endpoint":%q,"token_endpoint":%q}`, p.URL, p.URL+"/keys", p.URL+"/authorize", p.URL+"/token")
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		b64 := base64.RawURLEncoding
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"1","n":%q,"e":%q}]}`, b64.EncodeToString(key.N.Bytes()), b64.EncodeToString(big.NewInt(int64(key.E)).Bytes()))
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		code := rand.Text()
		p.mu.Lock()
		p.nonces[code] = q.Get("nonce")
		p.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		nonce, known := p.nonces[r.FormValue("code")]
		delete(p.nonces, r.FormValue("code"))
		p.mu.Unlock()
		client, secret, _ := r.BasicAuth()
		if !known || client != "dashboard" || secret != "s3cret" || r.FormValue("code_verifier") == "" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": p.URL, "aud": "dashboard", "sub": "carol", "nonce": nonce, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		})
		token.Header["kid"] = "1"
		signed, err := token.SignedString(key)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": signed, "expires_in": 3600})
	})
	return p
}

const carolMayLook = `apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: people, namespace: openfaas}
spec: {iss: "%s", aud: [dashboard], tokenExpiry: 30m}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: look, namespace: openfaas}
spec:
  statement:
  - {sid: 1-look, effect: Allow, action: ["Function:List", "Function:Get"], resource: ["openfaas-fn:e*"]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: lookers, namespace: openfaas}
spec:
  policy: [look]
  condition: {StringEqual: {"jwt:iss": ["%s"], "jwt:sub": ["%s"]}}
`

// TestDashboardAtProvider: first nobody knows carol, then she may look, and what
// she does is audited as hers.
func TestDashboardAtProvider(t *testing.T) {
	t.Parallel()
	idp := newOpenID(t)
	dir := t.TempDir()
	file := filepath.Join(dir, ".gatehound/iam/people.yaml")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	grant := func(subject string) {
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, carolMayLook, idp.URL, idp.URL, subject), 0o600))
	}
	grant("somebody")
	secret, events := filepath.Join(dir, "secret"), filepath.Join(dir, "events.jsonl")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret\n"), 0o600))
	g := startUp(t, dir, []string{"primary_issuer=" + idp.URL, "oauth_client_id=dashboard", "oauth_client_secret_file=" + secret,
		"auditing=true", "auditing_http_verbs=GET", "events_file=" + events})
	b := newBrowser(t, g.url)

	stranger, at := b.open(t, "/ui/login/provider?next=/ui/me")
	require.Equal(t, "/auth/callback", at)
	require.Equal(t, 403, stranger.status, stranger.body)
	for _, want := range []string{"<code>carol</code>", "lookers", "the claim is &#34;carol&#34;"} {
		require.Contains(t, stranger.body, want)
	}
	grant("carol")
	eventually(t, func() bool {
		_, at = b.open(t, "/ui/login/provider?next=/ui/me")
		return at == "/ui/me"
	}, "the role is never in force")
	me, _ := b.open(t, "/ui/me")
	for _, want := range []string{"<code>carol</code>", "<code>look</code>", "<code>lookers</code>", "<code>openfaas-fn:e*</code>"} {
		require.Contains(t, me.body, want)
	}
	list, _ := b.open(t, "/ui/")
	require.Contains(t, list.body, "/ui/functions/openfaas-fn/env")
	require.NotContains(t, list.body, "/ui/functions/openfaas-fn/hello", "only what she may see")
	refused, _ := b.open(t, "/ui/functions/openfaas-fn/hello")
	require.Equal(t, 403, refused.status)
	require.Contains(t, refused.body, "<code>Function:Get</code> on <code>openfaas-fn:hello</code>")

	eventually(t, func() bool {
		recorded, _ := os.ReadFile(events)
		return strings.Contains(string(recorded), `"fed:carol"`) && strings.Contains(string(recorded), "/system/function/hello")
	}, "her requests are not audited as hers")
	for _, text := range []string{g.stderr.String(), me.body, list.body} {
		require.NotContains(t, text, "eyJ", "no token leaves the gateway")
	}
}
