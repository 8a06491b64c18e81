package gateway

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

// behindPrefix is a provider that has every function behind one server.
type behindPrefix struct {
	provider.Provider // nil: nothing else is asked
	upstream          *reverseproxy.Upstream
}

func (p behindPrefix) Ready(f provider.Function) (provider.Endpoint, bool) {
	return provider.Endpoint{Upstream: p.upstream, Prefix: "/function/" + f.String()}, true
}

// TestPathStaysBehindPrefix: a caller must not reach the provider's API through
// the path of a function.
func TestPathStaysBehindPrefix(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "target="+r.RequestURI+";")
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	l := listenTCP(t)
	serve(t, l, Config{Provider: behindPrefix{upstream: upstream}, DefaultNamespace: "fn"})
	call := func(path string) string {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, "GET /function/env"+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		return string(answer)
	}
	for _, path := range []string{
		"/../../system/functions", "/..", "/a/..", "/%2e%2E/x", "/.%2e/x", "/..%2f..%2fsystem", `/..\..\system`, "/..%5c..%5csystem", "/%zz/%2e%2e/x",
		"/..;/..;a=b/system/functions", "/%2e%2e%3b/x",
	} {
		answer := call(path)
		require.True(t, strings.HasPrefix(answer, "HTTP/1.1 400 "), "%s: %s", path, answer)
		require.NotContains(t, answer, "target=", path)
	}
	for _, path := range []string{"", "/", "/a%2Fb", "/...", "/a..b/..c", "/%252e%252e/", "/a?../..", "/a;../..b;"} {
		want := "/function/env.fn" + path
		if path == "" {
			want += "/"
		}
		require.Contains(t, call(path), "target="+want+";")
	}
}

// TestFunctionsDoNotSeeThePassword, whichever way it is written.
func TestFunctionsDoNotSeeThePassword(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Authorization"), ","))
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	l := listenTCP(t)
	serve(t, l, Config{Provider: behindPrefix{upstream: upstream}, DefaultNamespace: "fn", Admin: basicauth.New("admin", "pw")})
	for headers, want := range map[string]string{
		"Authorization: Basic YWRtaW46cHc=":                                          "",
		"authorization: basic YWRtaW46cHc=":                                          "",
		"AUTHORIZATION: Basic YWRtaW46cHc=\r\nAUTHORIZATION: Basic YWRtaW46cHc=":     "",
		"Authorization: Basic YWRtaW46b3RoZXI=\r\nauthorization: Basic YWRtaW46cHc=": "Basic YWRtaW46b3RoZXI=",
		"Authorization: Basic YWRtaW46b3RoZXI=":                                      "Basic YWRtaW46b3RoZXI=",
		"Authorization: Bearer YWRtaW46cHc=":                                         "Bearer YWRtaW46cHc=",
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(conn, "GET /function/env HTTP/1.1\r\nHost: h\r\n"+headers+"\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		conn.Close()
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 200 "), "%s", answer)
		_, got, _ := strings.Cut(string(answer), "\r\n\r\n")
		require.Equal(t, want, got, headers)
	}
}

func TestAsync(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for _, c := range []struct {
		method, target string
		status         int
		answer         string
	}{
		{"POST", "/async-function/env", 501, "async calls are not implemented in this release: call /function/env.openfaas-fn\n"},
		{"POST", "/async-function/env.dev/a/b?c", 501, "async calls are not implemented in this release: call /function/env.dev\n"},
		{"POST", "/async-function/", 404, "want /async-function/<name>"},
		{"POST", "/async-function/A%0d/", 404, "want /async-function/<name>"},
		{"DELETE", "/async-function/0b5e6b6e-5d0a-4d4e-9f0e-2f4b5c6d7e8f", 501, "there is none to delete"},
		{"GET", "/async-function/env", 405, "try POST or DELETE"},
		{"POST", "/async-function", 404, "no such page"},
	} {
		status, answer := a.send(t, c.method, c.target, "", "")
		require.Equal(t, c.status, status, "%s %s", c.method, c.target)
		require.Contains(t, answer, c.answer, "%s %s", c.method, c.target)
	}
	require.Empty(t, a.take(), "the provider is not asked")
}
