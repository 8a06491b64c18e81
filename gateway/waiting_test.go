package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// starting is a provider whose functions take their time.
type starting struct {
	provider.Provider // nil: nothing else is asked
	endpoint          func(ctx context.Context) (provider.Endpoint, error)
}

func (p starting) Ready(provider.Function) (provider.Endpoint, bool) {
	return provider.Endpoint{}, false
}

func (p starting) Endpoint(ctx context.Context, _ provider.Function) (provider.Endpoint, error) {
	return p.endpoint(ctx)
}

func dial(t *testing.T, l *reverseproxy.Listener, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	return conn
}

// TestWaitingCallerLeaves: whoever goes away does not wait for a function that
// starts.
func TestWaitingCallerLeaves(t *testing.T) {
	t.Parallel()
	waits, left := make(chan struct{}), make(chan error)
	l := listenTCP(t)
	serve(t, l, Config{DefaultNamespace: "fn", Provider: starting{endpoint: func(ctx context.Context) (provider.Endpoint, error) {
		waits <- struct{}{}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
		}
		left <- context.Cause(ctx)
		return provider.Endpoint{}, context.Cause(ctx)
	}}})
	for _, request := range []string{
		"GET /function/env HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /function/env HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
	} {
		conn := dial(t, l, request)
		<-waits
		require.NoError(t, conn.Close())
		require.ErrorIs(t, <-left, reverseproxy.ErrClientGone, request)
	}
}

// TestWaitingIsNotReading: the time in which a function starts is not taken from
// that for sending the request, or for the next one on the connection.
func TestWaitingIsNotReading(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v;", n, err)
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	const readTimeout = time.Second // which slow machines keep
	started := make(chan struct{})
	l := listenTCP(t)
	serve(t, l, Config{DefaultNamespace: "fn", ReadTimeout: readTimeout, DrainTimeout: 20 * time.Second,
		Provider: starting{endpoint: func(context.Context) (provider.Endpoint, error) {
			time.Sleep(readTimeout * 6 / 5)
			started <- struct{}{}
			return provider.Endpoint{Upstream: upstream}, nil
		}}})
	const post = "POST /function/env HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
	// Without some of the body the server would not call for the function yet.
	first, rest := strings.Repeat("x", 60000), strings.Repeat("x", 40000)
	conn := dial(t, l, post+first)
	answers := bufio.NewReader(conn)
	for range 2 {
		<-started
		_, err := io.WriteString(conn, rest)
		require.NoError(t, err)
		res, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "100000 <nil>;", string(body))
		_, err = io.WriteString(conn, post+first)
		require.NoError(t, err)
	}
	<-started
}

func TestRefuseEndpoint(t *testing.T) {
	t.Parallel()
	slow := &provider.Error{Status: 503, Message: "function env.fn is slow"}
	for name, c := range map[string]struct {
		err    error
		status int
		answer string
		logged string
	}{
		"absent":             {provider.ErrNotFound, 404, "function \"env\" not found in namespace \"fn\"\n", ""},
		"refused":            {slow, 503, "function env.fn is slow\n", ""},
		"with a reason":      {fmt.Errorf("%w: %w", slow, errors.New("10.0.0.1 says no")), 503, "function env.fn is slow\n", "10.0.0.1 says no"},
		"silent provider":    {fmt.Errorf("functions provider: %w", context.DeadlineExceeded), 504, "the functions provider did not say in time whether there is a function env.fn\n", "deadline"},
		"no provider at all": {errors.New("dial tcp 10.0.0.1: refused"), 502, "the functions provider cannot be reached\n", "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := make(lines, 10)
			l := listenTCP(t)
			serve(t, l, Config{DefaultNamespace: "fn", Log: zerolog.New(log).Level(zerolog.InfoLevel),
				Provider: starting{endpoint: func(context.Context) (provider.Endpoint, error) { return provider.Endpoint{}, c.err }}})
			res, err := http.ReadResponse(bufio.NewReader(dial(t, l, "GET /function/env HTTP/1.1\r\nHost: h\r\nX-Call-Id: night\r\nConnection: close\r\n\r\n")), nil)
			require.NoError(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, c.status, res.StatusCode)
			require.Equal(t, c.answer, string(body))
			require.Equal(t, c.status == 503, res.Header.Get("Retry-After") != "")
			if c.logged == "" {
				require.Empty(t, log)
				return
			}
			line := <-log
			require.Contains(t, line, c.logged)
			require.Contains(t, line, `"call_id":"night"`)
		})
	}
}
