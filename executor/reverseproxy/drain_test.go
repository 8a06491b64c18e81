package reverseproxy

import (
	"bufio"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// TestDrainServesTheQueue: connections that the kernel has accepted before
// anybody asked for them are served, with what their clients have sent.
func TestDrainServesTheQueue(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		l, err := Listen(network, address, time.Minute)
		require.NoError(t, err)
		var conns []net.Conn
		for range 50 {
			c, err := net.Dial(network, l.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			conns = append(conns, c)
		}
		s := NewServer(func(ctx *fasthttp.RequestCtx) { ctx.SetConnectionClose() }, log.New(io.Discard, "", 0))
		drained := make(chan error, 1)
		go func() { drained <- l.Drain(context.Background()) }()
		for {
			l.mu.Lock()
			began := l.draining
			l.mu.Unlock()
			if !began.IsZero() {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * quietAccept) // as on a busy machine
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(l) }()
		for _, c := range conns {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			require.NoError(t, err, network)
			require.Equal(t, 200, res.StatusCode)
		}
		require.NoError(t, <-drained)
		require.NoError(t, <-ended)
		_, err = net.Dial(network, l.Addr().String())
		require.Error(t, err)
	}
}

// TestRefuseNew: with the filter on, nobody new gets into the queue, and who is
// in there stays.
func TestRefuseNew(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux' socket filters")
	}
	l := listenTCP(t, time.Minute)
	defer l.Close()
	before, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer before.Close()
	refuseNew(l.Listener)
	_, err = net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
	require.ErrorContains(t, err, "timeout")
	_, err = io.WriteString(before, "hello")
	require.NoError(t, err)
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	b := make([]byte, 5)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))
}

// TestDrainLooksBeforeItCloses: a request that is there when an idle connection
// is to be closed is answered.
func TestDrainLooksBeforeItCloses(t *testing.T) {
	t.Parallel()
	l := listenTCP(t, time.Minute)
	release := make(chan struct{})
	s := NewServer(func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/wait" {
			<-release
		}
	}, log.New(io.Discard, "", 0))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	busy, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer busy.Close()
	io.WriteString(busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")

	kept, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer kept.Close()
	r := bufio.NewReader(kept)
	ask := func() {
		t.Helper()
		_, err := io.WriteString(kept, get)
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode)
	}
	ask()
	// As Drain does it, with the request in the socket before Read looks.
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.conns {
			c.mu.Lock()
			idle := c.waiting && c.used
			c.mu.Unlock()
			if idle {
				return true
			}
		}
		return false
	}, 5*time.Second, time.Millisecond)
	io.WriteString(kept, get)
	l.retireIdle(false)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode)

	drained := make(chan error, 1)
	go func() { drained <- l.Drain(context.Background()) }()
	_, err = io.ReadAll(r) // idle again: closed
	require.NoError(t, err)
	close(release)
	res, err = http.ReadResponse(bufio.NewReader(busy), nil)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode)
	require.NoError(t, <-drained)
	require.NoError(t, <-ended)

	l = listenTCP(t, time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, l.Drain(ctx), context.Canceled)
	l.Close()
}
