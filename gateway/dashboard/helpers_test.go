package dashboard

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

// functions is a provider with two of them in each of two namespaces.
type functions struct{ provider.Provider }

func (functions) Namespaces(context.Context) ([]string, error) {
	return []string{"dev", "openfaas-fn"}, nil
}

func (functions) List(_ context.Context, namespace string) ([]types.FunctionStatus, error) {
	if namespace == "dev" {
		return nil, nil
	}
	annotations := map[string]string{
		"com.openfaas.git-repo-url": "https://git.example.com/a/b.git", "com.openfaas.git-sha": "abc123",
		"page": "javascript:alert(1)", "shape": `<script>alert(1)</script>`,
	}
	return []types.FunctionStatus{
		{Name: "env", Image: "img/env:1", Replicas: 2, AvailableReplicas: 1, Annotations: &annotations},
		{Name: "secret", Image: "img/secret:1", EnvVars: map[string]string{"jwt_auth": "true"},
			Constraints: []string{"gpu"}, Limits: &types.FunctionResources{Memory: "1Gi", NvidiaGPU: "1"}, ReadOnlyRootFilesystem: true},
	}, nil
}

func (p functions) Status(ctx context.Context, f provider.Function, _ bool) (types.FunctionStatus, error) {
	all, _ := p.List(ctx, f.Namespace)
	for _, s := range all {
		if s.Name == f.Name {
			return s, nil
		}
	}
	return types.FunctionStatus{}, provider.ErrNotFound
}

// site is a gateway with a dashboard, and a provider where alice and others log
// in.
type site struct {
	url       string
	dashboard *Dashboard
	idp       *idp
	objects   atomic.Pointer[iam.Set]
	log       *lockedBuilder
	clock     *clock
	provider  *workshop
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// clock is the dashboard's, which a test may put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func newSite(t *testing.T, change func(*Config)) *site {
	t.Helper()
	s := &site{idp: newIDP(t), log: &lockedBuilder{}, clock: &clock{}, provider: newWorkshop(t)}
	s.grant(t, "alice", "Function:List", "openfaas-fn:*", "Function:Get", "openfaas-fn:env")
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	s.url = "http://" + l.Addr().String()
	key, err := issuer.Generate()
	require.NoError(t, err)
	system, err := issuer.New(s.url, key)
	require.NoError(t, err)
	exchanger, err := exchange.New(exchange.Config{Issuer: system, Objects: s.objects.Load})
	require.NoError(t, err)
	c := Config{
		API:      &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }},
		Password: true, Guesses: basicauth.NewGuesses(nil), DefaultNamespace: "openfaas-fn", Identify: exchanger.Authenticate, Objects: s.objects.Load, Issuer: s.url,
		Provider: &login.Config{Issuer: s.idp.url, ClientID: "dashboard"},
		Now:      s.clock.now, Log: zerolog.New(s.log),
	}
	if change != nil {
		change(&c)
	}
	s.dashboard, err = New(c)
	require.NoError(t, err)
	s.dashboard.beat = 20 * time.Millisecond
	gw := gateway.New(gateway.Config{
		Provider: s.provider, Issuer: system, Exchange: exchanger, Admin: basicauth.New("admin", "pw"), Guesses: c.Guesses, DefaultNamespace: "openfaas-fn",
		Open:      c.Open,
		Dashboard: &gateway.Dashboard{Handler: s.dashboard, MaxForm: s.dashboard.MaxForm, PublicURL: c.PublicURL, CookieMark: CookieMark},
		Log:       zerolog.New(s.log), UpstreamTimeout: 20 * time.Second, DrainTimeout: 20 * time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- gw.Serve(ctx, l) }()
	running, stop := context.WithCancel(context.Background())
	var exchanging sync.WaitGroup
	exchanging.Go(func() { exchanger.Run(running) })
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		stop()
		exchanging.Wait()
	})
	return s
}

// grant makes the IAM objects: the subject's role has a policy of these actions
// and resources.
func (s *site) grant(t *testing.T, subject string, actionsAndResources ...string) {
	t.Helper()
	p := iam.Policy{Metadata: iam.Metadata{Name: "looks"}}
	for i := 0; i < len(actionsAndResources); i += 2 {
		p.Spec.Statement = append(p.Spec.Statement, iam.Statement{
			Effect: "Allow", Action: []string{actionsAndResources[i]}, Resource: []iam.Resource{iam.Resource(actionsAndResources[i+1])},
		})
	}
	set, problems := iam.Compile(iam.Objects{
		Issuers:  []iam.JwtIssuer{{Metadata: iam.Metadata{Name: "idp"}, Spec: iam.JwtIssuerSpec{Iss: s.idp.url, Aud: []string{"dashboard"}, TokenExpiry: "30m"}}},
		Policies: []iam.Policy{p},
		Roles: []iam.Role{{Metadata: iam.Metadata{Name: "people"}, Spec: iam.RoleSpec{Policy: []string{"looks"},
			Condition: iam.Condition{"StringEqual": {"jwt:iss": {s.idp.url}, "jwt:sub": {subject}}}}}},
	})
	require.Empty(t, problems)
	s.objects.Store(set)
}

// idp is an OpenID provider that asks nobody for a password: whoever comes is
// subject.
type idp struct {
	url     string
	issuer  *issuer.Issuer
	subject atomic.Value // string
	// refreshing is a func() that the answer to a refresh token waits for.
	refreshing atomic.Value
	down       atomic.Bool

	mu       sync.Mutex
	nonces   map[string]string // by code
	refused  bool              // refresh tokens are
	queries  []url.Values      // of /authorize and /logout
	lifetime time.Duration
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{nonces: map[string]string{}, lifetime: time.Hour}
	p.subject.Store("alice")
	mux := http.NewServeMux()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	key, err := issuer.Generate()
	require.NoError(t, err)
	p.issuer, err = issuer.New(p.url, key)
	require.NoError(t, err)
	document := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", document(map[string]any{
		"issuer": p.url, "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token", "jwks_uri": p.url + "/keys",
		"end_session_endpoint": p.url + "/logout", "id_token_signing_alg_values_supported": []string{"ES256"},
	}))
	mux.HandleFunc("GET /keys", document(json.RawMessage(p.issuer.JWKS())))
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queries = append(p.queries, q)
		code := "code-" + q.Get("state")
		p.nonces[code] = q.Get("nonce")
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if wait, set := p.refreshing.Load().(func()); set && r.FormValue("grant_type") == "refresh_token" {
			wait()
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		now := time.Now()
		claims := map[string]any{"iss": p.url, "aud": "dashboard", "sub": p.subject.Load(), "iat": now.Unix(), "exp": now.Add(p.lifetime).Unix()}
		if r.FormValue("grant_type") == "authorization_code" {
			nonce, known := p.nonces[r.FormValue("code")]
			if !known || r.FormValue("code_verifier") == "" {
				http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
				return
			}
			delete(p.nonces, r.FormValue("code"))
			claims["nonce"] = nonce
		} else if p.refused || r.FormValue("refresh_token") != "refresh-me" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		token, err := p.issuer.Sign(claims)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		document(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": token, "refresh_token": "refresh-me", "expires_in": 3600})(w, r)
	})
	return p
}

// browser keeps cookies, follows no redirect by itself, and sends what browsers
// send with forms.
type browser struct {
	*http.Client
	site *site

	token, session string // of the forms of which session; see form
}

func (s *site) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := &browser{Client: &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, site: s}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

// page is what a browser got.
type got struct {
	status int
	header http.Header
	body   string
}

func (g got) location() string { return g.header.Get("Location") }

func (b *browser) do(t *testing.T, r *http.Request) got {
	t.Helper()
	response, err := b.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return got{response.StatusCode, response.Header, string(body)}
}

func (b *browser) get(t *testing.T, path string) got {
	t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.site.url + path
	}
	r, err := http.NewRequest(http.MethodGet, path, nil)
	require.NoError(t, err)
	return b.do(t, r)
}

// follow goes where a page leads, up to the first that leads nowhere.
func (b *browser) follow(t *testing.T, path string) got {
	t.Helper()
	for range 10 {
		g := b.get(t, path)
		if g.status/100 != 3 {
			return g
		}
		path = g.location()
	}
	require.Fail(t, "redirects without end")
	return got{}
}

var csrfPattern = regexp.MustCompile(`name="_csrf" value="([^"]*)"`)

// csrf is the token in the forms of the browser's session.
func (b *browser) csrf(t *testing.T) string {
	t.Helper()
	found := csrfPattern.FindStringSubmatch(b.get(t, "/ui/me").body)
	require.NotNil(t, found, "not logged in")
	return found[1]
}

// send sends a form, as headers "Name: value" change it.
func (b *browser) send(t *testing.T, path string, form url.Values, headers ...string) got {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.site.url+path, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.site.url)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Del(name)
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return b.do(t, r)
}

func (b *browser) loginByPassword(t *testing.T) {
	t.Helper()
	g := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}})
	require.Equal(t, http.StatusSeeOther, g.status, g.body)
}

func (b *browser) loginAtProvider(t *testing.T) got {
	t.Helper()
	return b.follow(t, "/ui/login/provider")
}
