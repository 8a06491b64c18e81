package reverseproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// lot is a server whose connections can be parked.
type lot struct {
	*Listener
	server *fasthttp.Server
	mu     sync.Mutex
	logged bytes.Buffer
}

// Write gets what the server logs.
func (l *lot) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.logged.Write(p)
}

// openLot serves bodies back; idle is its idle timeout.
func openLot(t *testing.T, network string, idle time.Duration) *lot {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs a look into sockets")
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "s")
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	inner, err := Listen(network, address, time.Minute)
	require.NoError(t, err)
	l := &lot{Listener: inner}
	l.server = NewServer(func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/who":
			ctx.SetBodyString(ctx.RemoteAddr().String())
		case "/hijack":
			ctx.Hijack(func(c net.Conn) { io.Copy(c, c) })
		default:
			body, _ := io.ReadAll(ctx.RequestBodyStream())
			ctx.SetBody(body)
		}
	}, log.New(l, "", 0))
	l.server.IdleTimeout = idle
	l.server.ReadTimeout = time.Minute
	ended := make(chan error, 1)
	go func() { ended <- l.server.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		l.Abort()
		require.NoError(t, <-ended)
		l.end(t)
	})
	return l
}

// end waits until no connection is left.
func (l *lot) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, l.Wait(ctx))
}

// driver is a client of a lot.
type driver struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (l *lot) dial(t *testing.T) *driver {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return &driver{c, t, bufio.NewReaderSize(c, 256)}
}

func (d *driver) send(request string) {
	d.t.Helper()
	_, err := io.WriteString(d, request)
	require.NoError(d.t, err)
}

func (d *driver) answer() string {
	d.t.Helper()
	res, err := http.ReadResponse(d.r, nil)
	require.NoError(d.t, err)
	require.Equal(d.t, 200, res.StatusCode)
	body, err := io.ReadAll(res.Body)
	require.NoError(d.t, err)
	return string(body)
}

// parkedAre waits until n connections are parked and the server has none.
func (l *lot) parkedAre(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool {
		l.Listener.mu.Lock()
		defer l.Listener.mu.Unlock()
		parked := 0
		for c := range l.conns {
			c.mu.Lock()
			if c.parked && c.closed {
				parked++
			}
			c.mu.Unlock()
		}
		return parked == n && l.server.GetOpenConnectionsCount() == 0
	}, fmt.Sprintf("%d parked connections", n))
}

func post(body string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// TestPark: what comes on a parked connection is answered, in whatever pieces.
func TestPark(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		l := openLot(t, network, time.Minute)
		c := l.dial(t)
		c.send("GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
		who := c.answer()
		l.parkedAre(t, 1)
		for i := range len(post("bytes")) { // each alone
			c.send(post("bytes")[i : i+1])
			if i == 0 {
				eventually(t, func() bool { return l.server.GetOpenConnectionsCount() == 1 }, "the revival")
			}
		}
		require.Equal(t, "bytes", c.answer())
		l.parkedAre(t, 1)
		c.send(post("one") + post("two") + post("three"))
		for _, want := range []string{"one", "two", "three"} {
			require.Equal(t, want, c.answer())
		}
		l.parkedAre(t, 1)
		c.send("GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
		require.Equal(t, who, c.answer())
		l.parkedAre(t, 1)
		c.Close()
		l.end(t)
		require.Empty(t, l.logged.String())
	}
}

// TestParkLeavesAlone: connections that are new, within a request, or hijacked
// are not parked however quiet they are.
func TestParkLeavesAlone(t *testing.T) {
	t.Parallel()
	l := openLot(t, "tcp", time.Minute)
	quiet := func() {
		time.Sleep(2 * parkAfter)
		l.parkedAreNot(t)
	}
	c := l.dial(t)
	eventually(t, func() bool { return l.server.GetOpenConnectionsCount() == 1 }, "the connection")
	quiet()
	c.send(post("") + post("pause")[:7])
	require.Empty(t, c.answer())
	quiet()
	c.send(post("pause")[7 : len(post("pause"))-2])
	quiet()
	c.send("se")
	require.Equal(t, "pause", c.answer())
	l.parkedAre(t, 1)
	c.send("GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Empty(t, c.answer())
	quiet()
	c.send("echo")
	echo := make([]byte, 4)
	_, err := io.ReadFull(c.r, echo)
	require.NoError(t, err)
	require.Equal(t, "echo", string(echo))
}

func (l *lot) parkedAreNot(t *testing.T) {
	t.Helper()
	l.Listener.mu.Lock()
	defer l.Listener.mu.Unlock()
	require.Len(t, l.conns, 1)
	for c := range l.conns {
		c.mu.Lock()
		require.False(t, c.parked)
		c.mu.Unlock()
	}
}

// TestParkIdleTimeout: it runs from the last response on.
func TestParkIdleTimeout(t *testing.T) {
	t.Parallel()
	for _, idle := range []time.Duration{parkAfter / 2, 8 * parkAfter} {
		l := openLot(t, "tcp", idle)
		c := l.dial(t)
		if idle > parkAfter {
			c.send(post("x"))
			require.Equal(t, "x", c.answer())
			l.parkedAre(t, 1)
		}
		began := time.Now()
		c.send(post("x"))
		require.Equal(t, "x", c.answer())
		_, err := c.r.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		require.GreaterOrEqual(t, time.Since(began), idle)
		l.end(t)
	}
}

// TestParkDrain: a drain ends parked connections at once, and serves those on
// which a request has come meanwhile.
func TestParkDrain(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		l := openLot(t, network, time.Minute)
		var calling, quiet []*driver
		for range 50 {
			calling, quiet = append(calling, l.dial(t)), append(quiet, l.dial(t))
		}
		for _, c := range append(calling, quiet...) {
			c.send(post("first"))
			require.Equal(t, "first", c.answer())
		}
		l.parkedAre(t, 100)
		for _, c := range calling {
			c.send(post("last"))
		}
		began := time.Now()
		require.NoError(t, l.Drain(context.Background()))
		require.Less(t, time.Since(began), patience)
		for _, c := range calling {
			require.Equal(t, "last", c.answer())
		}
		for _, c := range append(calling, quiet...) {
			_, err := c.r.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		}
		require.Empty(t, l.logged.String())
	}
}

// TestParkRetired: the request is in the socket before the retired connection is
// looked at.
func TestParkRetired(t *testing.T) {
	t.Parallel()
	l := openLot(t, "tcp", time.Minute)
	c := l.dial(t)
	for range 4 {
		c.send(post("x"))
		require.Equal(t, "x", c.answer())
		l.parkedAre(t, 1)
		l.Listener.mu.Lock()
		for parked := range l.conns {
			parked.mu.Lock()
			c.send(post("late"))
			parked.retired = true
			parked.socket.SetReadDeadline(longAgo)
			parked.mu.Unlock()
		}
		l.Listener.mu.Unlock()
		require.Equal(t, "late", c.answer())
	}
}

// TestParkAbort: also connections that are being revived.
func TestParkAbort(t *testing.T) {
	t.Parallel()
	l := openLot(t, "tcp", time.Minute)
	var clients []*driver
	for range 100 {
		clients = append(clients, l.dial(t))
	}
	for _, c := range clients {
		c.send(post("x"))
		c.answer()
	}
	l.parkedAre(t, 100)
	for _, c := range clients[:50] {
		c.send("P")
	}
	l.Abort()
	l.end(t)
	for _, c := range clients {
		_, err := io.Copy(io.Discard, c.r)
		if err != nil {
			require.ErrorContains(t, err, "reset by peer")
		}
	}
	require.Empty(t, l.logged.String())
}

// TestParkLogs: of a parked connection the server logs what it logs of others.
func TestParkLogs(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{
		"no request": "nonsense\r\n\r\n",
		"too long":   "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 70<<10),
		"cut off":    "GET / HTTP/1.1\r\nHo",
	} {
		var want string
		for _, park := range []bool{false, true} {
			l := openLot(t, "tcp", time.Minute)
			c := l.dial(t)
			c.send(post("x"))
			c.answer()
			if park {
				l.parkedAre(t, 1)
			}
			io.WriteString(c, last)
			c.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c.r)
			l.end(t)
			got := func() string {
				l.mu.Lock()
				defer l.mu.Unlock()
				names := strings.NewReplacer(c.LocalAddr().String(), "client", l.Addr().String(), "server")
				return names.Replace(l.logged.String())
			}
			if !park {
				want = got() // is logged before the connection is closed
			}
			eventually(t, func() bool { return got() == want }, name+" logged as "+want)
		}
	}
	for _, err := range []error{syscall.EPIPE, syscall.ECONNRESET, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, net.ErrClosed} {
		require.True(t, isHangUp(fmt.Errorf("reading: %w", err)))
	}
	require.False(t, isHangUp(errors.New("nonsense")))
}

// TestParkMemory bounds what a quiet connection costs, both its ends. It is not
// parallel, so that no other test's memory is counted.
func TestParkMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	l := openLot(t, "tcp", time.Minute)
	l.server.MaxIdleWorkerDuration = 10 * time.Millisecond
	const n = 2000
	l.release()
	before := residentKiB(t)
	conns := make([]net.Conn, n)
	buf := make([]byte, 1024)
	for i := range conns {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		io.WriteString(c, post("x"))
		got, err := c.Read(buf)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(buf[:got]), "HTTP/1.1 200 "), "%q", buf[:got])
		conns[i] = c
	}
	l.parkedAre(t, n)
	l.release()
	each := float64(residentKiB(t)-before) / n
	t.Logf("%.1f KiB", each)
	require.Less(t, each, 10.0)
}

func residentKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var n int
	_, err = fmt.Sscan(rest, &n)
	require.NoError(t, err)
	return n
}
