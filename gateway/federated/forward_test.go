package federated

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestRequestHeaders checks what of a request's header reaches the local gateway.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	f := newFed(t, nil, func(c *Config) { c.AllowInvoke = true })
	token := f.idp.token(t, nil, nil)
	header := []string{
		"aUTHORIZATION: Bearer " + token, "Proxy-Authorization: Basic cHJveHk6cHJveHk=", "Proxy_Authorization: Basic cHJveHk6cHJveHk=",
		"X-Original-Url: /function/x", "X_REWRITE_URL: /function/x", "x-rewrite-url: /function/y", "X-Call-Id: the-id", "X-Forwarded-For: 192.0.2.1",
		"X-Forwarded-Proto: https", "Connection: X-Kept, X-Call-Id, Authorization", "X-Kept: no", "Keep-Alive: timeout=5", "X-Own: yes", "User-Agent: curl",
	}
	for _, target := range []string{"/system/info", "/function/echo", "/async-function/echo"} {
		res, _ := f.send(t, "GET "+target, header...)
		require.Equal(t, http.StatusOK, res.StatusCode)
		got := f.local.last(t)
		want := http.Header{
			"X-Call-Id": {"the-id"}, "X-Forwarded-For": {"192.0.2.1, 127.0.0.1"}, "X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host": {"fed-gw.example.com"}, "X-Own": {"yes"}, "User-Agent": {"curl"},
		}
		if target == "/system/info" {
			want["Authorization"] = []string{password.Header()}
		}
		require.Equal(t, want, got.Header, "%s: a function sees no credentials at all", target)
		require.Equal(t, "gateway.openfaas:8080", got.Host, "not the caller's, which could lead the password elsewhere")
	}

	// A trailer may not bring back what was taken out.
	conn, err := net.Dial("tcp", f.address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /system/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"+
		"5\r\nhello\r\n0\r\nX-Late: late\r\nX-Original-Url: /x\r\n\r\n", token)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "local hello", string(body))
	require.Empty(t, f.local.last(t).Trailer)
	require.True(t, f.local.last(t).Close, "what was not read of the body must not be the next request")
	require.NotContains(t, f.log.String(), token)
}

// TestAnswers checks that nothing of the local gateway's credentials comes back.
func TestAnswers(t *testing.T) {
	t.Parallel()
	f := newFed(t, func(w http.ResponseWriter, r *http.Request) {
		own := r.Header.Get("Authorization")
		switch r.URL.Path {
		case "/system/echo", "/function/echo":
			maps.Copy(w.Header(), r.Header)
			w.Header()["x-lower"] = []string{"the header was " + own}
			w.Header().Set("X-Fine", "yes")
			w.Header().Add("Set-Cookie", "a=b")
		case "/system/parts":
			w.Header().Set("Location", "/?was="+url.QueryEscape(own))
			w.Header().Set("X-Bare", strings.TrimRight(own, "="))
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Trailer", "X-Trailer")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Trailer", own)
		case "/system/denied":
			w.Header().Set("WWW-Authenticate", `Basic realm="Restricted"`)
			w.Header().Set("X-Fine", "yes")
			http.Error(w, "invalid credentials "+own, http.StatusUnauthorized)
		case "/system/early":
			w.Header().Set("WWW-Authenticate", `Basic realm="Restricted"`)
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex() // else Go's server reads first
			w.WriteHeader(http.StatusUnauthorized)
			_ = control.Flush()
		case "/system/proxy":
			w.Header().Set("Proxy-Authenticate", "Basic realm=x")
			w.WriteHeader(http.StatusProxyAuthRequired)
		case "/system/forbidden":
			http.Error(w, "no", http.StatusForbidden)
		case "/function/guarded":
			w.Header().Add("WWW-Authenticate", "Bearer realm=IAM function invoke")
			w.Header().Add("WWW-Authenticate", "basic realm=x")
			http.Error(w, "insufficient", http.StatusUnauthorized)
		}
	}, func(c *Config) { c.AllowInvoke = true })
	bearer := f.bearer(t)

	res, _ := f.send(t, "GET /system/echo", bearer)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "yes", res.Header.Get("X-Fine"))
	require.Equal(t, "a=b", res.Header.Get("Set-Cookie"))
	require.Empty(t, res.Header.Get("X-Lower"))
	require.NotContains(t, fmt.Sprint(res.Header), password.Header()[6:])
	require.Empty(t, res.Header.Values("Authorization"))
	res, _ = f.send(t, "GET /function/echo", bearer)
	require.Equal(t, "the header was", strings.TrimSpace(res.Header.Get("X-Lower")), "there was nothing to repeat")

	var hints []string
	trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, header))
		return nil
	}})
	req, err := http.NewRequestWithContext(trace, "GET", "http://"+f.address+"/system/parts", nil)
	require.NoError(t, err)
	_, value, _ := strings.Cut(bearer, " ")
	req.Header.Set("Authorization", value)
	res, err = new(http.Transport).RoundTrip(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.Len(t, hints, 1)
	bare := strings.TrimRight(password.Header()[6:], "=")
	require.NotContains(t, decode(fmt.Sprint(hints, res.Header, res.Trailer)), bare, "not in a 103, a redirect or a trailer either")

	for _, target := range []string{"/system/denied", "/system/proxy"} {
		res, body := f.send(t, "GET "+target, bearer)
		require.Equal(t, http.StatusBadGateway, res.StatusCode)
		require.Empty(t, res.Header.Values("WWW-Authenticate"))
		require.Empty(t, res.Header.Values("Proxy-Authenticate"))
		require.Empty(t, res.Header.Get("X-Fine"))
		require.Equal(t, "the local gateway does not accept this federated gateway's credentials\n", body)
	}
	require.Contains(t, f.log.String(), "check basic-auth-user and basic-auth-password in secret_mount_path")

	// The same while the request is still on its way.
	conn, err := net.Dial("tcp", f.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "POST /system/early HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: 100000\r\n\r\n%s", bearer, strings.Repeat("x", 20_000))
	require.NoError(t, err)
	res, err = http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadGateway, res.StatusCode)
	require.Empty(t, res.Header.Values("WWW-Authenticate"))

	res, body := f.send(t, "GET /system/forbidden", bearer)
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Equal(t, "no\n", body, "any other answer is the local gateway's")
	res, body = f.send(t, "GET /function/guarded", bearer)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode, "that is the function's")
	require.Equal(t, []string{"Bearer realm=IAM function invoke"}, res.Header.Values("WWW-Authenticate"))
	require.Equal(t, "insufficient\n", body)
	require.NotContains(t, f.log.String(), password.Header()[6:])
}

func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	f := newFed(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}, func(c *Config) { c.UpstreamTimeout = 500 * time.Millisecond })
	bearer := f.bearer(t)
	res, body := f.send(t, "GET /system/info", bearer)
	require.Equal(t, http.StatusGatewayTimeout, res.StatusCode)
	require.Contains(t, body, "upstream_timeout of 500ms")
	close(hang)
	res, _ = f.send(t, "POST /system/functions", bearer, "Content-Length: 5", "Transfer-Encoding: chunked")
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	f.local.Close()
	res, body = f.send(t, "GET /system/info", bearer)
	require.Equal(t, http.StatusBadGateway, res.StatusCode)
	require.Equal(t, "the local gateway cannot be reached\n", body)
	require.NotContains(t, f.log.String(), strings.TrimPrefix(bearer, "Authorization: Bearer "))
}

// TestStreams: logs that are followed, both ways at once, and who leaves.
func TestStreams(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	next := make(chan string)
	handler := func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/system/logs":
			w.Header().Set("Content-Type", "application/x-ndjson")
			control.Flush()
			for {
				select {
				case line := <-next:
					_, _ = io.WriteString(w, line)
					control.Flush()
				case <-r.Context().Done():
					gone <- struct{}{}
					return
				}
			}
		case "/function/both":
			_ = control.EnableFullDuplex()
			control.Flush()
			buf := make([]byte, 100)
			for {
				n, err := r.Body.Read(buf)
				_, _ = w.Write(bytes.ToUpper(buf[:n]))
				control.Flush()
				if err != nil {
					return
				}
			}
		case "/function/ws":
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			for {
				kind, data, err := c.Read(r.Context())
				if err != nil {
					return
				}
				_ = c.Write(r.Context(), kind, bytes.ToUpper(data))
			}
		}
	}
	// Shorter than the silences below: a log that is followed has no limit.
	const limit = 300 * time.Millisecond
	f := newFed(t, handler, func(c *Config) { c.UpstreamTimeout = limit })
	calls := newFed(t, handler, func(c *Config) { c.AllowInvoke = true })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request := func(ctx context.Context, f *fed, method, target string, body io.Reader) *http.Response {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+f.address+target, body)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+f.idp.token(t, nil, nil))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		return res
	}

	res := request(ctx, f, "GET", "/system/logs?name=env&follow=true", nil)
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		time.Sleep(time.Duration(i) * limit * 3 / 2) // the silence that is tested
		next <- fmt.Sprintf("{\"text\":\"%d\"}\n", i)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("{\"text\":\"%d\"}\n", i), line)
	}
	cancel()
	select {
	case <-gone:
	case <-time.After(patience):
		require.Fail(t, "the local gateway never learns that the client has left")
	}

	body, feed := io.Pipe()
	both := request(t.Context(), calls, "POST", "/function/both", body)
	for _, word := range []string{"one", "two"} {
		_, err := io.WriteString(feed, word)
		require.NoError(t, err)
		got := make([]byte, 3)
		_, err = io.ReadFull(both.Body, got)
		require.NoError(t, err)
		require.Equal(t, strings.ToUpper(word), string(got))
	}
	require.NoError(t, feed.Close())

	_, res, err := websocket.Dial(t.Context(), "ws://"+calls.address+"/function/ws", nil)
	require.Error(t, err)
	require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	c, _, err := websocket.Dial(t.Context(), "ws://"+calls.address+"/function/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + calls.idp.token(t, nil, nil)}}})
	require.NoError(t, err)
	defer c.CloseNow()
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, got, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "HELLO", string(got))
	require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
}

// TestLogAndMetrics: who did what is logged, by the verified token's sub, and no
// series comes of what a client makes up.
func TestLogAndMetrics(t *testing.T) {
	t.Parallel()
	f := newFed(t, nil, nil)
	bearer := f.bearer(t)
	f.send(t, "DELETE /system/functions?secret=hunter2", bearer)
	f.send(t, "GET /system/functions", bearer)
	for i := range 20 {
		f.send(t, fmt.Sprintf("GET /random-%d", i), bearer)
	}
	forged := f.idp.token(t, map[string]any{"sub": "forged", "aud": "other"}, nil)
	f.send(t, "GET /system/functions", "Authorization: Bearer "+forged)

	type line struct{ Level, Subject, Method, Path, Message, Reason string }
	var logged []line
	for text := range strings.Lines(f.log.String()) {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l), text)
		if l.Method != "" && l.Path != "" && !strings.HasPrefix(l.Path, "/random") {
			logged = append(logged, l)
		}
	}
	require.Equal(t, []line{
		{"info", "service-account-ops", "DELETE", "/system/functions", "forwarded", ""},
		{"debug", "service-account-ops", "GET", "/system/functions", "forwarded", ""},
		{"info", "", "GET", "/system/functions", "unauthenticated", "failed to parse JWT token: aud does not name the expected audience"},
	}, logged)
	for _, never := range []string{"hunter2", "forged", forged, bearer[22:]} {
		require.NotContains(t, f.log.String(), never)
	}

	w := httptest.NewRecorder()
	f.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	var counted []string
	for text := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(text, "federated_gateway_requests_total") {
			counted = append(counted, strings.TrimSpace(text))
		}
	}
	slices.Sort(counted)
	require.Equal(t, []string{
		`federated_gateway_requests_total{result="forwarded",route="system"} 2`,
		`federated_gateway_requests_total{result="refused",route="none"} 20`,
		`federated_gateway_requests_total{result="unauthenticated",route="system"} 1`,
	}, counted)
	require.Contains(t, w.Body.String(), `federated_gateway_request_seconds_count{route="system"} 2`)
}

// TestStop: calls that run are finished, new ones go elsewhere.
func TestStop(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}), make(chan struct{})
	f := newFed(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, "done")
	}, nil)
	answered := make(chan string, 1)
	bearer := f.bearer(t)
	go func() {
		_, body := f.send(t, "GET /system/info", bearer)
		answered <- body
	}()
	<-begun
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		f.stop()
	}()
	require.Eventually(t, f.draining.Load, patience, time.Millisecond)
	close(release)
	require.Equal(t, "done", <-answered)
	<-stopped
	_, err := net.Dial("tcp", f.address)
	require.Error(t, err)
}
