package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asked is a plugin that remembers what it was last asked.
type asked struct {
	*httptest.Server
	mu     sync.Mutex
	times  int
	last   *http.Request
	body   string
	answer http.HandlerFunc
}

func newPluginServer(t *testing.T, answer http.HandlerFunc) *asked {
	t.Helper()
	p := &asked{answer: answer}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.times, p.last, p.body = p.times+1, r, string(body)
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// take returns what was asked since the last take, and how often.
func (p *asked) take() (times int, last *http.Request, body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	times, last, body = p.times, p.last, p.body
	p.times, p.last, p.body = 0, nil, ""
	return times, last, body
}

func (p *asked) set(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// newFront is a gateway that asks the plugin at this URL.
func newFront(t *testing.T, plugin string, change func(*Config)) *api {
	t.Helper()
	at, err := url.Parse(plugin)
	require.NoError(t, err)
	return newAPI(t, func(c *Config) {
		c.AuthPlugin = at
		if change != nil {
			change(c)
		}
	})
}

// TestPluginDecides: 2xx lets a request pass, whoever sends it; anything else
// is the answer to it.
func TestPluginDecides(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, status(200))
	a := newFront(t, p.URL+"/validate?v=1", nil)
	a.grant(t, "*", "*")
	token := "Bearer " + a.token(t, nil)
	for _, code := range []int{200, 202, 204} {
		p.set(status(code))
		for _, authorization := range []string{"", "Basic eDp5", "Token x"} {
			got, answer := a.send(t, "GET", "/system/namespace/dev", authorization, "")
			require.Equal(t, 200, got, answer)
			require.Equal(t, "Namespace dev", a.take())
		}
	}
	got, _ := a.send(t, "GET", "/system/nonsense", "", "")
	require.Equal(t, 404, got)
	require.Empty(t, a.take())

	for _, code := range []int{300, 302, 304, 400, 401, 403, 404, 429, 500, 503} {
		p.set(func(w http.ResponseWriter, _ *http.Request) {
			for _, h := range []string{"Location: http://elsewhere.test/login", "WWW-Authenticate: Bearer realm=x", "WWW-Authenticate: Basic realm=y",
				"Set-Cookie: a=1", "Set-Cookie: b=2", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 5", "Proxy-Authenticate: Basic", "X-Request-Id: its"} {
				name, value, _ := strings.Cut(h, ": ")
				w.Header().Add(name, value)
			}
			w.WriteHeader(code)
			if code != 304 {
				_, _ = io.WriteString(w, "no\n")
			}
		})
		p.take()
		for _, authorization := range []string{"", asAdmin, token} {
			for _, target := range []string{"/system/namespace/dev", "/system/nonsense", "/system/info"} {
				res, answer := a.sendRaw(t, "GET", target, authorization, "", "X-Request-Id: mine")
				require.Equal(t, code, res.StatusCode, "a stranger does not learn which routes exist")
				if code != 304 {
					require.Equal(t, "no\n", answer)
				}
				require.Equal(t, "http://elsewhere.test/login", res.Header.Get("Location"), "it is not followed")
				require.ElementsMatch(t, []string{"Bearer realm=x", "Basic realm=y"}, res.Header.Values("WWW-Authenticate"))
				require.ElementsMatch(t, []string{"a=1", "b=2"}, res.Header.Values("Set-Cookie"))
				require.Equal(t, []string{"mine"}, res.Header.Values("X-Request-Id"))
				for _, hop := range []string{"X-Hop", "Keep-Alive", "Proxy-Authenticate"} {
					require.Empty(t, res.Header.Values(hop), hop)
				}
			}
		}
		times, last, _ := p.take()
		require.Equal(t, 9, times)
		require.Equal(t, "/validate?v=1", last.RequestURI)
	}
	require.Empty(t, a.take())
	require.Contains(t, a.log.String(), `"request_id":"mine","method":"GET","path":"/system/info"`)
	require.Contains(t, a.log.String(), `refused: the auth plugin answered 403`)
	for _, secret := range []string{"eyJ", asAdmin[6:], "eDp5"} {
		require.NotContains(t, a.log.String(), secret)
	}
	got, _ = a.send(t, "GET", "/validate", asAdmin, "")
	require.Equal(t, 404, got, "a gateway that asks another one answers none")
	times, _, _ := p.take()
	require.Zero(t, times)
}

// TestPluginIsToldTheTruth: what describes a request is written by us, whatever
// the caller says.
func TestPluginIsToldTheTruth(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, status(200))
	a := newFront(t, p.URL, nil)
	forged := []string{
		"X-Forwarded-Uri: /system/info", "x-forwarded-uri: /system/info", "X-FORWARDED-URI: /system/info", "X_Forwarded_Uri: /system/info", "X-Forwarded_uri: /system/info",
		"X-Forwarded-Method: GET", "x_forwarded-method: GET", "X-Forwarded-Host: evil.test", "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1",
		"X.Forwarded.Uri: /system/info", "X~Forwarded-Method: GET",
		"X-Original-Uri: /system/info", "X-Original-Url: /system/info", "X-Original-Method: GET", "X-Rewrite-Url: /system/info",
		"X-HTTP-Method-Override: GET", "X-Forwarded-Path: /system/info", "X-Request-Id: a", "X-Request-Id: b",
		"Connection: x-forwarded-uri, X-Forwarded-Method, X-Dropped", "X-Dropped: 1", "TE: trailers", "Keep-Alive: 5", "Upgrade: websocket", "Proxy-Authorization: Basic x",
		"Cookie: session=1", "X-Custom: one", "x-custom: two",
	}
	got, answer := a.send(t, "DELETE", "/system/namespace/dev?a=%2f&b", "Bearer x", `{"name":"dev"}`, forged...)
	require.Equal(t, 202, got, answer)
	times, r, body := p.take()
	require.Equal(t, 1, times)
	require.Equal(t, "DELETE", r.Method)
	require.Equal(t, "/", r.RequestURI)
	require.Empty(t, body, "it is not asked to be passed")
	require.Equal(t, p.Listener.Addr().String(), r.Host)
	id := r.Header.Get("X-Request-Id")
	require.Regexp(t, `^[0-9a-f-]{36}$`, id)
	require.Equal(t, http.Header{
		"Authorization": {"Bearer x"}, "Cookie": {"session=1"}, "X-Custom": {"one", "two"}, "User-Agent": {"Go-http-client/1.1"},
		"X-Forwarded-Method": {"DELETE"}, "X-Forwarded-Uri": {"/system/namespace/dev?a=%2f&b"}, "X-Forwarded-Host": {"gateway.test"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Request-Id": {id},
	}, r.Header)
	require.Equal(t, "DeleteNamespace dev", a.take())

	_, _ = a.send(t, "GET", "http://gateway.test/system/namespace/dev?x", "", "")
	_, r, _ = p.take()
	require.Equal(t, "/system/namespace/dev?x", r.Header.Get("X-Forwarded-Uri"))
	require.Equal(t, "Namespace dev", a.take())

	// What a plugin could read in another way is not asked.
	for _, c := range []struct {
		method, target string
		status         int
		headers        []string
	}{
		{"GET", "/system/namespace/prod#/system/namespace/dev", 400, nil},
		{"GET", "/system/functions?a#&namespace=prod", 400, nil},
		{"GET", "/system/namespace/d\xc3\xa9v", 400, nil},
		{"CONNECT", "/system/namespace/dev", 405, nil},
		{"TRACE", "/system/namespace/dev", 405, nil},
		{"delete", "/system/namespace/dev", 405, nil},
		{"GET", "/system/namespace/dev", 400, []string{"X(Custom): 1"}},
		{"GET", "/system/namespace/dev", 400, []string{"X-Custom: \x01"}},
		{"GET", "/system/namespace/dev", 400, []string{"Host: a\x01b"}},
		{"GET", "/system/namespace/dev", 403, []string{"Origin: http://evil.test"}},
		{"GET", "/system/namespace/dev", 403, []string{"Origin: http://evil.test", "Cookie: session=1"}},
	} {
		got, answer := a.send(t, c.method, c.target, "Bearer x", "", c.headers...)
		require.Equal(t, c.status, got, "%s %s: %s", c.method, c.target, answer)
		times, _, _ := p.take()
		require.Zero(t, times, "%s %s %s", c.method, c.target, c.headers)
	}
	require.Empty(t, a.take())
	got, _ = a.send(t, "GET", "/system/namespace/dev", "", "", "Origin: http://gateway.test")
	require.Equal(t, 200, got)
}

// TestPluginBody: the plugin reads what is carried out.
func TestPluginBody(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-Method") == "" {
			w.WriteHeader(500)
		}
	})
	a := newFront(t, p.URL, func(c *Config) { c.AuthPassBody = true })
	sent := `{ "service":"new","namespace":"dev", "image":"i" }`
	got, answer := a.send(t, "POST", "/system/functions", "", sent)
	require.Equal(t, 202, got, answer)
	_, r, body := p.take()
	require.Equal(t, sent, body)
	require.True(t, r.Close, "what is left of a body is no further question")
	require.Equal(t, int64(len(sent)), r.ContentLength)
	require.Equal(t, "Deploy new.dev i", a.take())

	// In chunks.
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(conn, "POST /system/functions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"%x\r\n%s\r\n0\r\n\r\n", len(sent), sent)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	text, _ := io.ReadAll(res.Body)
	require.Equal(t, 202, res.StatusCode, "%s", text)
	_, r, body = p.take()
	require.Equal(t, sent, body)
	require.Equal(t, []string{"/system/functions"}, r.Header.Values("X-Forwarded-Uri"))
	require.Equal(t, "Deploy new.dev i", a.take())

	got, _ = a.send(t, "POST", "/system/functions", "", strings.Repeat("x", maxBody+1))
	require.Equal(t, 413, got)
	times, _, _ := p.take()
	require.Zero(t, times)
	p.set(status(401))
	got, _ = a.send(t, "POST", "/system/functions", "", sent)
	require.Equal(t, 401, got)
	require.Empty(t, a.take())
}

// TestPluginBodiesAreBounded: strangers cannot have the memory filled with what the
// plugin is still to be asked about.
func TestPluginBodiesAreBounded(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, status(200))
	a := newFront(t, p.URL, func(c *Config) { c.AuthPassBody = true })
	// They say how much they send, and do not send it.
	var strangers []net.Conn
	for range maxUnjudged / maxBody {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /system/functions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n{", maxBody)
		require.NoError(t, err)
		strangers = append(strangers, conn)
	}
	deploys := func() int {
		got, _ := a.send(t, "POST", "/system/functions", "", `{"service":"new","namespace":"dev"}`)
		return got
	}
	require.Eventually(t, func() bool { return a.gateway.plugin.unjudged.Load() == maxUnjudged }, 10*time.Second, time.Millisecond)
	require.Equal(t, 503, deploys())
	got, _ := a.send(t, "GET", "/system/namespace/dev", "", "")
	require.Equal(t, 200, got, "what has no body is not in their way")
	for _, conn := range strangers {
		conn.Close()
	}
	require.Eventually(t, func() bool { return deploys() == 202 }, 10*time.Second, 10*time.Millisecond)
}

// TestPluginFails: nobody gets in when the plugin gives no good answer.
func TestPluginFails(t *testing.T) {
	t.Parallel()
	raw := func(answer string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, answer)
				}()
			}
		}()
		return "http://" + l.Addr().String()
	}
	slow := newPluginServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	stuck := newPluginServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(401)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	tls := httptest.NewUnstartedServer(status(200))
	tls.Config.ErrorLog = quiet
	tls.StartTLS()
	t.Cleanup(tls.Close)
	for name, c := range map[string]struct {
		url    string
		status int
		says   string
	}{
		"nobody listens":      {"http://127.0.0.1:1", 502, "the auth plugin cannot be reached\n"},
		"hangs up":            {raw(""), 502, "cannot be reached"},
		"no HTTP":             {raw("OK\r\n\r\n"), 502, "cannot be reached"},
		"cut short":           {raw("HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\nno"), 502, "cannot be reached"},
		"bad status":          {raw("HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), 502, "a bad answer"},
		"switches protocols":  {raw("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 502, "a bad answer"},
		"long answer":         {raw("HTTP/1.1 401 No\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat("x", maxRefusal+1)), 502, "a bad answer"},
		"long header":         {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"), 502, "cannot be reached"},
		"unknown certificate": {tls.URL, 502, "cannot be reached"},
		"slow":                {slow.URL, 504, "the auth plugin gave no answer within 500ms\n"},
		"stuck in its answer": {stuck.URL, 504, "within 500ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newFront(t, c.url+"/?key=geheim", func(config *Config) {
				if c.status == 504 {
					config.UpstreamTimeout = 500 * time.Millisecond
				}
			})
			got, answer := a.send(t, "GET", "/system/info", asAdmin, "")
			require.Equal(t, c.status, got, answer)
			require.Contains(t, answer, c.says)
			require.Empty(t, a.take())
			require.Contains(t, a.log.String(), `"level":"error","request_id":"`)
			require.NotContains(t, a.log.String(), asAdmin[6:])
			require.NotContains(t, a.log.String(), "geheim")
		})
	}
}

// TestFollowLogsUntilRefused: who follows a log is asked about again.
func TestFollowLogsUntilRefused(t *testing.T) {
	t.Parallel()
	soon := func(c *Config) { c.RecheckEvery = 20 * time.Millisecond }
	follow := func(a *api, authorization string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, a.url+"/system/logs?name=env&namespace=dev&follow=1", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", authorization)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		require.Equal(t, 200, res.StatusCode)
		return res
	}
	ends := func(a *api, res *http.Response) {
		select {
		case <-a.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("it is followed for ever")
		}
		_, err := io.ReadAll(res.Body)
		require.NoError(t, err, "the stream ends in order")
		require.Contains(t, a.log.String(), "logs are no longer followed: ")
	}

	a := newAPI(t, soon)
	a.grant(t, "Function:Logs", "dev:*")
	res := follow(a, "Bearer "+a.token(t, nil))
	a.grant(t, "Function:Logs", "dev:cows")
	ends(a, res)
	require.Contains(t, a.log.String(), `"function":"env.dev","subject":"alice"`)

	p := newPluginServer(t, status(200))
	a = newFront(t, p.URL, soon)
	res = follow(a, "Bearer x")
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.times > 3 && p.last.Header.Get("Authorization") == "Bearer x"
	}, 20*time.Second, time.Millisecond)
	p.set(status(403))
	ends(a, res)
}

// TestPluginSeesNoSession: the dashboard's sessions are none of a plugin's business.
func TestPluginSeesNoSession(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, status(200))
	a := newFront(t, p.URL, func(c *Config) { c.Dashboard = &Dashboard{CookieMark: "gatehound-"} })
	status, _ := a.send(t, "GET", "/system/functions", "", "", "Cookie: a=1; __Host-gatehound-session=secret; b=2")
	require.Equal(t, 200, status)
	_, last, _ := p.take()
	require.Equal(t, []string{"a=1; b=2"}, last.Header.Values("Cookie"))
	require.Equal(t, []string{"127.0.0.1"}, last.Header.Values("X-Forwarded-For"))
	for from, told := range map[string]string{a.gateway.config.Guesses.Pass(): "192.0.2.1", "x": "127.0.0.1"} {
		a.send(t, "GET", "/system/functions", "", "", "X-Gatehound-Pass: "+from, "X-Forwarded-For: 192.0.2.1")
		_, last, _ = p.take()
		require.Equal(t, []string{told}, last.Header.Values("X-Forwarded-For"), "only the dashboard says whom it asks for")
	}
}
