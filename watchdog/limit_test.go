package watchdog

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// exchange sends bytes as they are on a new connection and reads until until is
// in what comes back, then closes it.
func (p *program) exchange(request, until string) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	var got []byte
	for buf := make([]byte, 4096); !bytes.Contains(got, []byte(until)); {
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return fmt.Errorf("%w after %q", err, got)
		}
	}
	return nil
}

// admits checks that exactly n calls are let in at once.
func (p *program) admits(n int) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range n {
		p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "a free slot")
		res, err := client.Do(p.request("GET", "/events", nil).WithContext(ctx))
		require.NoError(p.t, err)
		defer res.Body.Close()
		require.Equal(p.t, 200, res.StatusCode)
	}
	require.Equal(p.t, 429, p.get("/_/ready").status)
	cancel()
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "free slots")
}

// TestSlotsDoNotLeak: whatever becomes of calls, in the end the limit lets in as
// many as before.
func TestSlotsDoNotLeak(t *testing.T) {
	t.Parallel()
	const slots = 8
	p := start(t, httpEnv(t, 0, "max_inflight=8", "max_inflight_queue=1000", "max_inflight_wait=30s")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	count := 1000
	if raceEnabled || testing.Short() {
		count = 200
	}
	get := func(path, headers string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n"
	}
	for _, c := range []struct{ name, request, until string }{
		{"plain", get("/", ""), "200 OK"},
		{"timeout", get("/slow", "X-Timeout: 2ms\r\n"), "504 Gateway"},
		{"client gone at once", get("/slow", "X-Timeout: 100ms\r\n"), ""},
		{"stream", get("/stream", ""), "\r\n0\r\n\r\n"},
		{"client leaves a stream", get("/events", ""), "data: 0"},
		{"HTTP/1.0 stream", "GET /stream HTTP/1.0\r\n\r\n", "piecepiecepiece"},
		{"early answer", "POST /toolarge HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 20_000), "too large"},
		{"upgrade", get("/upgrade", "Connection: Upgrade\r\nUpgrade: echo\r\n"), "101 Switching"},
		{"half a body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 20_000), ""},
		{"invited, and gone", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n", "100 Continue"},
		{"not even waiting for that", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n", ""},
		{"bad request", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad"},
	} {
		var clients sync.WaitGroup
		for range slots {
			clients.Go(func() {
				for range count / slots {
					if err := p.exchange(c.request, c.until); err != nil {
						t.Errorf("%s: %s", c.name, err)
						return
					}
				}
			})
		}
		clients.Wait()
		p.admits(slots)
	}
}

// A client that has its whole answer finds the slot free, at once, whatever way
// the answer came.
func TestSlotIsFreeWithTheAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "max_inflight=1")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	large := "POST /toolarge HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 20_000)
	for _, c := range []struct{ request, until string }{
		{"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n0\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "<nil>"},
		{"GET /stream HTTP/1.0\r\n\r\n", "piecepiecepiece"},
		{large, "too large"},
	} {
		for range 100 {
			require.NoError(t, p.exchange(c.request, c.until))
			if c.until == "piecepiecepiece" {
				// It ends with the connection, which we do not wait for here.
				p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "a free slot")
			}
			require.Equal(t, 200, p.get("/_/ready").status, c.until)
		}
	}
	p = start(t, "max_inflight=1", "fprocess=cat")
	for range 50 {
		require.NoError(t, p.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "\r\n0\r\n\r\n"))
		require.Equal(t, 200, p.get("/_/ready").status)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "max_inflight=1", "max_inflight_queue=2", "max_inflight_wait=20s")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	answers := make(chan int, 4)
	for range 4 {
		go func() {
			res, err := client.Do(p.request("GET", "/started", nil)) // takes 500 ms
			if err != nil {
				answers <- 0
				return
			}
			res.Body.Close()
			answers <- res.StatusCode
		}()
	}
	got := map[int]int{}
	for range 4 {
		got[<-answers]++
	}
	require.Equal(t, map[int]int{200: 3, 429: 1}, got)
}

func TestLimitWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimit(1, 2, time.Second)
		require.True(t, l.take(t.Context()))
		began := time.Now()
		require.False(t, l.take(t.Context()))
		require.Equal(t, time.Second, time.Since(began))

		order := make(chan int, 2)
		for i := range 2 {
			go func() {
				if l.take(t.Context()) {
					order <- i
				}
			}()
			synctest.Wait()
		}
		began = time.Now()
		require.False(t, l.take(t.Context()), "the queue is full")
		require.Zero(t, time.Since(began))
		for i := range 2 {
			l.free()
			require.Equal(t, i, <-order, "first come, first served")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.False(t, l.take(ctx))
		l.free()
		require.True(t, l.take(ctx))
		require.Zero(t, l.waiting.Load())
	})
	require.Nil(t, newLimit(0, 1, time.Second))
}

// broken is a function that panics.
type broken struct{}

func (broken) Run(ctx context.Context) error                    { <-ctx.Done(); return nil }
func (broken) Ready() bool                                      { return true }
func (broken) Invoke(*fasthttp.RequestCtx, executor.Call) error { panic("geheim") }
func (broken) Kill()                                            {}

func TestSlotsSurvivePanics(t *testing.T) {
	t.Parallel()
	settings, err := config.ParseWatchdog([]string{"fprocess=cat", "max_inflight=2", "listen=127.0.0.1:0", "metrics_port=0"})
	require.NoError(t, err)
	log := &output{}
	w, err := New(Config{Settings: settings, Stdout: io.Discard, Stderr: log, TempDir: t.TempDir()})
	require.NoError(t, err)
	w.function = broken{}
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	server := reverseproxy.NewServer(w.serve, w.log)
	reverseproxy.OnExpect(server, w.expect)
	go server.Serve(l)
	defer l.Abort()
	defer l.Close()
	w.accepting.Store(true)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range 1000 {
		expect := ""
		if i%2 == 1 {
			expect = "Expect: 100-continue\r\n"
		}
		_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"+expect+"\r\nhi")
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		if expect != "" {
			require.Equal(t, 100, res.StatusCode)
			res, err = http.ReadResponse(r, nil)
		}
		require.NoError(t, err)
		require.Equal(t, 500, res.StatusCode)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NotContains(t, string(b), "geheim")
	}
	require.Zero(t, len(w.limit.slots))
	require.NotContains(t, log.String(), "geheim")
}
