//go:build unix

package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err      error
		code     int
		internal bool
	}{
		{ErrTimeout, 504, true},
		{fmt.Errorf("x: %w", reverseproxy.ErrTimeout), 504, true},
		{reverseproxy.ErrUnreachable, 500, true},
		{reverseproxy.ErrBadBody, 400, false},
		{reverseproxy.ErrBodyTooLarge, 413, false},
		{reverseproxy.ErrClientGone, 499, false},
		{ErrFailed, 500, false},
		{fmt.Errorf("fork: %w", syscall.E2BIG), 431, false},
		{errors.New("anything"), 500, true},
	} {
		code, internal := Status(c.err)
		require.Equal(t, c.code, code, c.err)
		require.Equal(t, c.internal, internal, c.err)
	}
}

func gone(pid int) func() bool {
	return func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
}

// The whole group ends, also those who ignore SIGTERM and whose parent is gone.
func TestProcessGroupIsKilled(t *testing.T) {
	t.Parallel()
	for _, stop := range []string{"context", "kill"} {
		ctx, cancel := context.WithCancelCause(context.Background())
		kill, killAll := context.WithCancel(context.Background())
		defer killAll()
		delay := 50 * time.Millisecond
		if stop == "kill" {
			delay = time.Hour
		}
		c := Config{Command: []string{"sh", "-c", `trap "" TERM; sleep 300 & echo $!; wait`}, Stderr: io.Discard}
		p, err := c.start(ctx, kill, launch{program: "/bin/sh", delay: delay})
		require.NoError(t, err)
		p.attend(c)
		var child int
		_, err = fmt.Fscan(p.stdout, &child)
		require.NoError(t, err)

		cause := errors.New("the cause")
		if stop == "kill" {
			killAll()
			require.ErrorIs(t, p.wait(), ErrFailed)
		} else {
			cancel(cause)
			require.ErrorIs(t, p.wait(), cause)
		}
		p.release()
		require.Eventually(t, gone(child), 5*time.Second, 5*time.Millisecond)
		cancel(nil)
	}
}

func TestStartFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Command: []string{"/does/not/exist"}}} {
		s := NewStreaming(c)
		require.False(t, s.Ready(), "not even before it is looked for")
		require.Error(t, s.Run(t.Context()))
		require.False(t, s.Ready())
		h, err := NewHTTP(Config{Command: c.Command, Upstream: mustURL("unix:///nowhere")})
		require.NoError(t, err)
		require.Error(t, h.Run(t.Context()))
		require.False(t, h.Ready())
	}
}

func TestForksBecomeReady(t *testing.T) {
	t.Parallel()
	s := NewSerializing(Config{Command: []string{"cat"}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	require.Eventually(t, s.Ready, 5*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// A header set too large for the kernel is the client's fault and no crash.
func TestEnvironmentTooLarge(t *testing.T) {
	t.Parallel()
	ln := fasthttputil.NewInmemoryListener()
	defer ln.Close()
	huge := "X=" + strings.Repeat("x", 200<<10) // above Linux' MAX_ARG_STRLEN
	s := NewStreaming(Config{Command: []string{"cat"}, Env: []string{huge}, Stderr: io.Discard})
	status := make(chan int, 1)
	server := &fasthttp.Server{StreamRequestBody: true, Handler: func(ctx *fasthttp.RequestCtx) {
		code, _ := Status(s.Invoke(ctx, Call{Target: []byte("/")}))
		status <- code
	}}
	go server.Serve(ln)
	conn, err := ln.Dial()
	require.NoError(t, err)
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 431, <-status)
}

func TestPeerGone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for _, c := range []struct {
		name string
		act  func(client, server net.Conn)
		want bool
	}{
		{"closed", func(c, _ net.Conn) { c.Close() }, true},
		{"sends", func(c, _ net.Conn) { c.Write([]byte("x")) }, false},
		{"deadline", func(_, s net.Conn) { s.SetReadDeadline(time.Unix(1, 0)) }, false},
	} {
		client, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		server, err := ln.Accept()
		require.NoError(t, err)
		got := make(chan bool)
		go func() { got <- reverseproxy.WaitGone(server) }()
		c.act(client, server)
		require.Equal(t, c.want, <-got, c.name)
		client.Close()
		server.Close()
	}
}
