package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/events"
	"github.com/gatehound/gatehound/gateway/provider"
)

// TestMeter calls a function in every way in which an answer can end.
func TestMeter(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		flush := w.(http.Flusher).Flush
		switch r.URL.Path {
		case "/stream":
			_, _ = io.WriteString(w, "first")
			flush()
			<-release
			_, _ = io.WriteString(w, "last")
		case "/large":
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(make([]byte, 1000000))
		case "/cut":
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(make([]byte, 1000))
		case "/upgrade":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
			<-release
		case "/error":
			w.WriteHeader(500)
		default:
			_, _ = io.WriteString(w, "whole")
		}
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	nobody := reverseproxy.New(reverseproxy.Config{Network: "unix", Address: t.TempDir() + "/none"})
	t.Cleanup(nobody.Close)

	box, take := outbox[types.FunctionUsageEvent](t, t.TempDir(), types.TypeFunctionUsage, nil)
	l := listenTCP(t)
	serve(t, l, Config{DefaultNamespace: "fn", DrainTimeout: 20 * time.Second,
		Metering: &Metering{Outbox: box, Exclude: []string{"free", "also-free"}, DefaultMemory: 512},
		Provider: metered{endpoint: func(f provider.Function) (provider.Endpoint, error) {
			switch f.Name {
			case "absent":
				return provider.Endpoint{}, provider.ErrNotFound
			case "down":
				return provider.Endpoint{Upstream: nobody}, nil
			case "limited":
				return provider.Endpoint{Upstream: upstream, Memory: 64}, nil
			}
			return provider.Endpoint{Upstream: upstream}, nil
		}}})
	call := func(line, header string) *bufio.Reader {
		return bufio.NewReader(dial(t, l, line+"\r\nHost: h\r\n"+header+"\r\n"))
	}
	ended := func(answer *bufio.Reader) { _, _ = io.Copy(io.Discard, answer) }

	began := time.Now()
	for _, c := range []struct {
		line string
		want types.FunctionUsageEvent
	}{
		{"GET /function/env HTTP/1.1", types.FunctionUsageEvent{Namespace: "fn", FunctionName: "env", MemoryBytes: 512}},
		{"GET /function/limited.dev/large HTTP/1.1", types.FunctionUsageEvent{Namespace: "dev", FunctionName: "limited", MemoryBytes: 64}},
		{"HEAD /function/env/large HTTP/1.1", types.FunctionUsageEvent{Namespace: "fn", FunctionName: "env", MemoryBytes: 512}},
		{"GET /function/env/error HTTP/1.1", types.FunctionUsageEvent{Namespace: "fn", FunctionName: "env", MemoryBytes: 512}},
		{"GET /function/env/cut HTTP/1.1", types.FunctionUsageEvent{Namespace: "fn", FunctionName: "env", MemoryBytes: 512}},
		{"GET /function/down HTTP/1.1", types.FunctionUsageEvent{Namespace: "fn", FunctionName: "down", MemoryBytes: 512}},
	} {
		ended(call(c.line, "Connection: close\r\n"))
		got := take(1)[0]
		require.WithinRange(t, got.Started, began, time.Now(), c.line)
		require.Positive(t, got.Duration, c.line)
		got.Started, got.Duration = time.Time{}, 0
		require.Equal(t, c.want, got, c.line)
	}
	for _, name := range []string{"absent", "env.free", "env.also-free", "NO"} {
		ended(call("GET /function/"+name+" HTTP/1.1", "Connection: close\r\n"))
	}

	const pause = 50 * time.Millisecond
	for _, c := range []struct{ line, header string }{
		{"GET /function/env/stream HTTP/1.1", ""},
		{"GET /function/env/stream HTTP/1.0", ""},
		{"GET /function/env/upgrade HTTP/1.1", "Connection: Upgrade\r\nUpgrade: raw\r\n"},
	} {
		answer := call(c.line, c.header)
		_, err := answer.ReadString('\n')
		require.NoError(t, err)
		time.Sleep(pause)
		release <- struct{}{}
		require.GreaterOrEqual(t, take(1)[0].Duration, pause, c.line)
	}

	// The client leaves in the middle.
	conn := dial(t, l, "GET /function/env/stream HTTP/1.1\r\nHost: h\r\n\r\n")
	_, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.Equal(t, "env", take(1)[0].FunctionName)
	release <- struct{}{}
}

// TestMeterBeforeTheAnswer: who has the whole answer has been metered.
func TestMeterBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			for i := range 3 {
				fmt.Fprint(w, i)
				w.(http.Flusher).Flush()
			}
		}
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	dir := t.TempDir()
	box, err := events.Open(events.Config{Type: types.TypeFunctionUsage, Dir: dir, Logf: t.Logf, Warnf: t.Logf}) // and nobody delivers
	require.NoError(t, err)
	l := listenTCP(t)
	serve(t, l, Config{DefaultNamespace: "fn", DrainTimeout: 20 * time.Second, Metering: &Metering{Outbox: box},
		Provider: metered{endpoint: func(provider.Function) (provider.Endpoint, error) { return provider.Endpoint{Upstream: upstream}, nil }}})
	for i := range 100 {
		path := []string{"/", "/stream"}[i%2]
		res, err := http.Get("http://" + l.Addr().String() + "/function/env" + path)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		res.Body.Close()
		files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		spool, err := os.ReadFile(files[0])
		require.NoError(t, err)
		require.Equal(t, i+1, bytes.Count(spool, []byte("\n")), path)
	}
}

// metered is a provider that says where functions are.
type metered struct {
	provider.Provider // nil: nothing else is asked
	endpoint          func(provider.Function) (provider.Endpoint, error)
}

func (p metered) Ready(provider.Function) (provider.Endpoint, bool) {
	return provider.Endpoint{}, false
}

func (p metered) Endpoint(_ context.Context, f provider.Function) (provider.Endpoint, error) {
	return p.endpoint(f)
}
