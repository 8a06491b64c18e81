package dashboard

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/gateway/provider"
)

const envPage = "/ui/functions/openfaas-fn/env"

// form is one as its page has it.
func (b *browser) form(t *testing.T, pairs ...string) url.Values {
	t.Helper()
	u, err := url.Parse(b.site.url + "/ui/")
	require.NoError(t, err)
	if session := b.Jar.Cookies(u)[0].Value; session != b.session {
		b.token, b.session = b.csrf(t), session
	}
	form := url.Values{"_csrf": {b.token}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

// TestWhatIsOffered: of the ways to change something a page shows those that are
// granted, and whoever goes by another is refused by the API.
func TestWhatIsOffered(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	admin, alice := s.browser(t), s.browser(t)
	admin.loginByPassword(t)
	alice.loginAtProvider(t)
	ways := []string{"/scale", "/invoke", "/logs", "/change", "/delete"}
	for _, way := range ways {
		require.Contains(t, admin.get(t, envPage).body, `"`+envPage+way+`"`)
	}
	require.Contains(t, admin.get(t, "/ui/").body, `href="/ui/deploy?namespace=openfaas-fn"`)
	page := alice.get(t, envPage).body
	for _, way := range []string{"/scale", "/logs", "/change", "/delete"} {
		require.NotContains(t, page, envPage+way)
	}
	require.Contains(t, page, envPage+"/invoke", "env is open to everybody")
	require.NotContains(t, alice.get(t, "/ui/").body, "/ui/deploy")
	require.NotContains(t, alice.get(t, "/ui/").body, "/ui/secrets")

	for path, action := range map[string]string{
		envPage + "/logs": "Function:Logs", envPage + "/logs/stream": "Function:Logs", envPage + "/change": "Function:Update",
		"/ui/deploy": "Function:Create", "/ui/secrets": "Secret:List", "/ui/secrets/openfaas-fn/api-key/delete": "Secret:Delete",
	} {
		g := alice.get(t, path)
		require.Equal(t, http.StatusForbidden, g.status, path)
		require.Contains(t, g.body, action, path)
	}
	for path, form := range map[string]url.Values{
		envPage + "/scale":  alice.form(t, "replicas", "3"),
		envPage + "/delete": alice.form(t), envPage + "/change": alice.form(t, "image", "x"),
		"/ui/deploy":                             alice.form(t, "namespace", "openfaas-fn", "name", "new", "image", "x"),
		"/ui/secrets":                            alice.form(t, "namespace", "openfaas-fn", "name", "new", "_value", "x"),
		"/ui/secrets/openfaas-fn/api-key/delete": alice.form(t),
		"/ui/iam":                                alice.form(t, "action", "Function:List", "claims", `{"sub":"bob"}`),
	} {
		g := alice.send(t, path, form)
		require.Equal(t, http.StatusForbidden, g.status, path)
		// And nothing is done without the form's token, whoever it is.
		form.Set("_csrf", "guessed")
		require.Equal(t, http.StatusForbidden, admin.send(t, path, form).status, path)
	}
	require.Empty(t, s.provider.done())

	// A part is enough to be shown the way to it.
	s.grant(t, "alice", "Function:List", "openfaas-fn:*", "Function:Get", "openfaas-fn:env", "Function:Create", "openfaas-fn:a*", "Secret:List", "openfaas-fn:api-*", "Function:Scale", "openfaas-fn:env")
	require.Contains(t, alice.get(t, "/ui/").body, "/ui/deploy")
	secrets := alice.get(t, "/ui/secrets")
	require.Contains(t, secrets.body, "api-key")
	require.NotContains(t, secrets.body, "other")
	require.NotContains(t, secrets.body, "A new secret")
	typed := alice.form(t, "namespace", "openfaas-fn", "name", "new", "image", "typed <b>")
	refused := alice.send(t, "/ui/deploy", typed)
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Contains(t, refused.body, `value="typed &lt;b&gt;"`, "what was typed stays")
	require.Contains(t, refused.body, "Function:Create on openfaas-fn:new")
	typed.Set("name", "anew")
	require.Equal(t, "/ui/?namespace=openfaas-fn", alice.send(t, "/ui/deploy", typed).location(), "she may not look at it")
	require.Contains(t, alice.get(t, "/ui/").body, "anew is being deployed.")
	require.Len(t, s.provider.done(), 1)
	require.Equal(t, envPage, alice.send(t, envPage+"/scale", alice.form(t, "replicas", "3")).location())
}

func TestScaleAndDelete(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	require.Equal(t, envPage, b.send(t, envPage+"/scale", b.form(t, "replicas", "5")).location())
	page := b.get(t, envPage).body
	require.Contains(t, page, "env is being scaled to 5.")
	require.Equal(t, []string{`scale "env.openfaas-fn 5"`}, s.provider.done())
	for _, wrong := range []string{"", "-1", "1.5", "many", "99999999999"} {
		g := b.send(t, envPage+"/scale", b.form(t, "replicas", wrong))
		require.Equal(t, http.StatusBadRequest, g.status, wrong)
		require.Contains(t, g.body, `aria-invalid="true" aria-describedby="replicas-wrong"`, wrong)
		require.Contains(t, g.body, `id="replicas-wrong">Want a whole number`, wrong)
	}
	s.provider.refuses(&provider.Error{Status: http.StatusBadRequest, Message: "at most 20 <replicas>"})
	g := b.send(t, envPage+"/scale", b.form(t, "replicas", "21"))
	require.Equal(t, http.StatusBadRequest, g.status)
	require.Contains(t, g.body, "at most 20 &lt;replicas&gt;")
	require.Contains(t, g.body, `value="21"`, "what was typed stays")
	s.provider.refuses(nil)

	ask := b.get(t, envPage+"/delete")
	require.Contains(t, ask.body, "Delete env in openfaas-fn?")
	require.Empty(t, s.provider.done(), "it asks before")
	require.Equal(t, http.StatusNotFound, b.get(t, "/ui/functions/openfaas-fn/nope/delete").status)
	gone := b.send(t, envPage+"/delete", b.form(t))
	require.Equal(t, "/ui/?namespace=openfaas-fn", gone.location())
	require.Contains(t, b.get(t, gone.location()).body, "env was deleted.")
	require.Equal(t, []string{`delete "env.openfaas-fn"`}, s.provider.done())
}

func TestDeploy(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	page := b.get(t, "/ui/deploy?namespace=dev")
	require.Contains(t, page.body, "<option selected>dev</option>")
	require.Contains(t, page.body, "There are api-key, other.")
	form := b.form(t, "namespace", "dev", "name", "resize", "image", " img/resize:1 ", "process", "resize -v", "environment", "A=b=c\r\n\r\nEMPTY=\r\nLINES=\"a\\nb\"\r\n",
		"secrets", "api-key, other", "labels", "com.openfaas.scale.max=5", "annotations", "note=<script>alert(1)</script>", "memory", "128Mi", "cpu", "250m", "jwt_auth", "true")
	g := b.send(t, "/ui/deploy", form)
	require.Equal(t, "/ui/functions/dev/resize", g.location(), g.body)
	require.Equal(t, []string{`deploy {"service":"resize","image":"img/resize:1","namespace":"dev","envProcess":"resize -v",` +
		`"envVars":{"A":"b=c","EMPTY":"","LINES":"a\nb","jwt_auth":"true"},"secrets":["api-key","other"],` +
		`"labels":{"com.openfaas.scale.max":"5"},"annotations":{"note":"\u003cscript\u003ealert(1)\u003c/script\u003e"},"limits":{"memory":"128Mi","cpu":"250m"}}`}, s.provider.done())

	for field, value := range map[string]string{
		"name": "Not A Name", "image": " ", "environment": "no value", "labels": `"x`, "annotations": "a=1\na=2", "secrets": "../etc/passwd", "namespace": "",
	} {
		wrong := b.form(t, "namespace", "dev", "name", "resize", "image", "img/resize:1", "process", "what <was> typed", "environment", "A=b")
		wrong.Set(field, value)
		g := b.send(t, "/ui/deploy", wrong)
		require.Equal(t, http.StatusBadRequest, g.status, field)
		require.Contains(t, g.body, `aria-describedby="`+field+`-wrong`, field)
		require.Contains(t, g.body, `id="`+field+`-wrong"`, field)
		require.Equal(t, 1, strings.Count(g.body, `aria-invalid="true"`), field)
		require.Contains(t, g.body, `value="what &lt;was&gt; typed"`, field)
	}
	form.Set("environment", "jwt_auth=false")
	require.Contains(t, b.send(t, "/ui/deploy", form).body, "the box above is for that", "two places must not disagree on who may call it")
	form.Del("environment")
	form.Set("namespace", "openfaas-fn")
	form.Set("name", "env")
	taken := b.send(t, "/ui/deploy", form)
	require.Equal(t, http.StatusConflict, taken.status, "a new one takes no other's place")
	require.Contains(t, taken.body, "There is a function of this name")
	form.Set("name", "new")
	s.provider.refuses(&provider.Error{Status: http.StatusBadRequest, Message: "no such image <b>"})
	refused := b.send(t, "/ui/deploy", form)
	require.Equal(t, http.StatusBadRequest, refused.status)
	require.Contains(t, refused.body, "no such image &lt;b&gt;")
	require.Contains(t, refused.body, "scale.max=5")
	require.Empty(t, s.provider.done())
}

// TestChange: what is there is in the form, and what the form has no field for
// stays.
func TestChange(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	page := b.get(t, envPage+"/change").body
	require.Contains(t, page, `value="img/env:1"`)
	require.Contains(t, page, "shape=&lt;script&gt;alert(1)&lt;/script&gt;")
	require.NotContains(t, page, "<script>alert")
	require.NotContains(t, page, "checked")
	require.Contains(t, b.get(t, "/ui/functions/openfaas-fn/secret/change").body, `name="jwt_auth" value="true" checked`)
	require.NotContains(t, b.get(t, "/ui/functions/openfaas-fn/secret/change").body, "jwt_auth=")
	g := b.send(t, "/ui/functions/openfaas-fn/secret/change", b.form(t, "image", "img/secret:2", "jwt_auth", "true", "name", "other", "namespace", "dev"))
	require.Equal(t, "/ui/functions/openfaas-fn/secret", g.location())
	require.Equal(t, []string{`update {"service":"secret","image":"img/secret:2","namespace":"openfaas-fn","envVars":{"jwt_auth":"true"},"constraints":["gpu"],"limits":{"nvidia.com/gpu":"1"},"readOnlyRootFilesystem":true}`}, s.provider.done())
	bad := b.send(t, envPage+"/change", b.form(t, "image", "", "environment", "A=b"))
	require.Equal(t, http.StatusBadRequest, bad.status)
	require.Contains(t, bad.body, "A=b")
	require.Empty(t, s.provider.done())

	// A provider that tells of no environment may have one: it is not taken away
	// by who has not said that there is none.
	require.Contains(t, page, "no_environment")
	unsure := b.send(t, envPage+"/change", b.form(t, "image", "img/env:2"))
	require.Equal(t, http.StatusBadRequest, unsure.status)
	require.Contains(t, unsure.body, "no_environment-wrong")
	require.Empty(t, s.provider.done())
	require.Equal(t, envPage, b.send(t, envPage+"/change", b.form(t, "image", "img/env:2", "no_environment", "true")).location())
	require.Len(t, s.provider.done(), 1)

	// A form that came too late is as it was typed, and not as the function is.
	late := b.form(t, "image", "img/typed", "_page", envPage+"/change")
	s.clock.advance(3 * time.Hour)
	b.send(t, envPage+"/change", late)
	b.loginByPassword(t)
	again := b.get(t, envPage+"/change").body
	require.Contains(t, again, `value="img/typed"`)
	require.NotContains(t, again, "shape=")
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	list := b.get(t, "/ui/secrets")
	require.Contains(t, list.body, "<code>api-key</code>")
	require.NotContains(t, list.body, "never shown")
	g := b.send(t, "/ui/secrets", b.form(t, "namespace", "dev", "name", "pem", "_value", "a\r\nhunter2\r\n"))
	require.Equal(t, "/ui/secrets?namespace=dev", g.location(), g.body)
	require.Contains(t, b.get(t, g.location()).body, "The secret pem was created.")
	require.Equal(t, []string{`create secret {"name":"pem","namespace":"dev","value":"a\nhunter2\n"}`}, s.provider.done())
	for name, value := range map[string]string{"../x": "hunter2", "good": "", "": "hunter2"} {
		g := b.send(t, "/ui/secrets", b.form(t, "namespace", "dev", "name", name, "_value", value))
		require.Equal(t, http.StatusBadRequest, g.status)
		require.Contains(t, g.body, `aria-invalid="true"`)
		require.NotContains(t, g.body, "hunter2")
	}
	late := b.form(t, "namespace", "dev", "name", "late-key", "_value", "hunter2", "_page", "/ui/secrets?namespace=dev")
	s.clock.advance(3 * time.Hour)
	b.send(t, "/ui/secrets", late)
	b.loginByPassword(t)
	again := b.get(t, "/ui/secrets?namespace=dev").body
	require.Contains(t, again, `value="late-key"`)
	require.NotContains(t, again, "hunter2", "a value is not kept")
	require.Contains(t, b.get(t, "/ui/secrets/dev/api-key/delete").body, "Delete the secret api-key in dev?")
	require.Empty(t, s.provider.done())
	b.send(t, "/ui/secrets/dev/api-key/delete", b.form(t))
	require.Equal(t, []string{`delete secret "dev:api-key"`}, s.provider.done())
	require.NotContains(t, s.log.String(), "hunter2")
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	s.provider.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Shape", "<b>")
		w.WriteHeader(http.StatusTeapot)
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		fmt.Fprintf(w, "<script>alert(1)</script>|%s|%s|%s|%s|%s|%s|", r.Method, r.RequestURI, body[:n], r.Header.Get("X-A"), r.Header.Get("Authorization"), r.Header.Get("Cookie"))
	})
	form := b.form(t, "method", "PUT", "path", "/a%2Fb/c?d=e", "headers", "X-A: one\r\n\r\nContent-Type: text/x", "body", "line\r\nline <b>")
	g := b.send(t, envPage+"/invoke", form)
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Contains(t, g.body, "&lt;script&gt;alert(1)&lt;/script&gt;|PUT|/a%2Fb/c?d=e|line\nline &lt;b&gt;|one|||", "nothing of the person's goes along")
	for _, want := range []string{"418 I&#39;m a teapot", "<code>&lt;b&gt;</code>", `value="/a%2Fb/c?d=e"`, "<option selected>PUT</option>", "line &lt;b&gt;</textarea>"} {
		require.Contains(t, g.body, want)
	}
	require.NotContains(t, g.body, "<script>alert")
	require.Equal(t, "text/html; charset=utf-8", g.header.Get("Content-Type"))

	for field, values := range map[string][]string{
		"path":    {"x", "/..", "/a/../../../system/functions", "/%2e%2e/%2e%2e/system/functions", "/..%2f..%2fsystem", `/..\x`, "/a b", "/#a", "/%zz", "/" + strings.Repeat("a", maxTarget)},
		"headers": {"no colon", ": x", "A b: c", "Host: evil", "Content-Length: 5", "transfer-encoding: chunked", "X: a\x00b"},
		"method":  {"", "CONNECT", "get"},
	} {
		for _, value := range values {
			wrong := b.form(t, "method", "GET", "path", "/", "body", "kept")
			wrong.Set(field, value)
			g := b.send(t, envPage+"/invoke", wrong)
			require.Equal(t, http.StatusBadRequest, g.status, value)
			require.Contains(t, g.body, `id="`+field+`-wrong"`, value)
			require.Contains(t, g.body, "kept</textarea>", value)
			require.NotContains(t, g.body, "alert(1)", value)
		}
	}
	require.Equal(t, http.StatusNotFound, b.send(t, "/ui/functions/openfaas-fn/nope/invoke", form).status)
	require.Equal(t, http.StatusForbidden, b.send(t, envPage+"/invoke", url.Values{"method": {"GET"}, "path": {"/"}}).status, "without the form's token")

	call := func() string {
		return b.send(t, envPage+"/invoke", b.form(t, "method", "GET", "path", "/")).body
	}
	s.provider.answers(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("é", maxShown)) })
	cut := call()
	require.Contains(t, cut, "only the first 1 MiB is shown")
	require.Equal(t, maxShown/2, strings.Count(cut, "é"))
	s.provider.answers(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte{0x89, 'P', 'N', 'G', 0, 255, '<'})
	})
	require.Contains(t, call(), "89 50 4e 47 00 ff 3c")
	s.provider.answers(func(w http.ResponseWriter, _ *http.Request) {})
	require.Contains(t, call(), "The body is empty.")
	s.provider.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(http.StatusFound)
	})
	require.Contains(t, call(), "302 Found", "a redirect is shown, not followed")
	s.provider.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		fmt.Fprint(w, strings.Repeat("half", 50000))
		w.(http.Flusher).Flush()
	})
	require.Contains(t, call(), "ended before its end")
}

// TestInvokeWithToken: a function that asks for tokens gets one that is good for it
// alone, and none that is good for anything else.
func TestInvokeWithToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	const page = "/ui/functions/openfaas-fn/secret/invoke"
	var got []string
	s.provider.answers(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Authorization"))
		fmt.Fprint(w, "fine")
	})
	admin := s.browser(t)
	admin.loginByPassword(t)
	require.Contains(t, admin.get(t, page).body, "you have logged in with a password")
	require.Contains(t, admin.send(t, page, admin.form(t, "method", "GET", "path", "/", "token", "true")).body, "fine")
	require.Equal(t, []string{""}, got)

	s.grant(t, "alice", "Function:Get", "openfaas-fn:*", "Function:Invoke", "openfaas-fn:secret", "Function:Invoke", "dev:*")
	alice := s.browser(t)
	alice.loginAtProvider(t)
	require.Contains(t, alice.get(t, page).body, `name="token" value="true" checked`)
	answer := alice.send(t, page, alice.form(t, "method", "GET", "path", "/", "token", "true"))
	require.Contains(t, answer.body, "a function token")
	require.Len(t, got, 2)
	require.NotContains(t, answer.body, "eyJ")
	claims := apiClaims(strings.TrimPrefix(got[1], "Bearer "))
	require.Equal(t, map[string]any{"permissions": []any{"openfaas-fn:secret", "dev:*"}, "audience": []any{"openfaas-fn:secret"}}, claims["function"])
	require.Nil(t, claims["policy"])
	alice.send(t, page, alice.form(t, "method", "GET", "path", "/"))
	require.Equal(t, "", got[2], "she did not want one")
	alice.send(t, page, alice.form(t, "method", "GET", "path", "/", "token", "true", "headers", "Authorization: Mine"))
	require.Equal(t, "Mine", got[3])
	alice.send(t, envPage+"/invoke", alice.form(t, "method", "GET", "path", "/", "token", "true"))
	require.Equal(t, "", got[4], "a function that asks for none gets none")

	s.grant(t, "alice", "Function:Get", "openfaas-fn:*")
	refused := alice.send(t, page, alice.form(t, "method", "GET", "path", "/kept", "token", "true"))
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Contains(t, refused.body, "There is no function token for you")
	require.Contains(t, refused.body, `value="/kept"`)
	require.Len(t, got, 5)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginByPassword(t)
	require.Contains(t, b.get(t, envPage+"/logs").body, "The function has written nothing yet.")
	began := time.Date(2026, 11, 22, 8, 0, 0, 1234, time.UTC)
	s.provider.prints(began, "<script>alert(1)</script>\n")
	s.provider.prints(began, "second")
	page := b.get(t, envPage+"/logs").body
	require.Contains(t, page, `08:00:00</time>&lt;script&gt;alert(1)&lt;/script&gt;`+"\n<time")
	require.NotContains(t, page, "<script>alert")
	require.Equal(t, http.StatusNotFound, b.get(t, "/ui/functions/openfaas-fn/nope/logs").status)
	path := strings.ReplaceAll(regexpFind(t, `data-log="([^"]+)"`, page), "&amp;", "&")

	events, stop := b.stream(t, path, "")
	require.Equal(t, "retry: 2000", <-events)
	s.provider.prints(began, "third, of the same time")
	s.provider.prints(began.Add(time.Second), "line\nid: forged\n\u2028<b>\r\n")
	require.Equal(t, "id: 2026-11-22T08:00:00.000001234Z/3", <-events, "what is on the page is not sent again")
	require.Equal(t, `data: {"time":"08:00:00","exact":"2026-11-22T08:00:00.000001234Z","instance":"env-1","text":"third, of the same time"}`, <-events)
	require.Equal(t, "id: 2026-11-22T08:00:01.000001234Z/1", <-events)
	require.Contains(t, <-events, `"text":"line\nid: forged\n\u2028\u003cb\u003e"}`)
	stop()
	require.Eventually(t, func() bool { return s.provider.reading() == 0 }, 20*time.Second, 20*time.Millisecond, "nobody reads, but the stream goes on")

	// It goes on where it was; and ends with the session.
	events, _ = b.stream(t, path, "2026-11-22T08:00:00.000001234Z/3")
	<-events
	require.Equal(t, "id: 2026-11-22T08:00:01.000001234Z/1", <-events)
	<-events
	b.send(t, "/ui/logout", b.form(t))
	for range events {
	}
	require.Eventually(t, func() bool { return s.provider.reading() == 0 }, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, http.StatusSeeOther, b.get(t, path).status)

	b.loginByPassword(t)
	for _, bad := range []string{"x", "2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z/0", "2026-11-22T08:00:00Z/-1"} {
		require.Equal(t, http.StatusBadRequest, b.get(t, envPage+"/logs/stream?from="+url.QueryEscape(bad)).status, bad)
	}
	for range maxStreams {
		events, _ := b.stream(t, path, "")
		<-events
	}
	require.Equal(t, http.StatusTooManyRequests, b.get(t, path).status)
}

// stream reads a stream's lines, but for the empty ones and the beats.
func (b *browser) stream(t *testing.T, path, last string) (lines <-chan string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.site.url+path, nil)
	require.NoError(t, err)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	client := *b.Client
	client.Timeout = 0
	response, err := client.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	ch := make(chan string, 100)
	go func() {
		defer close(ch)
		defer response.Body.Close()
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			if line := scanner.Text(); line != "" && line != ":" {
				ch <- line
			}
		}
	}()
	return ch, cancel
}

func TestExplain(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	admin, alice := s.browser(t), s.browser(t)
	admin.loginByPassword(t)
	alice.loginAtProvider(t)
	ask := func(b *browser, pairs ...string) got { t.Helper(); return b.send(t, "/ui/iam", b.form(t, pairs...)) }

	page := alice.get(t, "/ui/iam")
	require.Contains(t, page.body, "Who may do everything can ask about others.")
	require.NotContains(t, page.body, `name="claims"`)
	granted := ask(alice, "action", "Function:Get", "resource", "openfaas-fn:env")
	for _, want := range []string{`<span class="badge good">allowed</span> <code>Function:Get on openfaas-fn:env</code>, by you`, "<code>people</code>", "<code>looks</code>", "grants it</span> on <code>openfaas-fn:env</code>"} {
		require.Contains(t, granted.body, want)
	}
	refused := ask(alice, "action", "Function:Get", "resource", "openfaas-fn:secret")
	require.Contains(t, refused.body, `<span class="badge bad">not allowed</span>`)
	require.Contains(t, refused.body, "does not cover openfaas-fn:secret")
	for _, resource := range []string{"env", "a:b:c", "openfaas-fn:*", "a b:x", ":"} {
		g := ask(alice, "action", "Function:Get", "resource", resource)
		require.Equal(t, http.StatusBadRequest, g.status, resource)
		require.Contains(t, g.body, `id="resource-wrong"`, resource)
	}
	require.Equal(t, http.StatusBadRequest, ask(alice, "action", "Function:Run").status)

	// What names others is not for her: their roles, and what they would match.
	s.grant(t, "bob", "Function:Get", "openfaas-fn:env")
	hers := ask(alice, "action", "Function:Get", "resource", "openfaas-fn:env")
	require.NotContains(t, hers.body, "bob")
	require.NotContains(t, hers.body, "<code>people</code>")
	s.objects.Store(conditional(t, s))
	cut := ask(alice, "action", "Function:Get", "resource", "openfaas-fn:env")
	require.Contains(t, cut.body, "condition.StringEqual.jwt:sub: the claim is")
	require.NotContains(t, cut.body, "bob", "nor who is named in conditions")
	s.grant(t, "alice", "*", "*")
	require.Contains(t, alice.get(t, "/ui/iam").body, `name="claims"`, "who may do everything")

	require.Contains(t, ask(admin, "action", "Function:Get").body, "You have logged in as the administrator")
	claims := fmt.Sprintf(`{"iss":%q,"sub":"mallory <b>"}`, s.idp.url)
	others := ask(admin, "action", "Function:Get", "resource", "openfaas-fn:env", "claims", claims)
	for _, want := range []string{"by <code>mallory &lt;b&gt;</code>", "want &#34;alice&#34;", "No policies found for subject", "taken to be right: iat, exp, aud"} {
		require.Contains(t, others.body, want)
	}
	require.Contains(t, ask(admin, "action", "Function:Get", "claims", strings.Replace(claims, "mallory <b>", "alice", 1)).body, `good">allowed`)
	require.Contains(t, ask(admin, "action", "Function:Get", "claims", strings.Replace(claims, `"sub"`, `"exp":17,"sub"`, 1)).body, "the token has expired")
	for _, wrong := range []string{"eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "[]", "{", `{"a":1}{`} {
		g := ask(admin, "action", "Function:Get", "claims", wrong)
		require.Equal(t, http.StatusBadRequest, g.status, wrong)
		require.NotContains(t, g.body, "eyJ", "a token is not shown again")
		require.Contains(t, g.body, `id="claims-wrong"`)
	}
	unknown := newSite(t, func(c *Config) { c.Objects = func() *iam.Set { return nil } }).browser(t)
	unknown.loginByPassword(t)
	require.Equal(t, http.StatusServiceUnavailable, ask(unknown, "action", "Function:Get", "claims", claims).status)
}

// conditional is a policy that is bob's alone.
func conditional(t *testing.T, s *site) *iam.Set {
	t.Helper()
	set, problems := iam.Compile(iam.Objects{
		Issuers: []iam.JwtIssuer{{Metadata: iam.Metadata{Name: "idp"}, Spec: iam.JwtIssuerSpec{Iss: s.idp.url, Aud: []string{"dashboard"}, TokenExpiry: "30m"}}},
		Policies: []iam.Policy{{Metadata: iam.Metadata{Name: "looks"}, Spec: iam.PolicySpec{Statement: []iam.Statement{{
			Effect: "Allow", Action: []string{"Function:Get"}, Resource: []iam.Resource{"*"},
			Condition: iam.Condition{"StringEqual": {"jwt:sub": {"fed:bob"}}},
		}}}}},
	})
	require.Empty(t, problems)
	return set
}

func TestPairs(t *testing.T) {
	t.Parallel()
	got, err := parsePairs("A=1\r\n B =  x=y \n\nC=\n\"D=\"=\"e\\nf\"\n")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"A": "1", "B": "  x=y ", "C": "", "D=": "e\nf"}, got)
	for text, want := range map[string]string{
		"A": "line 1: want NAME=value", "A=1\n=hunter2": "line 2: want NAME=value", "A=1\nA=2": `line 2: "A" is there twice`,
		`A="hunter2`: "line 1: a value that begins with", `"A=hunter2`: "line 1: the name's quotation marks",
	} {
		_, err := parsePairs(text)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func FuzzPairs(f *testing.F) {
	f.Add("A", "1", "B=", "\"\r\n")
	f.Add("", " ", "\n", "=")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		m := map[string]string{strings.ToValidUTF8(n1, "?"): strings.ToValidUTF8(v1, "?"), strings.ToValidUTF8(n2, "?"): strings.ToValidUTF8(v2, "?")}
		got, err := parsePairs(strings.ReplaceAll(formatPairs(m), "\n", "\r\n"))
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("A: b\nC:d")
	f.Add("A b: c\r\n: x")
	f.Fuzz(func(t *testing.T, text string) {
		header, err := parseHeaders(text)
		if err != nil {
			return
		}
		var out strings.Builder
		require.NoError(t, header.Write(&out))
		n := 0
		for _, values := range header {
			n += len(values)
		}
		require.Equal(t, n, strings.Count(out.String(), "\n"), "a line is one header")
	})
}
