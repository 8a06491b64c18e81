package executor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// coldStart is how long a request may wait for a function that has been started
// and does not accept connections yet. Call.Timeout may shorten it.
const coldStart = 10 * time.Second

// HTTP starts one process, which serves HTTP itself, and forwards every request
// to it. It is safe for concurrent use.
type HTTP struct {
	config           Config
	network, address string
	prefix           []byte // of Config.Upstream's path
	upstream         *reverseproxy.Upstream
	accepting        chan struct{} // closed when the function first accepts
	exited           chan struct{} // closed when Run has returned
	kill             context.Context
	killAll          context.CancelFunc
}

// NewHTTP returns the http mode of c, or an error that says what is wrong with
// c.Upstream.
func NewHTTP(c Config) (*HTTP, error) {
	h := &HTTP{config: c, accepting: make(chan struct{}), exited: make(chan struct{})}
	switch u := c.Upstream; {
	case u == nil:
		return nil, errors.New("http mode needs an upstream")
	case u.Scheme == "unix":
		h.network, h.address = "unix", u.Path
	case u.Scheme == "http":
		h.network, h.address = "tcp", hostPort(u)
		h.prefix = []byte(strings.TrimSuffix(u.EscapedPath(), "/"))
	default:
		return nil, fmt.Errorf("upstream %q: want http:// or unix://", u.Redacted())
	}
	h.kill, h.killAll = context.WithCancel(context.Background())
	h.upstream = reverseproxy.New(reverseproxy.Config{Network: h.network, Address: h.address})
	return h, nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// Run starts the function and returns nil after ctx has ended and the function
// with it. A function that ends by itself is an error, whatever its status.
//
// It occupies an operating system thread: the kernel kills the function when
// the thread that started it ends.
func (h *HTTP) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(h.exited)
	defer h.upstream.Close()

	program, err := h.config.lookup()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := h.config.start(ctx, h.kill, launch{
		program: program, env: h.config.environ(), delay: h.config.killDelay(10 * time.Second), logStdout: true,
	})
	if err != nil {
		return err
	}
	p.attend(h.config)
	go h.probe(ctx)

	err = p.wait()
	stopped := ctx.Err() != nil
	cancel() // ends what the function left behind
	p.release()
	p.flushLogs(time.Second)
	switch {
	case stopped:
		return nil
	case err != nil:
		return fmt.Errorf("the function's process ended by itself: %w", err)
	default:
		return errors.New("the function's process ended by itself: exit status 0")
	}
}

// Kill ends the function at once, and so Run.
func (h *HTTP) Kill() { h.killAll() }

// probe closes h.accepting once the function's server accepts a connection.
func (h *HTTP) probe(ctx context.Context) {
	dialer := net.Dialer{Timeout: time.Second}
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if conn, err := dialer.DialContext(ctx, h.network, h.address); err == nil {
			conn.Close()
			close(h.accepting)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Ready reports whether the function runs and has accepted a connection.
func (h *HTTP) Ready() bool {
	select {
	case <-h.exited:
		return false
	default:
	}
	select {
	case <-h.accepting:
		return true
	default:
		return false
	}
}

// Invoke forwards ctx's request. A request that comes before the function
// accepts connections waits, for 10s at most. An error leaves the response
// untouched, see [Status].
func (h *HTTP) Invoke(ctx *fasthttp.RequestCtx, call Call) error {
	if err := h.waitForStart(call.Timeout); err != nil {
		return err
	}
	o := reverseproxy.Options{
		Timeout:     call.Timeout,
		IdleTimeout: cmp.Or(h.config.StreamIdle, call.Timeout),
		BufferBody:  h.config.BufferBody,

		DropTrailers:   call.DropTrailers,
		CloseAfterBody: call.CloseAfterBody,
	}
	if len(h.prefix) > 0 || !bytes.Equal(call.Target, ctx.Request.Header.RequestURI()) {
		o.Target = append(bytes.Clone(h.prefix), call.Target...)
	}
	return h.upstream.Forward(ctx, o)
}

func (h *HTTP) waitForStart(limit time.Duration) error {
	select {
	case <-h.accepting:
		return nil
	default:
	}
	err := reverseproxy.ErrTimeout
	if limit <= 0 || limit > coldStart {
		limit, err = coldStart, reverseproxy.ErrUnreachable
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-h.accepting:
		return nil
	case <-h.exited:
		return fmt.Errorf("%w: the function's process has ended", reverseproxy.ErrUnreachable)
	case <-timer.C:
		return fmt.Errorf("%w: nothing accepts connections at %s after %s", err, h.address, limit)
	}
}
