package watchdog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestShutdownUnderLoad: under keep-alive load, a SIGTERM loses no request.
// Clients send on kept connections as long as those are not said to close, and
// open new ones until they are refused; every request sent must be answered.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		clients int
		env     []string
	}{
		{"http", 200, httpEnv(t, 0)},
		{"fork", 8, []string{"fprocess=cat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, append(c.env, "listen=127.0.0.1:"+freeport.Take(), "healthcheck_interval=600ms", "shutdown_min=300ms", "read_timeout=5s")...)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
			address := strings.TrimPrefix(p.url, "http://")
			var answered, connections, told atomic.Int64
			var stopped atomic.Bool
			var clients sync.WaitGroup
			for i := range c.clients {
				clients.Go(func() {
					for {
						// Packets of a handshake may be dropped while the listener
						// closes: the next ones are refused.
						conn, err := net.DialTimeout("tcp", address, 5*time.Second)
						if err != nil {
							if !stopped.Load() {
								t.Errorf("refused before the SIGTERM: %v", err)
							}
							return
						}
						connections.Add(1)
						err = keepAsking(conn, i, &answered, func() {
							if stopped.Load() {
								told.Add(1)
							}
						})
						conn.Close()
						if err != nil {
							t.Errorf("request lost: %v", err)
							return
						}
					}
				})
			}
			p.eventually(func() bool { return answered.Load() > int64(5*c.clients) }, "load")
			stopped.Store(true)
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			began := time.Now()
			require.Equal(t, 0, p.exit())
			clients.Wait()
			require.Greater(t, told.Load(), int64(0), "kept connections are told")
			require.NotContains(t, p.stderr.String(), "cut off")
			t.Logf("%d requests on %d connections, %d of them told to close; end after %s",
				answered.Load(), connections.Load(), told.Load(), time.Since(began))
		})
	}
}

// keepAsking sends requests one after the other until an answer says that the
// connection closes.
func keepAsking(conn net.Conn, n int, answered *atomic.Int64, closes func()) error {
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	for i := 0; ; i++ {
		body := fmt.Sprintf("%d-%d", n, i)
		if _, err := fmt.Fprintf(conn, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), fmt.Sprintf("body=%d", len(body))) && string(b) != body {
			return fmt.Errorf("answer %d: %d %q %w", i, res.StatusCode, b, err)
		}
		answered.Add(1)
		if res.Close {
			closes()
			return nil
		}
	}
}

// TestShutdownEndsWhenQuiet: nobody waits for the whole interval once there is
// nothing to wait for, and calls prolong it.
func TestShutdownEndsWhenQuiet(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat", "healthcheck_interval=1h", "shutdown_min=1s")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	began := time.Now()
	for time.Since(began) < 2*time.Second {
		require.Equal(t, 200, p.get("/").status)
		require.Equal(t, 503, p.get("/_/ready").status)
	}
	require.Equal(t, 0, p.exit())
	require.Greater(t, time.Since(began), 3*time.Second)
}

func TestActivityWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls func(a *activity)
		want  time.Duration
	}{
		"idle":               {func(*activity) {}, 5 * time.Second},
		"calls end it later": {func(a *activity) { a.begin(time.Now()); time.Sleep(2 * time.Second); a.end(time.Now()) }, 7 * time.Second},
		"a call just before": {func(a *activity) { time.Sleep(4 * time.Second); a.begin(time.Now()); a.end(time.Now()) }, 9 * time.Second},
		"a call under way":   {func(a *activity) { a.begin(time.Now()) }, 30 * time.Second},
		"calls all the while": {func(a *activity) {
			for range 100 {
				a.begin(time.Now())
				a.end(time.Now())
				time.Sleep(time.Second)
			}
		}, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var a activity
				began := time.Now()
				go c.calls(&a)
				synctest.Wait()
				a.wait(context.Background(), 5*time.Second, 30*time.Second)
				require.Equal(t, c.want, time.Since(began))
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				a.wait(ctx, time.Hour, time.Hour)
				require.Equal(t, c.want, time.Since(began))
				time.Sleep(2 * time.Minute) // for the last of the calls
			})
		})
	}
}

// TestShutdownClosesIdleConnections: they end well, and do not hold up the end.
func TestShutdownClosesIdleConnections(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat", "healthcheck_interval=0")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	unused, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer unused.Close()
	r := bufio.NewReader(conn)
	for range 2 {
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.False(t, res.Close)
		io.Copy(io.Discard, res.Body)
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	for _, c := range []net.Conn{conn, unused} {
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		b, err := io.ReadAll(c)
		require.NoError(t, err, "an end, not a reset")
		require.Empty(t, b)
	}
}

func TestFunctionsEndTellsWhy(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0)...)
	got := make(chan reply, 1)
	go func() { got <- p.get("/hang") }()
	p.eventually(func() bool { return strings.Contains(p.stdout.String(), "slow call began") }, "a call in flight")
	go client.Do(p.request("GET", "/exit/3", nil))
	require.Equal(t, 1, p.exit())
	r := <-got
	require.Equal(t, 500, r.status)
	require.Equal(t, "Internal Server Error: the function did not answer, or broke off\n", r.body)
	require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
}

func TestShutdownOnUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket := dir + "/w"
	p := start(t, "fprocess=sh -c 'sleep 0.3; echo done'", "listen=unix://"+socket, "healthcheck_interval=0")
	conn, err := net.Dial("unix", socket)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "done\n", string(b))
	require.Equal(t, 0, p.exit())
	_, err = os.Stat(socket)
	require.True(t, errors.Is(err, os.ErrNotExist))
}
