package dashboard

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func regexpFind(t *testing.T, pattern, in string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(in)
	require.NotNil(t, found, "no %s in %s", pattern, in)
	return found[1]
}

func TestLoginAtProvider(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	require.Contains(t, b.get(t, "/ui/login?next=/ui/me").body, `href="/ui/login/provider?next=%2fui%2fme"`)
	begun := b.get(t, "/ui/login/provider?next=/ui/me")
	require.Regexp(t, `^gatehound-login=[\w-]+; Path=/auth/callback; Max-Age=600; HttpOnly; SameSite=Lax$`, begun.header.Get("Set-Cookie"))
	u, err := url.Parse(begun.location())
	require.NoError(t, err)
	q := u.Query()
	require.Equal(t, []string{"code", "S256", "dashboard", s.url + "/auth/callback", "openid profile email"},
		[]string{q.Get("response_type"), q.Get("code_challenge_method"), q.Get("client_id"), q.Get("redirect_uri"), q.Get("scope")})
	require.NotContains(t, begun.header.Get("Set-Cookie"), q.Get("state"))

	callback := b.get(t, begun.location())
	done := b.get(t, callback.location())
	require.Equal(t, "/ui/me", done.location(), done.body)
	require.Len(t, done.header.Values("Set-Cookie"), 2, "the session begins, and the attempt is over")
	require.Contains(t, done.header.Values("Set-Cookie")[0]+done.header.Values("Set-Cookie")[1], "gatehound-login=; Path=/auth/callback; Max-Age=0")
	me := b.get(t, "/ui/me").body
	for _, want := range []string{"<code>alice</code>", "<code>" + s.idp.url + "</code>", "<code>people</code>", "<code>looks</code>", "<code>Function:List</code>", "it is renewed by itself"} {
		require.Contains(t, me, want)
	}
	for _, text := range []string{me, done.header.Get("Set-Cookie"), s.log.String(), callback.body} {
		require.NotContains(t, text, "eyJ", "no token leaves the server")
	}
	require.Equal(t, http.StatusBadRequest, b.get(t, callback.location()).status, "a callback is good for one login")

	// What is not granted is said, with what would be needed.
	require.Contains(t, b.get(t, "/ui/").body, "img/env:1")
	require.NotContains(t, b.get(t, "/ui/").body, "<option>dev</option>", "only namespaces that she may see")
	secret := b.get(t, "/ui/functions/openfaas-fn/secret")
	require.Equal(t, http.StatusForbidden, secret.status)
	for _, want := range []string{"<code>Function:Get</code> on <code>openfaas-fn:secret</code>", "<code>alice</code>", "<code>looks</code>", "action: [&#34;Function:Get&#34;]"} {
		require.Contains(t, secret.body, want)
	}
	require.Equal(t, http.StatusForbidden, b.get(t, "/ui/?namespace=dev").status)
}

// TestForeignCallback: a login ends in the browser that it was begun in.
func TestForeignCallback(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	mallory, victim := s.browser(t), s.browser(t)
	callback := mallory.get(t, mallory.get(t, "/ui/login/provider").location()).location()
	for range 2 {
		g := victim.get(t, callback)
		require.Equal(t, http.StatusBadRequest, g.status)
		require.NotContains(t, strings.Join(g.header.Values("Set-Cookie"), ""), "session=")
		victim.get(t, "/ui/login/provider") // and with an attempt of its own
	}
	require.Equal(t, "/ui/login", victim.get(t, "/ui/").location())

	// Another dashboard's seal, and a changed one.
	u, err := url.Parse(s.url + callbackPath)
	require.NoError(t, err)
	b := s.browser(t)
	b.get(t, "/ui/login/provider")
	sealed := b.Jar.Cookies(u)[0].Value
	require.Error(t, newSeal("x").open("login", sealed, &attempt{}))
	require.Error(t, s.dashboard.seal.open("other", sealed, &attempt{}))
	require.Error(t, s.dashboard.seal.open("login", "A"+sealed, &attempt{}))
	require.NoError(t, s.dashboard.seal.open("login", sealed, &attempt{}))

	page := b.get(t, "/ui/login/provider").location()
	s.clock.advance(attemptLifetime + time.Second)
	require.Contains(t, b.get(t, b.get(t, page).location()).body, "took too long")
}

// TestStranger: the provider knows him, and no role does.
func TestStranger(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.idp.subject.Store("mallory: {}")
	b := s.browser(t)
	g := b.loginAtProvider(t)
	require.Equal(t, http.StatusForbidden, g.status)
	for _, want := range []string{"<code>mallory: {}</code>", "<code>" + s.idp.url + "</code>", `<th scope="row">people</th>`, "the claim is &#34;mallory: {}&#34;", "jwt:sub: [&#34;mallory: {}&#34;]"} {
		require.Contains(t, g.body, want)
	}
	require.NotContains(t, g.body, "alice", "who else has a role is not his business")
	require.Equal(t, http.StatusSeeOther, b.get(t, "/ui/").status)
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginAtProvider(t)
	for range 5 {
		s.clock.advance(31 * time.Minute)
		require.Equal(t, http.StatusOK, b.get(t, "/ui/").status, "another API token comes by itself")
	}

	// Not for somebody else.
	s.grant(t, "bob", "Function:List", "openfaas-fn:*")
	s.idp.subject.Store("bob")
	s.clock.advance(31 * time.Minute)
	require.Equal(t, "/ui/login?ended=1", b.get(t, "/ui/").location())
	require.Contains(t, s.log.String(), `its sub is \"bob\", and was \"alice\"`)

	// Nor for somebody who is no longer known.
	require.Equal(t, http.StatusOK, b.loginAtProvider(t).status)
	s.idp.mu.Lock()
	s.idp.refused = true
	s.idp.mu.Unlock()
	require.Equal(t, "/ui/login?ended=1", b.get(t, "/ui/").location())
	require.NotContains(t, s.log.String(), "refresh-me")
}

// TestPublicURL: the dashboard is on one host.
func TestPublicURL(t *testing.T) {
	t.Parallel()
	public := &url.URL{Scheme: "https", Host: "dash.example.com"}
	s := newSite(t, func(c *Config) { c.PublicURL = public })
	b := s.browser(t)
	for path, want := range map[string]string{
		"/": "https://dash.example.com/ui/", "/ui": "https://dash.example.com/ui/", "/ui/me?a=b": "https://dash.example.com/ui/me?a=b",
		"/ui//evil.example": "https://dash.example.com/ui//evil.example",
	} {
		g := b.get(t, path)
		require.Equal(t, http.StatusFound, g.status)
		require.Equal(t, want, g.location())
	}
	ask := func(host, path string) got {
		r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
		require.NoError(t, err)
		r.Host = host
		return b.do(t, r)
	}
	require.Equal(t, "/ui/", ask("DASH.example.com:443", "/").location())
	login := ask("dash.example.com", "/ui/login/provider")
	require.Contains(t, login.location(), url.QueryEscape("https://dash.example.com/auth/callback"))
	require.Regexp(t, "^__Host-gatehound-login=.*; Secure;", login.header.Get("Set-Cookie"))
}
