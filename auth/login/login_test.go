package login

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestCode(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	c := p.client(t, nil)
	a, page := c.Begin(redirectURL)
	u, err := url.Parse(page)
	require.NoError(t, err)
	q := u.Query()
	require.Equal(t, "openid profile email", q.Get("scope"))
	require.Equal(t, "code", q.Get("response_type"))
	require.Equal(t, "S256", q.Get("code_challenge_method"))
	require.Equal(t, []string{redirectURL, a.State, a.Nonce}, []string{q.Get("redirect_uri"), q.Get("state"), q.Get("nonce")})
	require.False(t, q.Has("audience"))
	require.NotContains(t, page, a.Verifier)
	b, _ := c.Begin(redirectURL)
	require.NotEqual(t, a.State, b.State)
	require.GreaterOrEqual(t, len(a.State), 43, "256 bits")

	tokens, err := c.Finish(t.Context(), a, browse(t, page))
	require.NoError(t, err)
	require.NotEmpty(t, tokens.ID)
	require.Equal(t, "the-access-token", tokens.Access)
	require.Equal(t, "alice", tokens.Claims["sub"])
	require.WithinDuration(t, time.Now().Add(5*time.Minute), tokens.Expiry, 10*time.Second)

	again, err := c.Refresh(t.Context(), tokens.Refresh, tokens.Origin)
	require.NoError(t, err)
	require.NotEqual(t, tokens.Refresh, again.Refresh)
	require.Equal(t, "alice", again.Claims["sub"])

	_, err = c.Refresh(t.Context(), tokens.Refresh, tokens.Origin)
	var refused *Refusal
	require.ErrorAs(t, err, &refused)
	require.Equal(t, &Refusal{400, "invalid_grant", "no such refresh token: [secret]"}, refused)

	require.NoError(t, c.Revoke(t.Context(), again.Refresh))
	_, err = c.Refresh(t.Context(), again.Refresh, Origin{})
	require.ErrorAs(t, err, &refused)
}

// TestFinishRefuses: what did not come of this attempt, at this provider, for
// this client.
func TestFinishRefuses(t *testing.T) {
	t.Parallel()
	stranger := newFake(t)
	cases := []struct {
		name   string
		setUp  func(p *fakeProvider)
		answer func(q url.Values)
		want   string
	}{
		{"no state", nil, func(q url.Values) { q.Del("state") }, "its state is another"},
		{"another state", nil, func(q url.Values) { q.Set("state", "x") }, "its state is another"},
		{"two states", nil, func(q url.Values) { q.Add("state", "x") }, "sent state twice"},
		{"another issuer", nil, func(q url.Values) { q.Set("iss", "https://evil.example") }, `another provider, "https://evil.example"`},
		{"an empty issuer", nil, func(q url.Values) { q.Set("iss", "") }, "another provider"},
		{"no issuer where there is always one", func(p *fakeProvider) {
			p.metadata["authorization_response_iss_parameter_supported"] = true
		}, func(q url.Values) { q.Del("iss") }, "does not say which provider"},
		{"refused", nil, func(q url.Values) { q.Set("error", "access_denied"); q.Set("error_description", "no\x1b[31m way") }, "access_denied: no [31m way"},
		{"no code", nil, func(q url.Values) { q.Del("code") }, "sent no code"},
		{"another code", nil, func(q url.Values) { q.Set("code", "a-guessed-code") }, "invalid_grant: no such code: [secret]"},
		{"another nonce", func(p *fakeProvider) { p.claims = func(c jwt.MapClaims) { c["nonce"] = "x" } }, nil, "its nonce is another"},
		{"no nonce", func(p *fakeProvider) { p.claims = func(c jwt.MapClaims) { delete(c, "nonce") } }, nil, "its nonce is another"},
		{"another audience", func(p *fakeProvider) { p.claims = func(c jwt.MapClaims) { c["aud"] = "web" } }, nil, `expected audience "cli" got ["web"]`},
		{"another party", func(p *fakeProvider) {
			p.claims = func(c jwt.MapClaims) { c["aud"] = []string{"cli", "web"}; c["azp"] = "web" }
		}, nil, `another client, "web"`},
		{"another's token", func(p *fakeProvider) { p.claims = func(c jwt.MapClaims) { c["iss"] = "https://evil.example" } }, nil, "issued by a different provider"},
		{"another's key", func(p *fakeProvider) { p.sign = stranger.signed }, nil, "failed to verify signature"},
		{"unsigned", func(p *fakeProvider) {
			p.sign = func(c jwt.MapClaims) string {
				raw, _ := jwt.NewWithClaims(jwt.SigningMethodNone, c).SignedString(jwt.UnsafeAllowNoneSignatureType)
				return raw
			}
		}, nil, "is refused: "},
		{"signed with the client's secret", func(p *fakeProvider) {
			p.sign = func(c jwt.MapClaims) string {
				raw, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte("secret"))
				return raw
			}
		}, nil, "is refused: "},
		{"expired", func(p *fakeProvider) {
			p.claims = func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }
		}, nil, "is this computer's clock right?"},
		{"another access token", func(p *fakeProvider) { p.claims = func(c jwt.MapClaims) { c["at_hash"] = "x" } }, nil, "not the one that the ID token was given with"},
		{"no ID token", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, _ *http.Request) {
				writeJSON(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer"})
			}
		}, nil, "is openid among the scopes?"},
		{"not JSON", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(502)
				_, _ = w.Write([]byte("<html>" + r.PostForm.Encode()))
			}
		}, nil, "/token answered 502 Bad Gateway, without an OAuth error: it, or a proxy before it, is in trouble"},
		{"without end", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"access_token":"` + strings.Repeat("a", 2*maxAnswer) + `"}`))
			}
		}, nil, "larger than 512 KiB"},
		{"a token of two lines", func(p *fakeProvider) {
			p.sign = func(c jwt.MapClaims) string { raw := p.signed(c); return raw[:40] + "\n" + raw[40:] }
		}, nil, "has characters that no token has"},
		{"an access token for a terminal", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, r *http.Request) {
				writeJSON(w, 200, map[string]any{"access_token": "a\x1b]0;title\a", "token_type": "Bearer"})
			}
		}, nil, "has characters that no token has"},
		{"a long story", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, r *http.Request) {
				writeJSON(w, 200, map[string]any{"access_token": "a", "expires_in": "\x1b[31m" + r.PostForm.Get("code") + strings.Repeat("long ", 9999)})
			}
		}, nil, "cannot parse json"},
		{"a long way", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "http://%zz/"+strings.Repeat("long", 9999))
				w.WriteHeader(http.StatusFound)
			}
		}, nil, "Location"},
		{"elsewhere", func(p *fakeProvider) {
			p.token = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, stranger.URL+"/token", http.StatusTemporaryRedirect)
			}
		}, nil, "it redirects to " + stranger.URL + ", which is not followed"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newFake(t)
			if tc.setUp != nil {
				tc.setUp(p)
			}
			c := p.client(t, nil)
			a, page := c.Begin(redirectURL)
			q := browse(t, page)
			code := q.Get("code")
			if tc.answer != nil {
				tc.answer(q)
			}
			tokens, err := c.Finish(t.Context(), a, q)
			require.ErrorContains(t, err, tc.want)
			require.Zero(t, tokens)
			require.Less(t, len(err.Error()), 1000)
			for _, secret := range []string{a.State, a.Nonce, a.Verifier, code, "eyJ", "\x1b"} {
				require.NotContains(t, err.Error(), secret)
			}
			require.LessOrEqual(t, len(p.seen), 1, "a code is redeemed once")
		})
	}
	require.Empty(t, stranger.seen)
}

func TestImplicit(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	c := p.client(t, func(c *Config) { c.Audience = "https://gw.example.com" })
	a, page := c.BeginImplicit(redirectURL)
	require.Contains(t, page, "response_type=id_token&")
	require.Contains(t, page, "audience=https%3A%2F%2Fgw.example.com")
	fragment := browse(t, page)
	tokens, err := c.FinishImplicit(t.Context(), a, fragment)
	require.NoError(t, err)
	require.Equal(t, fragment.Get("id_token"), tokens.ID)
	require.Equal(t, "alice", tokens.Claims["sub"])

	b, _ := c.BeginImplicit(redirectURL)
	_, err = c.FinishImplicit(t.Context(), b, fragment)
	require.ErrorContains(t, err, "its state is another")
	fragment.Set("state", b.State)
	_, err = c.FinishImplicit(t.Context(), b, fragment)
	require.ErrorContains(t, err, "its nonce is another")
	fragment.Set("state", a.State)
	_, err = c.Finish(t.Context(), a, fragment)
	require.ErrorContains(t, err, "sent no code", "an implicit attempt is not ended by a code")
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	machine := func(secret string) func(*Config) {
		return func(c *Config) { c.ClientID, c.ClientSecret, c.Audience = "machine", secret, "gw" }
	}
	tokens, err := p.client(t, machine("s3cret")).ClientCredentials(t.Context())
	require.NoError(t, err)
	require.Empty(t, tokens.ID)
	require.NotEmpty(t, tokens.Access)
	require.Equal(t, "gw", p.seen[0].PostForm.Get("audience"))
	require.NotContains(t, p.seen[0].PostForm, "client_secret", "it is in the header")

	_, err = p.client(t, machine("a guess")).ClientCredentials(t.Context())
	require.EqualError(t, err, "invalid_client: wrong secret: [secret]")
	require.Len(t, p.seen, 2)

	// A provider that knows both ways, and a client that may do only one of them.
	p.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic", "client_secret_post"}
	p.token = func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("client_secret") != "s3cret" {
			writeJSON(w, 401, map[string]any{"error": "invalid_client"})
			return
		}
		writeJSON(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer"})
	}
	_, err = p.client(t, machine("s3cret")).ClientCredentials(t.Context())
	require.NoError(t, err)
}

func TestDevice(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	p.polls = 2
	c := p.client(t, nil)
	d, err := c.BeginDevice(t.Context())
	require.NoError(t, err)
	require.Equal(t, "ABCD-EFGH", d.UserCode)
	require.Equal(t, p.URL+"/activate", d.Page)
	tokens, err := c.FinishDevice(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, "alice", tokens.Claims["sub"])
	require.Zero(t, p.polls)

	d.Expiry = time.Now().Add(100 * time.Millisecond)
	_, err = c.FinishDevice(t.Context(), d)
	require.EqualError(t, err, "expired_token: nobody typed the code in time")

	c.metadata.Issuer = "https://idp.example.com"
	_, err = c.BeginDevice(t.Context())
	require.ErrorContains(t, err, "/activate\" is not https, as its issuer is", "a password is typed there")

	p.metadata["device_authorization_endpoint"] = ""
	_, err = p.client(t, nil).BeginDevice(t.Context())
	require.ErrorIs(t, err, ErrNoDevice)
}

func TestDiscoverRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(p *fakeProvider, c *Config)
		want   string
	}{
		"no URL":          {func(_ *fakeProvider, c *Config) { c.Issuer = "idp.example.com" }, "no web address"},
		"a file":          {func(_ *fakeProvider, c *Config) { c.Issuer = "file:///etc/passwd" }, "no web address"},
		"no client":       {func(_ *fakeProvider, c *Config) { c.ClientID = "" }, "the client ID is missing"},
		"nobody there":    {func(_ *fakeProvider, c *Config) { c.Issuer = "http://127.0.0.1:1" }, "connection refused"},
		"not the issuer":  {func(_ *fakeProvider, c *Config) { c.Issuer += "/realms/x" }, "is "},
		"another issuer":  {func(p *fakeProvider, _ *Config) { p.metadata["issuer"] = "https://evil.example" }, `another issuer, "https://evil.example"`},
		"no token":        {func(p *fakeProvider, _ *Config) { p.metadata["token_endpoint"] = "" }, "has no token_endpoint"},
		"a script":        {func(p *fakeProvider, _ *Config) { p.metadata["authorization_endpoint"] = "javascript:alert(1)" }, "no web address"},
		"for a terminal":  {func(p *fakeProvider, _ *Config) { p.metadata["authorization_endpoint"] = "https://x/\u009b31m" }, "characters that no web address has"},
		"another program": {func(p *fakeProvider, _ *Config) { p.metadata["end_session_endpoint"] = "file:///bin/sh" }, "no web address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFake(t)
			config := Config{Issuer: p.URL, ClientID: "cli"}
			tc.change(p, &config)
			_, err := Discover(t.Context(), config)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestDiscoverSlash(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	p.metadata["issuer"] = p.URL + "/"
	p.claims = func(c jwt.MapClaims) { c["iss"] = p.URL + "/" }
	c := p.client(t, nil)
	require.Equal(t, p.URL+"/", c.Issuer())
	a, page := c.Begin(redirectURL)
	_, err := c.Finish(t.Context(), a, browse(t, page))
	require.NoError(t, err)
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	require.Equal(t, p.URL+"/logout?client_id=cli&id_token_hint=ID&post_logout_redirect_uri=https%3A%2F%2Fgw%2Fui%2F&theme=dark",
		p.client(t, nil).EndSession("ID", "https://gw/ui/"))
	require.Equal(t, p.URL+"/logout?client_id=cli&theme=dark", p.client(t, nil).EndSession("", ""))
	p.metadata["end_session_endpoint"] = ""
	require.Empty(t, p.client(t, nil).EndSession("ID", "https://gw/ui/"))
}

func TestExchange(t *testing.T) {
	t.Parallel()
	var form url.Values
	answer := func(w http.ResponseWriter) {
		writeJSON(w, 200, map[string]any{"access_token": "api", "token_type": "bearer", "expires_in": 7200})
	}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		require.Equal(t, "/oauth/token", r.URL.String(), "nothing in the query, which is logged")
		answer(w)
	}))
	t.Cleanup(gateway.Close)
	g := Gateway{URL: gateway.URL + "/"}
	token, err := g.Exchange(t.Context(), "the-id-token")
	require.NoError(t, err)
	require.Equal(t, "api", token.Access)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), token.Expiry, 10*time.Second)
	require.Equal(t, url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {"the-id-token"},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
	}, form)
	_, err = g.Exchange(t.Context(), "the-id-token", "openfaas-fn:env", "dev:*")
	require.NoError(t, err)
	require.Equal(t, "function", form.Get("scope"))
	require.Equal(t, []string{"openfaas-fn:env", "dev:*"}, form["audience"])

	noExchange := gateway.URL + "/oauth/token: it exchanges no tokens: "
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"refused": {func(w http.ResponseWriter) {
			writeJSON(w, 400, map[string]any{"error": "invalid_request", "error_description": "No policies found for subject: alice the-id-token"})
		}, "invalid_request: No policies found for subject: alice [secret]"},
		"no endpoint":     {func(w http.ResponseWriter) { http.Error(w, "404 page not found", 404) }, noExchange + "it answered 404 Not Found, without an OAuth error"},
		"a proxy's login": {func(w http.ResponseWriter) { http.Error(w, "<html>", http.StatusForbidden) }, noExchange + "it answered 403 Forbidden, without an OAuth error"},
		"not JSON": {func(w http.ResponseWriter) { http.Error(w, "the-id-token", http.StatusBadGateway) },
			gateway.URL + "/oauth/token answered 502 Bad Gateway, without an OAuth error: it, or a proxy before it, is in trouble"},
		"without end": {func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat(" ", 2*maxAnswer))) },
			noExchange + "its answer is no token (RFC 8693 section 2.2.1): the answer is larger than 512 KiB"},
		"no token": {func(w http.ResponseWriter) { writeJSON(w, 200, map[string]any{}) }, noExchange + "its answer is no token (RFC 8693 section 2.2.1)"},
		"for a terminal": {func(w http.ResponseWriter) {
			writeJSON(w, 200, map[string]any{"access_token": "a\r\nX: y\x1b[31m", "token_type": "Bearer"})
		}, noExchange + "its answer is no token (RFC 8693 section 2.2.1)"},
		"another kind": {func(w http.ResponseWriter) {
			writeJSON(w, 200, map[string]any{"access_token": "a", "token_type": "N_A"})
		}, `the gateway gave a token of type "N_A"; want Bearer`},
	} {
		answer = tc.answer
		_, err := g.Exchange(t.Context(), "the-id-token")
		require.EqualError(t, err, tc.want, name)
	}
}
