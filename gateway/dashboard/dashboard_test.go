package dashboard

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoginByPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	require.Equal(t, "/ui/login?next=%2Fui%2Fme", b.get(t, "/ui/me").location())
	require.Equal(t, "/ui/login", b.get(t, "/ui/").location())

	wrong := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"hunter2"}, "next": {"/ui/me"}})
	require.Equal(t, http.StatusUnauthorized, wrong.status)
	require.Contains(t, wrong.body, "The name or the password is wrong.")
	require.Contains(t, wrong.body, `value="/ui/me"`, "where to go is kept")
	require.NotContains(t, wrong.body, "hunter2")
	require.Empty(t, wrong.header.Values("Set-Cookie"))

	right := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}, "next": {"/ui/me"}})
	require.Equal(t, "/ui/me", right.location())
	cookie := right.header.Get("Set-Cookie")
	require.Regexp(t, `^gatehound-session=[A-Z2-7]{52}; Path=/ui/; HttpOnly; SameSite=Lax$`, cookie)
	me := b.get(t, "/ui/me")
	require.Contains(t, me.body, "<code>admin</code>")
	require.Contains(t, me.body, "Everything.")
	require.Equal(t, "/ui/", b.get(t, "/ui/login").location(), "who is logged in needs no login")
	require.NotContains(t, s.log.String(), "hunter2")

	// The header of a proxy says that the browser speaks TLS.
	secure := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}}, "X-Forwarded-Proto: https, http")
	require.Regexp(t, `^__Host-gatehound-session=\S+; Path=/; HttpOnly; Secure; SameSite=Lax$`, secure.header.Get("Set-Cookie"))
}

// TestLoginAsksNothingElse: the time that a login takes does not depend on what the
// provider has to do for those who are let in.
func TestLoginAsksNothingElse(t *testing.T) {
	t.Parallel()
	var statuses []int
	s := newSite(t, func(c *Config) {
		api := c.API
		c.API = roundTripper(func(r *http.Request) (*http.Response, error) {
			res, err := api.RoundTrip(r)
			if err == nil {
				statuses = append(statuses, res.StatusCode)
			}
			return res, err
		})
	})
	s.browser(t).send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"x"}})
	s.browser(t).loginByPassword(t)
	require.Equal(t, []int{http.StatusUnauthorized, http.StatusBadRequest}, statuses)
}

// TestLoginRefusedOtherwise: an auth plugin may say in other ways than by a 401 that
// a password is wrong, and that counts as well.
func TestLoginRefusedOtherwise(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) {
		c.API = roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("bad credentials")), Request: r}, nil
		})
	})
	try := func(i int) got {
		return s.browser(t).send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {fmt.Sprint(i)}})
	}
	first := try(0)
	require.Equal(t, http.StatusUnauthorized, first.status)
	require.Contains(t, first.body, "The gateway answered 400.")
	require.Empty(t, first.header.Values("Set-Cookie"))
	for i := 1; try(i).status != http.StatusTooManyRequests; i++ {
		require.Less(t, i, 50)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestGuessing: what is tried at the form counts at the API, and the other way round.
func TestGuessing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	api := func(password string) got {
		r, err := http.NewRequest(http.MethodGet, s.url+"/system/functions", nil)
		require.NoError(t, err)
		r.SetBasicAuth("admin", password)
		return s.browser(t).do(t, r)
	}
	form := func(password string) got {
		return s.browser(t).send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {password}})
	}
	for i := 0; form(fmt.Sprint("form", i)).status == http.StatusUnauthorized; i++ {
		require.Less(t, i, 50)
	}
	require.Equal(t, http.StatusTooManyRequests, api("pw").status)
	require.Equal(t, http.StatusOK, b.get(t, "/ui/").status, "who has logged in goes on")
	require.Eventually(t, func() bool { return api("pw").status == http.StatusOK }, 10*time.Second, 50*time.Millisecond)
	for i := 0; api(fmt.Sprint("api", i)).status == http.StatusUnauthorized; i++ {
		require.Less(t, i, 50)
	}
	require.Equal(t, http.StatusTooManyRequests, form("pw").status)
	require.Eventually(t, func() bool { return form("pw").status == http.StatusSeeOther }, 10*time.Second, 50*time.Millisecond)
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	list := b.get(t, "/ui/")
	require.Equal(t, http.StatusOK, list.status)
	for _, want := range []string{`href="/ui/functions/openfaas-fn/env"`, "1 of 2", "img/env:1", "needs a token", "open to everybody", "<option>dev</option>", "<option selected>openfaas-fn</option>"} {
		require.Contains(t, list.body, want)
	}
	empty := b.get(t, "/ui/?namespace=dev")
	require.Contains(t, empty.body, "There are no functions here yet")
	require.Contains(t, empty.body, "faas-cli deploy")

	env := b.get(t, "/ui/functions/openfaas-fn/env")
	require.Equal(t, http.StatusOK, env.status)
	require.Contains(t, env.body, `<a href="https://git.example.com/a/b/commit/abc123" rel="noopener noreferrer">abc123</a>`)
	require.Contains(t, env.body, s.url+"/function/env.openfaas-fn")
	require.NotContains(t, env.body, `href="javascript`)
	require.NotContains(t, env.body, "<script>alert")

	for _, path := range []string{"/ui/functions/openfaas-fn/nope", "/ui/nope", "/ui/functions/openfaas-fn/%2e%2e%2ffunctions", "/ui/functions/a%2Fb/env", "/ui/assets/nope.css", "/ui/assets/..%2flayout.html"} {
		g := b.get(t, path)
		require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, g.status, path)
		require.Contains(t, g.body, "To the functions", path)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	nonces := map[string]bool{}
	for _, path := range []string{"/ui/", "/ui/me", "/ui/nope", "/ui/login", "/ui/functions/openfaas-fn/env"} {
		g := b.get(t, path)
		policy := g.header.Get("Content-Security-Policy")
		require.Regexp(t, `^default-src 'none'; script-src 'nonce-\w{26}'; style-src 'nonce-\w{26}'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'$`, policy, path)
		nonce := strings.Split(strings.SplitN(policy, "'nonce-", 2)[1], "'")[0]
		require.False(t, nonces[nonce], "a nonce is for one answer")
		nonces[nonce] = true
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			require.Equal(t, []string{want}, g.header.Values(name), path)
		}
		if g.status != http.StatusSeeOther {
			require.Equal(t, strings.Count(g.body, "<script"), strings.Count(g.body, `nonce="`+nonce+`" defer`), "no script without the nonce: %s", path)
			require.NotRegexp(t, `(?i)<style| style=| on\w+="`, g.body, path)
			require.Contains(t, g.body, nonce)
		}
	}
	asset := regexpFind(t, `href="(/ui/assets/app\.css\?v=\w+)"`, b.get(t, "/ui/").body)
	css := b.get(t, asset)
	require.Equal(t, "text/css; charset=utf-8", css.header.Get("Content-Type"))
	require.Contains(t, css.header.Get("Cache-Control"), "immutable")
}

// TestForms: a form counts only if it comes from a page of ours.
func TestForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	token := b.csrf(t)
	other := s.browser(t)
	other.loginByPassword(t)
	for name, attempt := range map[string]func() got{
		"no token": func() got { return b.send(t, "/ui/logout", nil, "Origin:", "Sec-Fetch-Site:") },
		"another session's": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {other.csrf(t)}}, "Origin:", "Sec-Fetch-Site:")
		},
		"in the query": func() got { return b.send(t, "/ui/logout?_csrf="+token, nil, "Origin:", "Sec-Fetch-Site:") },
		"another site": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin: https://evil.example", "Sec-Fetch-Site:")
		},
		"a function's page": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin: null", "Sec-Fetch-Site:")
		},
		"the browser says so": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin:", "Sec-Fetch-Site: cross-site")
		},
		"a neighbour's": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin:", "Sec-Fetch-Site: same-site")
		},
		"another port": func() got {
			return b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin: http://127.0.0.1:1", "Sec-Fetch-Site:")
		},
		"a login of a stranger": func() got {
			return b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}}, "Origin: https://evil.example")
		},
	} {
		g := attempt()
		require.Equal(t, http.StatusForbidden, g.status, name)
		require.Empty(t, g.header.Values("Set-Cookie"), name)
		require.Equal(t, http.StatusOK, b.get(t, "/ui/me").status, "%s: still logged in", name)
	}
	// One of ours, of another session, is shown again: somebody has logged in again
	// in another window meanwhile.
	for _, token := range []string{other.csrf(t), ""} {
		late := b.send(t, "/ui/deploy", url.Values{"_csrf": {token}, "_page": {"/ui/deploy"}, "image": {"typed <b>"}})
		require.Equal(t, "/ui/deploy", late.location())
		again := b.get(t, "/ui/deploy").body
		require.Contains(t, again, "Nothing was done")
		require.Contains(t, again, `value="typed &lt;b&gt;"`)
		require.NotContains(t, b.get(t, "/ui/deploy").body, "typed", "once")
	}
	require.Equal(t, "/ui/me", b.send(t, "/ui/logout", url.Values{"_csrf": {other.csrf(t)}, "_page": {"/ui/me"}}).location())
	require.Contains(t, b.get(t, "/ui/me").body, "Nothing was done", "still logged in")
	require.Equal(t, http.StatusNotFound, b.get(t, "/ui/logout").status)
	require.Equal(t, http.StatusSeeOther, b.send(t, "/ui/logout", url.Values{"_csrf": {token}}, "Origin:", "Sec-Fetch-Site:").status, "a browser that says neither")
	require.Equal(t, http.StatusRequestEntityTooLarge, b.send(t, "/ui/login", url.Values{"user": {strings.Repeat("a", 2<<20)}}).status)
}

// TestSessionFixation: an ID that was in the browser before the login is not the
// session's after it.
func TestSessionFixation(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	u, err := url.Parse(s.url + "/ui/")
	require.NoError(t, err)
	b.Jar.SetCookies(u, []*http.Cookie{{Name: "gatehound-session", Value: "planted", Path: "/ui/"}})
	b.loginByPassword(t)
	first := b.Jar.Cookies(u)[0].Value
	require.NotEqual(t, "planted", first)
	b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}})
	second := b.Jar.Cookies(u)[0].Value
	require.NotEqual(t, first, second)
	require.Nil(t, s.dashboard.sessions.find(keyOf(first)), "the earlier one has ended")
	require.NotNil(t, s.dashboard.sessions.find(keyOf(second)))
}

// TestCookieOfANeighbour: a host beside ours can set a cookie for both.
func TestCookieOfANeighbour(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	mallory, victim := s.browser(t), s.browser(t)
	mallory.loginByPassword(t)
	victim.loginByPassword(t)
	u, err := url.Parse(s.url + "/ui/me")
	require.NoError(t, err)
	r, err := http.NewRequest(http.MethodGet, u.String(), nil)
	require.NoError(t, err)
	for _, b := range []*browser{mallory, victim} {
		r.AddCookie(b.Jar.Cookies(u)[0])
	}
	require.Equal(t, http.StatusSeeOther, s.browser(t).do(t, r).status)
	r.URL.Path = "/ui/login"
	login := s.browser(t).do(t, r)
	require.Equal(t, http.StatusOK, login.status, "they are in nobody's session")
	require.Contains(t, login.body, "Remove the cookies of that name")
	require.NotContains(t, s.browser(t).get(t, "/ui/login").body, "Remove the cookies")

	// Over TLS there is none but ours: what others can set has not its name.
	r.Header.Set("X-Forwarded-Proto", "https")
	require.Equal(t, http.StatusOK, s.browser(t).do(t, r).status)
	id := victim.Jar.Cookies(u)[0].Value
	for _, theirs := range []string{"gatehound-session", "__Secure-gatehound-session"} {
		r.Header.Set("Cookie", "__Host-gatehound-session="+id+"; "+theirs+"="+mallory.Jar.Cookies(u)[0].Value)
		require.Equal(t, "/ui/", s.browser(t).do(t, r).location(), "logged in")
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	var all []*browser
	for range 3 {
		b := s.browser(t)
		b.loginByPassword(t)
		all = append(all, b)
	}
	alice := s.browser(t)
	require.Equal(t, http.StatusOK, alice.loginAtProvider(t).status)
	g := all[0].send(t, "/ui/logout", url.Values{"_csrf": {all[0].csrf(t)}})
	require.Equal(t, "/ui/login", g.location())
	require.Regexp(t, `^gatehound-session=; Path=/ui/; Max-Age=0;`, g.header.Get("Set-Cookie"))
	require.Equal(t, http.StatusSeeOther, all[0].get(t, "/ui/me").status)
	require.Equal(t, http.StatusOK, all[1].get(t, "/ui/me").status)

	all[1].send(t, "/ui/logout/everywhere", url.Values{"_csrf": {all[1].csrf(t)}})
	require.Equal(t, http.StatusSeeOther, all[2].get(t, "/ui/me").status, "other browsers, too")
	require.Equal(t, http.StatusOK, alice.get(t, "/ui/me").status, "but nobody else")

	left := alice.send(t, "/ui/logout", url.Values{"_csrf": {alice.csrf(t)}})
	require.Equal(t, http.StatusOK, left.status)
	refresh, err := url.Parse(strings.TrimPrefix(left.header.Get("Refresh"), "0; url="))
	require.NoError(t, err)
	require.Equal(t, s.idp.url+"/logout", refresh.Scheme+"://"+refresh.Host+refresh.Path)
	require.Equal(t, url.Values{"client_id": {"dashboard"}, "post_logout_redirect_uri": {s.url + "/ui/login"}}, refresh.Query(), "no token in the browser's history")
}

// TestLogoutOfAnEndedSession: who logs out of a session that has ended keeps nothing
// there, and is not asked to log in for it.
func TestLogoutOfAnEndedSession(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/ui/logout", "/ui/logout/everywhere"} {
		s := newSite(t, nil)
		b := s.browser(t)
		b.loginByPassword(t)
		csrf := b.csrf(t)
		s.clock.advance(13 * time.Hour)
		secret := url.Values{"_csrf": {csrf}, "_page": {"/ui/functions/dev/env/invoke"}, "method": {"POST"}, "path": {"/"}, "headers": {"X-Key: hunter2"}}
		require.Contains(t, b.send(t, "/ui/functions/dev/env/invoke", secret).location(), "/ui/login")
		answer := b.send(t, path, url.Values{"_csrf": {csrf}, "_page": {"/ui/me"}})
		require.Equal(t, http.StatusSeeOther, answer.status)
		require.Equal(t, "/ui/login", answer.location())
		require.Contains(t, answer.header.Get("Set-Cookie"), "Max-Age=0")
		s.dashboard.sessions.mu.Lock()
		require.Zero(t, s.dashboard.sessions.order.Len(), path)
		s.dashboard.sessions.mu.Unlock()
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	idle, busy := s.browser(t), s.browser(t)
	idle.loginByPassword(t)
	busy.loginByPassword(t)
	for range 11 {
		s.clock.advance(time.Hour)
		require.Equal(t, http.StatusOK, busy.get(t, "/ui/me").status)
	}
	require.Equal(t, "/ui/login?ended=1&next=%2Fui%2Fme", idle.get(t, "/ui/me").location())
	require.Contains(t, idle.get(t, "/ui/login?ended=1").body, "Your session has ended")
	s.clock.advance(time.Hour + time.Minute)
	require.Equal(t, http.StatusSeeOther, busy.get(t, "/ui/me").status, "nothing lasts for ever")
}

// TestFormSentTooLate: what was typed when the session ended is there after the
// login, if that is the same person's.
func TestFormSentTooLate(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	carriedOut := 0
	form := func(v *visit) error {
		return v.show(http.StatusOK, "error", "Form", &refusal{Message: "form:" + v.form.Get("name") + ":" + v.notice})
	}
	for _, p := range []page{
		{pattern: "GET /ui/form", serve: form},
		{pattern: "POST /ui/form", serve: func(v *visit) error {
			carriedOut++
			return v.done("/ui/form", "sent %s", v.form.Get("name"))
		}},
	} {
		s.dashboard.mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) { s.dashboard.serve(w, r, p) })
	}
	b := s.browser(t)
	b.loginByPassword(t)
	typed := url.Values{"_csrf": {b.csrf(t)}, "_page": {"/ui/form?a=b"}, "name": {"moo <b>"}}
	require.Equal(t, "/ui/form", b.send(t, "/ui/form", typed).location())
	require.Contains(t, b.get(t, "/ui/form").body, "sent moo &lt;b&gt;")
	require.NotContains(t, b.get(t, "/ui/form").body, "sent moo", "it is said once")
	require.Equal(t, 1, carriedOut)

	s.clock.advance(3 * time.Hour)
	late := b.send(t, "/ui/form", typed)
	require.Equal(t, "/ui/login?ended=1&next=%2Fui%2Fform%3Fa%3Db", late.location())
	again := b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {"pw"}, "next": {"/ui/form?a=b"}})
	require.Equal(t, "/ui/form?a=b", again.location())
	back := b.get(t, again.location())
	require.Contains(t, back.body, "form:moo &lt;b&gt;:Your session had ended")
	require.NotContains(t, b.get(t, again.location()).body, "moo", "it is filled in once")
	require.Equal(t, 1, carriedOut, "it is never sent by itself")

	// Somebody else logs in.
	typed.Set("_csrf", b.csrf(t))
	s.clock.advance(3 * time.Hour)
	b.send(t, "/ui/form", typed)
	b.follow(t, "/ui/login/provider?next=/ui/form%3Fa=b")
	require.NotContains(t, b.get(t, "/ui/form?a=b").body, "moo")

	// And at the provider.
	typed.Set("_csrf", b.csrf(t))
	s.clock.advance(3 * time.Hour)
	b.send(t, "/ui/form", typed)
	require.Contains(t, b.follow(t, "/ui/login/provider?next=/ui/form%3Fa=b").body, "form:moo &lt;b&gt;:Your session had ended")
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Open, c.Password, c.Provider = true, false, nil })
	b := s.browser(t)
	list := b.get(t, "/ui/")
	require.Equal(t, http.StatusOK, list.status, list.body)
	require.Contains(t, list.body, "img/env:1")
	require.NotContains(t, list.body, "Log out")
	u, err := url.Parse(s.url + "/ui/")
	require.NoError(t, err)
	token := s.dashboard.sessions.find(keyOf(b.Jar.Cookies(u)[0].Value)).csrf
	s.clock.advance(3 * time.Hour)
	require.Equal(t, http.StatusSeeOther, b.send(t, "/ui/logout", url.Values{"_csrf": {token}}).status, "a form is as good as before")
	r, err := http.NewRequest(http.MethodGet, s.url+"/ui/", nil)
	require.NoError(t, err)
	r.Host = "rebound.example"
	require.Equal(t, http.StatusForbidden, b.do(t, r).status, "a name of the web that was made to point here")
	r, err = http.NewRequest(http.MethodGet, s.url+"/ui/", nil)
	require.NoError(t, err)
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	require.Equal(t, http.StatusForbidden, b.do(t, r).status, "by a proxy")
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newSessions(time.Hour, time.Hour, func() time.Time { return now })
	require.Equal(t, maxSessions, s.most)
	s.most = 200
	first, _ := s.begin("a", "", credential{authorization: "x"})
	second, begun := s.begin("a", "", credential{})
	for i := range s.most - 1 {
		require.NotNil(t, s.find(keyOf(first)), "what is used stays")
		s.begin("b"+strconv.Itoa(i), "", credential{})
	}
	require.Nil(t, s.find(keyOf(second)))
	require.True(t, begun.hasEnded())
	require.Len(t, s.byKey, s.most)
	require.Equal(t, s.most, s.order.Len())
}

func TestOwnPage(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/ui/", "/ui/me", "/ui/?namespace=dev", "/ui/functions/a/b?c=d%2Fe", "/ui/a%20b"} {
		require.Equal(t, good, ownPage(good))
	}
	for _, bad := range []string{"", "/", "//evil.example", "https://evil.example/ui/", "//evil.example/ui/", "/function/evil", "/ui/../function/evil", "/ui/%2e%2e/function/evil",
		`/ui/\evil`, "/ui//evil.example", "/ui/\r\nSet-Cookie: a=b", "javascript:alert(1)", "ui/", "/uix", "/ui/login?next=x", "/ui/logout", "/ui/assets/app.js", "\t//evil", "/ui/\tx", "/system/functions",
	} {
		require.Equal(t, "/ui/", ownPage(bad), "%q", bad)
	}
}

func FuzzOwnPage(f *testing.F) {
	f.Add("/ui/me")
	f.Add("//evil.example")
	f.Add("/ui/..//evil.example")
	base, err := url.Parse("https://gw.example/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		page := ownPage(target)
		u, err := base.Parse(page)
		require.NoError(t, err)
		require.Equal(t, "gw.example", u.Host)
		require.Equal(t, "https", u.Scheme)
		require.True(t, strings.HasPrefix(u.Path, "/ui/"), page)
		require.NotContains(t, page, "\n")
	})
}
