package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// TestDirect calls a function by its name, at a server that stands in for it.
func TestDirect(t *testing.T) {
	t.Parallel()
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_/ready" {
			_, _ = io.WriteString(w, r.Host+" "+r.RequestURI+" "+r.Header.Get("X-Forwarded-Host"))
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("the provider's credentials reached a function")
		}
	}))
	t.Cleanup(function.Close)
	s := newSleeper(t)
	s.status.Replicas, s.status.AvailableReplicas = 1, 1
	p := open(t, s.URL, Config{Direct: true, DirectSuffix: "svc.cluster.local", Probe: true, ScaleFromZero: true})
	var mu sync.Mutex
	var dialled []string
	p.dial = func(address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, address)
		return net.Dial("tcp", function.Listener.Addr().String())
	}
	call := func() string {
		e, err := p.Endpoint(t.Context(), env)
		require.NoError(t, err)
		require.Empty(t, e.Prefix)
		return forward(t, e, "/a?b")
	}
	require.Equal(t, "env.dev.svc.cluster.local:8080 /a?b gateway.test", call())
	require.Equal(t, "env.dev.svc.cluster.local:8080 /a?b gateway.test", call())
	const host = "env.dev.svc.cluster.local:8080"
	require.Equal(t, []string{host, host}, dialled, "one for the probe, and one that both calls share")

	// Who is not there has no name to be looked up.
	_, err := p.Endpoint(t.Context(), provider.Function{Namespace: "openfaas", Name: "gateway"})
	require.ErrorIs(t, err, provider.ErrNotFound)
	require.Len(t, dialled, 2)

	// A call that was on its way when the function was changed is still made.
	e, err := p.Endpoint(t.Context(), env)
	require.NoError(t, err)
	p.forget(env)
	require.NotEmpty(t, forward(t, e, "/"))
	require.Len(t, dialled, 3)
	call()
	require.Len(t, dialled, 5, "a fresh pool, and a fresh probe")
}

// TestDirectUpgrade: a WebSocket outlives a change of its function, which may be
// no more than another number of replicas.
func TestDirectUpgrade(t *testing.T) {
	t.Parallel()
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(function.Close)
	p := open(t, newSleeper(t).URL, Config{Direct: true, DirectSuffix: "svc"})
	p.dial = func(string) (net.Conn, error) { return net.Dial("tcp", function.Listener.Addr().String()) }
	e, err := p.Endpoint(t.Context(), env)
	require.NoError(t, err)
	l := hop(t, e, "/")
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	answers := bufio.NewReader(conn)
	res, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	echo := func(line string) {
		t.Helper()
		_, err := io.WriteString(conn, line)
		require.NoError(t, err)
		got, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, line, got)
	}
	echo("before\n")
	require.NoError(t, p.Scale(t.Context(), env, 2))
	require.Empty(t, p.known)
	echo("after\n")
}

// hop starts a server that forwards everything to e, as the gateway would.
func hop(t *testing.T, e provider.Endpoint, target string) *reverseproxy.Listener {
	t.Helper()
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	server := reverseproxy.NewServer(func(ctx *fasthttp.RequestCtx) {
		if err := e.Upstream.Forward(ctx, reverseproxy.Options{Target: []byte(e.Prefix + target), Host: e.Host}); err != nil {
			ctx.Error(err.Error(), http.StatusBadGateway)
		}
	}, nil)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = l.Drain(now)
		l.Abort()
		require.NoError(t, <-ended)
	})
	return l
}

// forward sends one request through a server, and returns the answer when nothing
// of the call is left.
func forward(t *testing.T, e provider.Endpoint, target string) string {
	t.Helper()
	l := hop(t, e, target)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
	require.NoError(t, err)
	req.Host = "gateway.test"
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	drain, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, l.Drain(drain))
	return string(body)
}

func TestDirectHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ f, suffix, host string }{
		{"env.dev", "", "env.dev:8080"},
		{"env.dev", "svc.cluster.local", "env.dev.svc.cluster.local:8080"},
		{"127.1", "svc", "127.1.svc:8080"},
		{"127.a1", "", "127.a1:8080"},
		{"127.1", "", ""},
		{"0x7f.0x1", "", ""},
		{"env.1a", "", ""},
	} {
		name, namespace, _ := strings.Cut(c.f, ".")
		p := open(t, "http://provider", Config{Direct: true, DirectSuffix: c.suffix})
		host, err := p.directHost(provider.Function{Namespace: namespace, Name: name})
		require.Equal(t, c.host, host)
		if c.host == "" {
			require.ErrorContains(t, err, "set direct_functions_suffix", c.f)
		}
	}
}

// TestSweep: what is no longer called is forgotten, with its connections.
func TestSweep(t *testing.T) {
	t.Parallel()
	p := open(t, "http://provider", Config{Direct: true})
	cold := provider.Function{Namespace: "dev", Name: "cold"}
	p.mu.Lock()
	p.remember(env, 0)
	p.remember(cold, 0)
	k := p.known[cold]
	k.until = time.Now().Add(-forgetAfter - time.Second)
	p.known[cold] = k
	p.mu.Unlock()
	p.sweep()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Contains(t, p.known, env)
	require.NotContains(t, p.known, cold)
	require.True(t, p.sweeping)
}
