package watchdog

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/test/freeport"
)

const hookSecret = "It's a Secret to Everybody"

// hookEnv is the environment of a function for GitHub.
func hookEnv(t *testing.T, env ...string) []string {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(hookSecret+"\r\n"), 0o600))
	return append([]string{"hmac_auth=github", "hmac_auth_secret_file=" + file}, env...)
}

// signature is GitHub's header for body.
func signature(body string) string {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(body))
	return fmt.Sprintf("X-Hub-Signature-256: sha256=%x", mac.Sum(nil))
}

func chunked(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 1000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

// TestWebhook: the function gets what was signed, in every mode, and nothing else
// reaches it.
func TestWebhook(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 60<<10) // 960 KiB, below 1 MiB
	echo := func(t *testing.T, p *program) {
		p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
		for _, body := range []string{"Hello, World!", "", strings.Repeat("x", 8<<10), large} {
			for range 2 {
				r := p.do("POST", "/echo", body, signature(body))
				require.Equal(t, 200, r.status, r.body)
				require.True(t, body == r.body, "%d bytes instead of %d", len(r.body), len(body))
			}
			res, err := client.Do(p.request("POST", "/echo", struct{ io.Reader }{strings.NewReader(body)}, signature(body))) // chunked
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, 200, res.StatusCode)
			require.True(t, body == string(b), "chunked: %d bytes instead of %d", len(b), len(body))
		}
		for _, c := range []struct {
			name, body string
			headers    []string
			want       string
		}{
			{"no signature", "x", nil, "the webhook's signature is missing: want X-Hub-Signature-256\n"},
			{"another body's", "x", []string{signature("y")}, "the webhook's signature is refused: it is not the body's by any of the secrets\n"},
			{"two", "x", []string{signature("x"), strings.ToLower(signature("x"))}, "the webhook's signature is refused: a header came more than once\n"},
			{"malformed", "x", []string{"X-Hub-Signature-256: sha256=hunter2"}, "the webhook's signature is refused: it is not 64 hexadecimal digits\n"},
		} {
			r := p.do("POST", "/echo", c.body, c.headers...)
			require.Equal(t, 401, r.status, c.name)
			require.Equal(t, c.want, r.body, c.name)
			require.Equal(t, `HMAC realm="webhook"`, r.header.Get("WWW-Authenticate"), c.name)
			require.Equal(t, "faas-middleware", r.header.Get("X-Openfaas-Internal"), c.name)
		}
		// One connection: after a refusal its next request is read from the right byte.
		got := p.raw("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + signature("other") + "\r\n\r\nhello" +
			"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + signature("hello") + "\r\n\r\n" + chunked("hello") +
			"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 6\r\n" + signature("hello!") + "\r\n\r\nhello!")
		require.Regexp(t, `(?s)^HTTP/1.1 401 .*HTTP/1.1 200 .*hello.*HTTP/1.1 200 .*hello!`, got)
		require.NotContains(t, p.stderr.String(), "Everybody")
		require.NotContains(t, p.stderr.String(), "hunter2")
	}
	t.Run("streaming", func(t *testing.T) { t.Parallel(); echo(t, start(t, hookEnv(t, "fprocess=cat")...)) })
	t.Run("serializing", func(t *testing.T) { t.Parallel(); echo(t, start(t, hookEnv(t, "fprocess=cat", "mode=serializing")...)) })
	t.Run("http", func(t *testing.T) { t.Parallel(); echo(t, start(t, hookEnv(t, httpEnv(t, 0)...)...)) })
	t.Run("http, buffered", func(t *testing.T) {
		t.Parallel()
		echo(t, start(t, hookEnv(t, httpEnv(t, 0, "buffer_http=true")...)...))
	})
	for _, kind := range []string{"http", "fast"} {
		t.Run("inproc "+kind, func(t *testing.T) {
			t.Parallel()
			p := launchProgram(t, os.Args[0], hookEnv(t, inprocVariable+"="+kind)...)
			p.awaitServing()
			echo(t, p)
		})
	}
}

// What the function sees of a signed request's framing.
func TestWebhookFraming(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, httpEnv(t, 0)...)...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	post := "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	large := strings.Repeat("x", 20_000)
	for _, c := range []struct{ name, request, want string }{
		{"chunked", post + signature("hello") + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked("hello"), "POST / length=5 body=5 <nil>"},
		{"chunked, name in lower case", post + signature("hello") + "\r\ntransfer-encoding: chunked\r\n\r\n" + chunked("hello"), "POST / length=5 body=5 <nil>"},
		{"chunked, large", post + signature(large) + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(large), "POST / length=20000 body=20000 <nil>"},
		{"chunked, empty", post + signature("") + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / length=0 body=0 <nil>"},
		{"of known length", post + signature("hello") + "\r\nContent-Length: 5\r\n\r\nhello", "POST / length=5 body=5 <nil>"},
		{"GET", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signature("") + "\r\n\r\n", "GET / length=0 body=0 <nil>"},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signature("hello") + "\r\nContent-Length: 5\r\n\r\nhello", "GET / length=5 body=5 <nil>"},
		{"HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\n" + signature("hello") + "\r\nContent-Length: 5\r\n\r\nhello", "POST / length=5 body=5 <nil>"},
		{"GET with an unsigned body", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signature("") + "\r\nContent-Length: 5\r\n\r\nhello", "refused: it is not the body's"},
		{"compressed bodies are signed as they are sent", post + signature("\x1f\x8b?") + "\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b?", "length=3 body=3 <nil>"},

		{"trailers that were announced", post + signature("hello") + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n", "trailers are not accepted here"},
		{"trailers that were not", post + signature("hello") + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n", "trailers are not accepted here"},
		{"the signature as a trailer", post + "Transfer-Encoding: chunked\r\nTrailer: X-Hub-Signature-256\r\n\r\n5\r\nhello\r\n0\r\n" + signature("hello") + "\r\n\r\n", "signature is missing"},
		{"ambiguous", post + signature("hello") + "\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked("hello"), " 400 "},
		{"not chunked", post + signature("hello") + "\r\nTransfer-Encoding: identity\r\n\r\nhello", " 400 "},
		{"bad chunk", post + signature("hello") + "\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", " 400 "},
	} {
		require.Contains(t, p.raw(c.request), c.want, c.name)
	}
	// Half a body is not taken for the whole one's, though it was signed.
	require.NotContains(t, p.halfClosed(post+signature("hello")+"\r\nContent-Length: 10\r\n\r\nhello"), "body=5")
	require.NotContains(t, p.halfClosed(post+signature("hello")+"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), "body=5")

	// An upgrade is a request with an empty body.
	upgrade := "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
	require.Contains(t, p.raw(upgrade+"Content-Length: 0\r\nConnection: close\r\n\r\n"), "401 Unauthorized")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, upgrade+signature("")+"\r\n\r\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, res.StatusCode)
	io.WriteString(conn, "ping\n")
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ping\n", line)
}

// TestWebhookLimits: a body that is too large, or too slow.
func TestWebhookLimits(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, "fprocess=wc -c", "hmac_auth_max_body=1000", "read_timeout=1s")...)
	exact, over := strings.Repeat("x", 1000), strings.Repeat("x", 1001)
	require.Equal(t, "1000\n", p.do("POST", "/", exact, signature(exact)).body)
	r := p.do("POST", "/", over, signature(over))
	require.Equal(t, 413, r.status)
	require.Equal(t, "bad request: body is too large to buffer: 1001 bytes, want at most 1000\n", r.body)
	require.NotContains(t, r.header, "X-Openfaas-Internal") // another try would not help

	post := "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	chunks := post + "Transfer-Encoding: chunked\r\n"
	require.Contains(t, p.raw(chunks+signature(exact)+"\r\n\r\n"+chunked(exact)), "1000\n")
	require.Contains(t, p.raw(chunks+signature(over)+"\r\n\r\n"+chunked(over)), "413 Request Entity Too Large")
	require.Contains(t, p.raw(chunks+signature("")+"\r\n\r\nffffffff\r\n"+over), "413 Request Entity Too Large")
	require.Contains(t, p.raw(post+"Content-Length: 99999999999\r\n"+signature(over)+"\r\n\r\nx"), "413 Request Entity Too Large")

	began := time.Now()
	require.Contains(t, p.raw(post+"Content-Length: 1000\r\n"+signature(exact)+"\r\n\r\nx"), "400 Bad Request")
	require.Less(t, time.Since(began), 5*time.Second)
	require.NotContains(t, p.raw(post+"Content-Length: 1000\r\n"+signature(exact)+"\r\n\r\nx"), "127.0.0.1")
}

// TestWebhookExpect: who would be refused is not invited.
func TestWebhookExpect(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, "fprocess=cat", "max_inflight=1", "hmac_auth_max_body=100")...)
	post := "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
	for _, c := range []struct{ request, want string }{
		{post + "Content-Length: 5\r\n\r\n", "401 Unauthorized"},
		{post + "Content-Length: 5\r\nX-Hub-Signature-256: sha256=00\r\n\r\n", "401 Unauthorized"},
		{post + "Content-Length: 500\r\n" + signature("hello") + "\r\n\r\n", "413 Request Entity Too Large"},
	} {
		got := p.raw(c.request)
		require.Contains(t, got, c.want)
		require.NotContains(t, got, "100 Continue")
	}
	for body, want := range map[string]string{"hello": "200 OK", "hullo": "401 Unauthorized"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, post+"Content-Length: 5\r\n"+signature("hello")+"\r\n\r\n")
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
		// Nobody takes a slot by a header alone.
		require.Equal(t, 200, p.get("/_/ready").status)
		io.WriteString(conn, body)
		rest, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Contains(t, string(rest), want)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	io.WriteString(conn, post+"Content-Length: 5\r\n"+signature("hello")+"\r\n\r\nhe")
	conn.Close()
	p.logged(`POST / - 499 `)
	require.Equal(t, "hello", p.do("POST", "/", "hello", signature("hello")).body)
}

// TestWebhookBesideTokens: a signature decides where there is one, else the token.
func TestWebhookBesideTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	port := freeport.Take()
	p := start(t, hookEnv(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev",
		"metrics_port="+port)...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	good := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour)
	bad := "Authorization: Bearer " + i.token(t, "dev:other", time.Hour)
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"neither", nil, 401},
		{"a token", []string{good}, 200},
		{"another function's token", []string{bad}, 403},
		{"a signature", []string{signature("x")}, 200},
		{"another body's", []string{signature("y")}, 401},
		{"both", []string{good, signature("x")}, 200},
		{"a token, and another body's", []string{good, signature("y")}, 401},
		{"another function's token, and a signature", []string{bad, signature("x")}, 200},
		{"a token, and an empty signature", []string{good, "X-Hub-Signature-256: "}, 401},
	} {
		require.Equal(t, c.status, p.do("POST", "/", "x", c.headers...).status, c.name)
	}
	require.Equal(t, "Bearer realm=IAM function invoke", p.get("/").header.Get("WWW-Authenticate"))
	text := scrape(t, port)
	for result, n := range map[string]int{"ok": 4, "no_bearer": 2, "no_signature": 0, "invalid": 3, "forbidden": 1} {
		require.Contains(t, text, fmt.Sprintf("gatehound_auth_total{result=%q} %d\n", result, n))
	}
}

// TestWebhookBesideClaims: a signature vouches for nobody, so the function sees no
// X-Auth-*, whoever has sent it, and no token; and the body is whole for all that.
func TestWebhookBesideClaims(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	for _, env := range [][]string{httpEnv(t, 0), {"mode=streaming", script("env; cat")}} {
		p := start(t, hookEnv(t, append(env, "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev",
			"jwt_auth_headers=sub", "jwt_auth_forward_token=false", "jwt_auth_skip_paths=/open,/headers")...)...)
		p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
		head := "POST /headers HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer geheim\r\nX-Auth-Subject: mallory\r\nx_auth_subject: mallory\r\n"
		const body = "the whole body"
		for _, framed := range []string{
			"Content-Length: 14\r\n" + signature(body) + "\r\n\r\n" + body,
			"Transfer-Encoding: chunked\r\n" + signature(body) + "\r\n\r\n" + chunked(body),
		} {
			got := p.raw(head + framed)
			require.Contains(t, got, "200 OK")
			require.Contains(t, got, body)
			require.NotContains(t, got, "mallory")
			require.NotContains(t, got, "geheim")
			require.NotContains(t, got, "Transfer_Encoding")
			require.Equal(t, env[0] == "mode=streaming", strings.Count(got, "Http_Content_Length=14\n") == 1)
		}
		// A path that needs no token is no way around a signature that is wrong.
		require.Equal(t, 401, p.do("POST", "/open", "x", signature("y")).status)
		require.Equal(t, 200, p.do("POST", "/open", "x").status)
	}
}

// TestHangupReloadsSecrets: one that has been taken out opens nothing any more.
func TestHangupReloadsSecrets(t *testing.T) {
	t.Parallel()
	env := hookEnv(t, "fprocess=cat")
	file := strings.TrimPrefix(env[1], "hmac_auth_secret_file=")
	p := start(t, env...)
	require.Equal(t, 200, p.do("POST", "/", "x", signature("x")).status)
	require.NoError(t, os.WriteFile(file, []byte("a new secret"), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.logged("Reloaded the secrets of hmac_auth")
	require.Equal(t, 401, p.do("POST", "/", "x", signature("x")).status)
	require.NotContains(t, p.stderr.String(), "a new secret")
}

// TestWebhookPaths: nothing but the two health checks is free.
func TestWebhookPaths(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, "fprocess=cat")...)
	for target, status := range map[string]int{
		"/_/health": 200, "/_/ready": 200, "/_/health?x": 200,
		"/": 401, "/_/health/": 401, "/%5f/health": 401, "//_/health": 401, "/x/../_/health": 401, "/_/Ready": 401, "/metrics": 401,
	} {
		require.Equal(t, status, p.get(target).status, target)
	}
}

// TestWebhooksComeBeforeTheLimit: who has no signature does not use up
// max_inflight, however slowly the body comes.
func TestWebhooksComeBeforeTheLimit(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, "fprocess=cat", "max_inflight=1")...)
	for range 5 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"+signature("")+"\r\n\r\nx")
	}
	require.Equal(t, 200, p.do("POST", "/", "x", signature("x")).status)
}

// TestWebhookFlood: 200 clients who lie about bodies of 1 MiB hold the memory for
// 32 of them, and give it back when they go.
func TestWebhookFlood(t *testing.T) {
	t.Parallel()
	p := start(t, hookEnv(t, "fprocess=cat")...)
	body := strings.Repeat("x", 1<<20)
	var conns []net.Conn
	statuses := make(chan string, 200)
	lie := func(n int) {
		for range n {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			conns = append(conns, conn)
			go func() {
				io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n"+signature("")+"\r\n\r\n")
				io.WriteString(conn, body[:len(body)-1]) // and never the last byte
				if line, _ := bufio.NewReader(conn).ReadString('\n'); line != "" {
					statuses <- line
				}
			}()
		}
	}
	ask := func() reply { return p.do("POST", "/", body, signature(body)) }
	before := memory(t, p.cmd.Process.Pid)
	lie(200)
	for range 200 - 32 {
		select {
		case status := <-statuses:
			require.Contains(t, status, "503 ")
		case <-time.After(20 * time.Second):
			require.Fail(t, "the memory for unverified bodies is not bounded")
		}
	}
	grown := memory(t, p.cmd.Process.Pid) - before
	t.Logf("200 liars: %d MiB", grown>>20)
	if !raceEnabled { // which takes several times as much
		require.Less(t, grown, 160<<20)
	}
	for _, conn := range conns {
		conn.Close()
	}
	p.eventually(func() bool { return ask().status == 200 }, "room after they have gone")
}

// TestWebhookMemoryIsGivenBack: whatever becomes of a request.
func TestWebhookMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	settings, err := config.ParseWatchdog(hookEnv(t, "mode=inproc", "listen=unix://"+socket, "metrics_port=0", "healthcheck_interval=0",
		"hmac_auth_max_body=100000", "suppress_lock=true", "read_timeout=1s"))
	require.NoError(t, err)
	w, err := New(Config{Settings: settings, Stderr: io.Discard, FastHandler: func(*fasthttp.RequestCtx) { panic("function") }})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	left := func() int {
		w.webhooks.unverified.mu.Lock()
		defer w.webhooks.unverified.mu.Unlock()
		return w.webhooks.unverified.left
	}
	require.Equal(t, 32<<20, left())
	eventually := func(f func() bool, what string) {
		t.Helper()
		require.Eventually(t, f, 10*time.Second, time.Millisecond, what)
	}
	eventually(func() bool { // there is a file before anybody listens
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, "a listener")
	body := strings.Repeat("x", 70_000)
	post := "POST / HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct {
		name, request string
		leave         bool // before there is an answer
		want          string
	}{
		{"handler panics", post + "Content-Length: 70000\r\n" + signature(body) + "\r\n\r\n" + body, false, " 500 "},
		{"bad signature", post + "Content-Length: 70000\r\n" + signature("") + "\r\n\r\n" + body, false, " 401 "},
		{"too large", post + "Transfer-Encoding: chunked\r\n" + signature("") + "\r\n\r\n" + chunked(body+body), false, " 413 "},
		{"bad chunk", post + "Transfer-Encoding: chunked\r\n" + signature("") + "\r\n\r\n1\r\nx\r\nx", false, " 400 "},
		{"too slow", post + "Content-Length: 80000\r\n" + signature("") + "\r\n\r\n" + body, false, " 400 "},
		{"leaves", post + "Content-Length: 80000\r\n" + signature("") + "\r\n\r\n" + body, true, ""},
	} {
		conn, err := net.Dial("unix", socket)
		require.NoError(t, err)
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.WriteString(conn, c.request)
		require.NoError(t, err)
		if c.leave {
			eventually(func() bool { return left() < 32<<20 }, "a body on its way")
		} else {
			line, err := bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err, c.name)
			require.Contains(t, line, c.want, c.name)
		}
		conn.Close()
		eventually(func() bool { return left() == 32<<20 }, c.name)
	}

	// A body has what it has sent, or twice that, whatever it says.
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, post+"Content-Length: 100000\r\n"+signature("")+"\r\n\r\nx")
	require.NoError(t, err)
	eventually(func() bool { return left() < 32<<20 }, "a body on its way")
	require.Equal(t, 32<<20-4096, left())
}

// memory returns a process' resident memory in bytes.
func memory(t *testing.T, pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /proc")
	}
	require.NoError(t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(t, m)
	n, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return n << 10
}

func TestWebhookSecretsAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file",
		dir:                           "want a regular file",
		fifo:                          "want a regular file",
		write("empty", ""):            "no secret",
		write("blank", " \r\n\n"):     "no secret",
		write("short", "hunter2\n"):   "line 1 has 7 bytes: want at least 8",
		write("binary", "\x7fELF\x02hunter2hunter2"):            "no text",
		write("large", strings.Repeat("hunter2hunter2\n", 1e4)): "want at most 65536 bytes",
	} {
		p := launch(t, "fprocess=cat", "hmac_auth=github", "hmac_auth_secret_file="+file)
		require.Equal(t, 1, p.exit())
		require.Contains(t, p.stderr.String(), "hmac_auth_secret_file: ")
		require.Contains(t, p.stderr.String(), file)
		require.Contains(t, p.stderr.String(), want)
		require.NotContains(t, p.stderr.String(), "hunter2")
	}
}

// TestWebhookRotation: new secrets are taken within ten seconds, bad ones never.
func TestWebhookRotation(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	write := func(content string) { require.NoError(t, os.WriteFile(file, []byte(content), 0o600)) }
	write(hookSecret)
	synctest.Test(t, func(t *testing.T) {
		var log output
		seen := 0
		h, err := newWebhooks(config.Watchdog{HMACAuth: "github", HMACSecretFile: file},
			func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) })
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go h.run(ctx)
		check := func(want error, logged string) {
			t.Helper()
			time.Sleep(2*secretsInterval + time.Second) // what is logged twice, shows
			synctest.Wait()
			name, value, _ := strings.Cut(signature("x"), ": ")
			s, err := h.verifier.Read(http.Header{name: {value}}.Values)
			require.NoError(t, err)
			require.Equal(t, want, errors.Unwrap(s.Verify([]byte("x"))))
			require.Equal(t, logged, log.String()[seen:])
			seen = log.Len()
		}
		refused := errors.Unwrap(func() error {
			s, err := h.verifier.Read(http.Header{"X-Hub-Signature-256": {"sha256=" + strings.Repeat("0", 64)}}.Values)
			require.NoError(t, err)
			return s.Verify(nil)
		}())
		require.Error(t, refused)
		check(nil, "")
		write("a new secret\n" + hookSecret)
		check(nil, "hmac_auth has new secrets: 2\n")
		write("short")
		const keeps = "hmac_auth keeps the secrets it has: "
		check(nil, keeps+file+": the secret in line 1 has 5 bytes: want at least 8\n")
		write("")
		check(nil, keeps+file+": there is no secret in it: want one a line\n")
		require.NoError(t, os.Remove(file))
		check(nil, keeps+"stat "+file+": no such file or directory\n")
		write("a new secret\n" + hookSecret + "\n")
		check(nil, "")
		write("a new secret")
		check(refused, "hmac_auth has new secrets: 1\n")
	})
}
