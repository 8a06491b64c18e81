package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// serveBeside runs a gateway with a dashboard that says which cookies it got, and
// with function as every function.
func serveBeside(t *testing.T, publicURL string, function http.HandlerFunc) (address string) {
	t.Helper()
	behind := httptest.NewServer(function)
	t.Cleanup(behind.Close)
	return serveBesideAddr(t, publicURL, behind.Listener.Addr().String())
}

// serveBesideAddr is serveBeside with what listens on function's address as every
// function.
func serveBesideAddr(t *testing.T, publicURL, function string) (address string) {
	t.Helper()
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: function})
	t.Cleanup(upstream.Close)
	d := &Dashboard{CookieMark: "gatehound-", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ui/stream" {
			stream(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" "+r.Header.Get("Cookie")+" "+string(body))
	})}
	if publicURL != "" {
		var err error
		d.PublicURL, err = url.Parse(publicURL)
		require.NoError(t, err)
	}
	l := listenTCP(t)
	serve(t, l, Config{Provider: behindPrefix{upstream: upstream}, DefaultNamespace: "fn", Dashboard: d, UpstreamTimeout: 20 * time.Second, DrainTimeout: 20 * time.Second})
	return l.Addr().String()
}

// stream sends a line, and another when the first was read.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for range 2 {
		_, _ = io.WriteString(w, r.Header.Get("X-Mark")+"\n")
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

// ask sends a request for host and returns the answer.
func ask(t *testing.T, address, method, path, host, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
	require.NoError(t, err)
	if host != "" {
		r.Host = host
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	require.NoError(t, err)
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(read)
}

// TestFunctionsAreApart: what a browser takes for a page gets an origin of its
// own, where the dashboard is.
func TestFunctionsAreApart(t *testing.T) {
	t.Parallel()
	function := func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = r.URL.Query()["type"]
		if own := r.URL.Query().Get("own"); own != "" {
			w.Header().Set("Content-Security-Policy", own)
		}
		if status, err := strconv.Atoi(r.URL.Query().Get("status")); err == nil {
			w.WriteHeader(status)
		}
		_, _ = io.WriteString(w, "<html>")
	}
	anywhere := serveBeside(t, "", function)
	for kind, apart := range map[string]bool{
		"text/html": true, "TEXT/html; charset=utf-8": true, "image/svg+xml": true, "application/xhtml+xml": true, "text/xml": true,
		"multipart/x-mixed-replace": true, "application/pdf": true, "": true, "nonsense": true, "text/plain, text/html": true, "text/plain;,text/html": true,
		"text/javascript": true, "image/": true, "image/vnd.x+xml": true, "image/xml": true, "image/svg": true,
		// What is no media type is guessed at.
		"text/plain\u00a0": true, "text/plain html": true, "image/ x": true, "image/png html": true, "image/p@ng": true, "image/png/x": true, "image/<": true,
		"application/json": false, "Application/JSON; charset=utf-8": false, "text/plain": false, " text/plain ;charset=utf-8": false,
		"text/css": false, "application/octet-stream": false, "text/event-stream": false, "application/x-ndjson": false, "image/png": false, "IMAGE/vnd.microsoft.icon ;a": false,
	} {
		response, _ := ask(t, anywhere, "GET", "/function/env?type="+url.QueryEscape(kind), "", "")
		want := []string(nil)
		if apart {
			want = []string{sandboxPolicy}
		}
		require.Equal(t, want, response.Header.Values("Content-Security-Policy"), "%q", kind)
	}
	response, _ := ask(t, anywhere, "GET", "/function/env?own=sandbox+allow-same-origin&type=text/html", "", "")
	require.Equal(t, []string{"sandbox allow-same-origin", sandboxPolicy}, response.Header.Values("Content-Security-Policy"))

	// The header of these may be put in the place of a cached page's.
	for _, status := range []string{"206", "304"} {
		response, _ := ask(t, anywhere, "GET", "/function/env?type=text/plain&own=default-src&status="+status, "", "")
		require.Equal(t, []string{"default-src", sandboxPolicy}, response.Header.Values("Content-Security-Policy"), status)
	}
	response, _ = ask(t, anywhere, "HEAD", "/function/env?type=text/plain", "", "")
	require.Equal(t, []string{sandboxPolicy}, response.Header.Values("Content-Security-Policy"))

	// With a host of the dashboard's own, other hosts are the functions'.
	public := serveBeside(t, "https://dash.example.com", function)
	for host, apart := range map[string]bool{
		"dash.example.com": true, "DASH.example.com:443": true, "fn.example.com": false, "dash.example.com:8443": false, "dash.example.com:80": false, "dash.example.com.": false, "": false,
	} {
		response, _ := ask(t, public, "GET", "/function/env?type=text/html", host, "")
		require.Equal(t, apart, response.Header.Get("Content-Security-Policy") != "", host)
		require.Equal(t, apart, func() bool { r, _ := ask(t, public, "GET", "/ui/", host, ""); return r.StatusCode == 200 }(), "the dashboard is where functions are apart, and nowhere else: %s", host)
	}
}

// TestFunctionsSayNothingForTheHost: what browsers take for all pages of a host is
// not passed on where the dashboard is, and elsewhere it is.
func TestFunctionsSayNothingForTheHost(t *testing.T) {
	t.Parallel()
	names := []string{"Clear-Site-Data", "NEL", "report-to", "Strict-Transport-Security", "Service-Worker-Allowed", "Alt-Svc"}
	address := serveBeside(t, "https://dash.example.com", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range append(names, "X-Other") {
			w.Header()[name] = []string{"a"}
		}
		_, _ = io.WriteString(w, "ok")
	})
	for host, passed := range map[string]bool{"dash.example.com": false, "fn.example.com": true} {
		response, _ := ask(t, address, "GET", "/function/env", host, "")
		require.Equal(t, "a", response.Header.Get("X-Other"))
		for _, name := range names {
			require.Equal(t, passed, response.Header.Get(name) != "", "%s on %s", name, host)
		}
	}
}

// TestManyCookies: to take ours out of thousands takes no time worth speaking of.
func TestManyCookies(t *testing.T) {
	t.Parallel()
	d := &Dashboard{CookieMark: "gatehound-"}
	var line strings.Builder
	for i := range 40_000 {
		fmt.Fprintf(&line, "gatehound-%d=; ", i)
	}
	header := "GET / HTTP/1.1\r\nHost: h\r\nCookie: " + line.String() + "a=1; nameless; b=2\r\n\r\n"
	took := time.Hour
	for range 5 { // a busy machine stops for a second, but not each time
		var ctx fasthttp.RequestCtx
		require.NoError(t, ctx.Request.Header.Read(bufio.NewReaderSize(strings.NewReader(header), len(header))))
		began := time.Now()
		d.hideCookies(&ctx)
		took = min(took, time.Since(began))
		require.Equal(t, "a=1; nameless; b=2", string(ctx.Request.Header.Peek("Cookie")))
	}
	require.Less(t, took, time.Second)
}

// TestFunctionsDoNotSeeCookies of the dashboard's, and do not set such.
func TestFunctionsDoNotSeeCookies(t *testing.T) {
	t.Parallel()
	address := serveBeside(t, "", func(w http.ResponseWriter, r *http.Request) {
		for _, cookie := range []string{
			"a=1", "gatehound-session=x; Path=/ui/", "__Host-gatehound-session=x; Secure", "=gatehound-session=x; Path=/ui/", "Gatehound-Login=x", "b=2; Path=/gatehound-x",
		} {
			w.Header().Add("Set-Cookie", cookie)
		}
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Cookie"), "|"))
	})
	response, body := ask(t, address, "GET", "/function/env", "", "", "Cookie: a=1; gatehound-session=secret; b=2", "Cookie: __Host-gatehound-session=secret; c=3")
	require.Equal(t, []string{"a=1", "b=2; Path=/gatehound-x"}, response.Header.Values("Set-Cookie"))
	require.NotContains(t, body, "secret")
	for _, kept := range []string{"a=1", "b=2", "c=3"} {
		require.Contains(t, body, kept)
	}
	_, body = ask(t, address, "GET", "/function/env", "", "", "Cookie: a=1; b=2")
	require.Equal(t, "a=1; b=2", body)
	_, body = ask(t, address, "GET", "/function/env", "", "", `Cookie: a="1 2"; b=`, "Cookie: $c=3;d")
	require.Equal(t, `a="1 2"; b=|$c=3;d`, body, "as it came")
	for _, cookie := range []string{"=gatehound-session=secret", `a="; gatehound-session=secret; "`, "GATEHOUND-session =secret", "a=1;\tgatehound-session=secret"} {
		_, body = ask(t, address, "GET", "/function/env", "", "", "Cookie: "+cookie+"; c=3")
		require.NotContains(t, body, "secret", cookie)
		require.Contains(t, body, "c=3", cookie)
	}
	_, body = ask(t, address, "GET", "/ui/x", "", "", "Cookie: gatehound-session=secret")
	require.Equal(t, "GET /ui/x gatehound-session=secret ", body)

	// An answer before the header of which there is another.
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, "GET /function/env HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(all), "103 Early Hints\r\n")
	require.NotContains(t, strings.ToLower(string(all)), "gatehound-session")
}

func TestDashboardRequests(t *testing.T) {
	t.Parallel()
	address := serveBeside(t, "", func(http.ResponseWriter, *http.Request) {})
	_, body := ask(t, address, "POST", "/ui/form", "", "a=b")
	require.Equal(t, "POST /ui/form  a=b", body)
	response, _ := ask(t, address, "POST", "/ui/form", "", strings.Repeat("a", maxBody+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	for path, status := range map[string]int{"/": 302, "/ui": 302, "/auth/callback": 200, "/auth/callback2": 404, "/uix": 404} {
		response, _ := ask(t, address, "GET", path, "", "")
		require.Equal(t, status, response.StatusCode, path)
		require.Empty(t, response.Header.Get("Content-Security-Policy"), path)
	}

	// What a stream still uses is not the memory of the next request.
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, "GET /ui/stream HTTP/1.1\r\nHost: h\r\nX-Mark: marked\r\n\r\n")
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	lines := bufio.NewReader(r.Body)
	for range 2 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "marked\n", line)
	}
}

// TestNoDashboard: nothing is different without one.
func TestNoDashboard(t *testing.T) {
	t.Parallel()
	var d *Dashboard
	require.False(t, d.owns("/ui/"))
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.Set("Cookie", "gatehound-session=a")
	d.hideCookies(&ctx)
	d.sandbox(&ctx)
	require.Equal(t, "gatehound-session=a", string(ctx.Request.Header.Peek("Cookie")))
	require.Empty(t, ctx.Response.Header.Peek("Content-Security-Policy"))
}

// TestDashboardStops: what people follow ends when we stop, and what they have had
// us do is waited for.
func TestDashboardStops(t *testing.T) {
	t.Parallel()
	key, err := issuer.Generate()
	require.NoError(t, err)
	system, err := issuer.New("http://gateway.test", key)
	require.NoError(t, err)
	begun, ended, release := make(chan string, 2), make(chan string, 2), make(chan struct{})
	d := &Dashboard{CookieMark: "gatehound-", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- r.Method
		select {
		case <-r.Context().Done():
			ended <- r.Method
		case <-release:
			_, _ = io.WriteString(w, "done")
		}
	})}
	l := listenTCP(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stopped := make(chan error, 1)
	go func() {
		stopped <- New(Config{Issuer: system, Provider: behindPrefix{}, Dashboard: d, DrainTimeout: 20 * time.Second}).Serve(ctx, l)
	}()
	bodies := make(chan string, 2)
	for _, method := range []string{"GET", "POST"} {
		go func() {
			_, body := ask(t, l.Addr().String(), method, "/ui/x", "", "")
			bodies <- body
		}()
	}
	<-begun
	<-begun
	stop()
	require.Equal(t, "GET", <-ended)
	require.Empty(t, <-bodies)
	close(release)
	require.Equal(t, "done", <-bodies)
	require.NoError(t, <-stopped)
}
