package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

func TestSplitTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target, path, query string
		ok                  bool
	}{
		{"/", "/", "", true},
		{"/a/b?c=d?e", "/a/b", "?c=d?e", true},
		{"/function/%2e%2e/x", "/function/%2e%2e/x", "", true},
		{"//a", "//a", "", true},
		{"/?", "/", "?", true},
		{"http://host/system/info?x", "/system/info", "?x", true},
		{"http://host", "", "", false},
		{"http://host?/a", "", "", false},
		{"host:443", "", "", false},
		{"*", "", "", false},
		{"", "", "", false},
	} {
		path, query, ok := splitTarget([]byte(c.target))
		require.Equal(t, c.ok, ok, c.target)
		require.Equal(t, c.path, string(path), c.target)
		require.Equal(t, c.query, string(query), c.target)
	}
}

func FuzzSplitTarget(f *testing.F) {
	for _, s := range []string{"/", "/a?b", "http://h/p?q", "*", "http://", "/function/a.b/c?d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		path, query, ok := splitTarget([]byte(target))
		if !ok {
			return
		}
		if path[0] != '/' || strings.Contains(string(path), "?") || !strings.HasSuffix(target, string(path)+string(query)) {
			t.Fatalf("%q became %q and %q", target, path, query)
		}
	})
}

func TestFunctionName(t *testing.T) {
	t.Parallel()
	g := &Gateway{config: Config{DefaultNamespace: "openfaas-fn"}}
	for label, want := range map[string]provider.Function{
		"env":        {Namespace: "openfaas-fn", Name: "env"},
		"env.dev":    {Namespace: "dev", Name: "env"},
		"a-1.team-2": {Namespace: "team-2", Name: "a-1"},
	} {
		f, ok := g.functionName([]byte(label))
		require.True(t, ok, label)
		require.Equal(t, want, f)
	}
	for _, label := range []string{"", ".", "env.", ".dev", "a.b.c", "Env", "env%2edev", "env;dev", "é", "a\x00"} {
		_, ok := g.functionName([]byte(label))
		require.False(t, ok, "%q", label)
	}
}

func TestRouteMatch(t *testing.T) {
	t.Parallel()
	exact, parametric := route{path: "/system/info"}, route{path: "/system/function/{}"}
	for path, ok := range map[string]bool{"/system/info": true, "/system/info/": false, "/system/inf": false, "/SYSTEM/info": false} {
		_, got := exact.match(path)
		require.Equal(t, ok, got, path)
	}
	for path, want := range map[string]string{"/system/function/a": "a", "/system/function/": "", "/system/function/a/b": "", "/system/function": ""} {
		parameter, ok := parametric.match(path)
		require.Equal(t, want != "", ok, path)
		if ok {
			require.Equal(t, want, parameter)
		}
	}
}

// TestPanic checks that a panic ends one call alone, and that the log says
// where it was but not what was in it.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	g := &Gateway{
		config: Config{Log: zerolog.New(&log)},
		routes: []route{{method: http.MethodGet, path: "/x", answer: func(*fasthttp.RequestCtx, string) { panic("eyJsecret") }}},
	}
	var ctx fasthttp.RequestCtx
	ctx.Request.SetRequestURI("/x")
	g.serve(&ctx)
	require.Equal(t, http.StatusInternalServerError, ctx.Response.StatusCode())
	require.Contains(t, log.String(), "gateway_test.go")
	require.NotContains(t, log.String(), "eyJsecret")
}

// TestRequestSmuggling: a body that only some servers see must not become a
// second request, whatever answers the first.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	l := listenTCP(t)
	serve(t, l, Config{})
	for _, target := range []string{"POST /healthz", "GET /healthz", "POST /oauth/token", "GET /function/BAD", "GET /system/info"} {
		for _, encoding := range []string{"identity", "IDENTITY", "gzip", "chunked, identity"} {
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
			_, err = io.WriteString(conn, target+" HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "+encoding+"\r\n\r\n"+
				"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			require.NoError(t, err)
			answers, _ := io.ReadAll(conn) // until the gateway closes it
			require.Equal(t, 1, strings.Count(string(answers), "HTTP/1.1 "), "%s, %s: %s", target, encoding, answers)
			require.Contains(t, string(answers), "HTTP/1.1 400 ", "%s, %s", target, encoding)
		}
	}
}

// A header that cannot be read may hold a token all the same.
func TestUnreadableHeadersAreNotLogged(t *testing.T) {
	t.Parallel()
	log := make(lines, 100)
	l := listenTCP(t)
	serve(t, l, Config{Log: zerolog.New(log)})
	for _, header := range []string{"Authorization Bearer geheim", "Authorization: Basic geheim\x00", "Authorization\x00: geheim", "Transfer-Encoding: geheim"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, "GET /system/info HTTP/1.1\r\nHost: h\r\n"+header+"\r\n\r\n")
		require.NoError(t, err)
		answer, _ := io.ReadAll(conn)
		require.Contains(t, string(answer), "HTTP/1.1 400 ", header)
		require.NotContains(t, string(answer), "geheim", header)
		line := <-log
		require.Contains(t, line, "error when reading request headers", header)
		require.NotContains(t, line, "geheim", header)
	}
}

// lines is a log, line by line.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// serve runs a gateway without functions behind l until the test ends.
func serve(t *testing.T, l *reverseproxy.Listener, c Config) {
	t.Helper()
	key, err := issuer.Generate()
	require.NoError(t, err)
	c.Issuer, err = issuer.New("http://gateway.test", key)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- New(c).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func listenTCP(t *testing.T) *reverseproxy.Listener {
	t.Helper()
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	return l
}
