// Package reverseproxy is one HTTP/1.1 hop: a request that a fasthttp server
// received goes to one upstream, and the upstream's answer comes back. The
// watchdog and the gateway share both its ends. Towards the client, [NewServer]
// and [Listener] are the server: its settings, its connections, and their end
// without a lost request. Towards the function, [Upstream] owns the connections
// and the rules of RFC 9110 and RFC 9112 for intermediaries. The package does
// not choose upstreams, authenticate, log or retry.
//
// It does not pass on: interim responses (1xx) to a client that has pipelined
// its request, CONNECT, upgrades to h2c, all but the last of repeated
// Content-Type, Content-Encoding and Server lines of a response, and requests
// whose framing is ambiguous or whose header has more than 1000 lines. A client
// that shuts down its writing side before a slow answer is taken for gone. Per
// connection to the upstream it holds a read buffer of 64 KiB, the most a response
// header may take.
package reverseproxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// What Forward's callers branch on. Each is wrapped with the details.
var (
	// ErrUnreachable: the upstream could not be reached, or broke off or
	// answered nonsense before its response header was complete.
	ErrUnreachable = errors.New("upstream unreachable")
	// ErrTimeout: no response header within Options.Timeout.
	ErrTimeout = errors.New("upstream timed out")
	// ErrClientGone: the client went away, so the call upstream was cancelled.
	ErrClientGone = errors.New("client closed the connection")
	// ErrAborted: Listener.Abort has cut the connection off.
	ErrAborted = errors.New("the server was shut down")
	// ErrClientStalled: the client did not take its response.
	ErrClientStalled = errors.New("client stopped reading")
	// ErrBadBody: the client's request must not be passed on, because its
	// framing is ambiguous or broken, or its body ended early. It is the
	// client's fault: 400.
	ErrBadBody = errors.New("bad request")
	// ErrBodyTooLarge: Options.BufferBody met a body over MaxBuffered. It wraps
	// ErrBadBody; the status for it is 413.
	ErrBodyTooLarge = fmt.Errorf("%w: body is too large to buffer", ErrBadBody)
)

// Config describes an upstream.
type Config struct {
	// Network and Address are dialled: "tcp" and "host:port", or "unix" and a
	// socket path.
	Network, Address string
	// Dial makes a connection in place of Network and Address; nil = those. One
	// that is no socket should have Spent() bool: true = not for another call.
	Dial func() (net.Conn, error)
	// DialTimeout bounds one dial; 0 = 5s.
	DialTimeout time.Duration
	// MaxIdle is how many idle connections are kept; 0 = 100.
	MaxIdle int
	// Idle bounds them together with those of other upstreams; nil = it does not.
	Idle *IdleLimit
	// IdleTimeout is how long an idle connection is kept; 0 = 30s.
	IdleTimeout time.Duration
}

// Upstream is one server and the idle connections to it. It is safe for
// concurrent use.
type Upstream struct {
	config      Config
	maxBuffered int       // bytes that Options.BufferBody may hold
	buffers     sync.Pool // *[]byte, bufferSize long

	mu      sync.Mutex
	idle    []*conn            // longest idle first
	tunnels map[*conn]struct{} // upgraded connections
	closed  bool
	retired bool
}

const bufferSize = 32 << 10

// MaxBuffered is the largest request body that is held in memory whole, in
// bytes.
const MaxBuffered = 64 << 20

// New returns an upstream. It dials nothing yet.
func New(c Config) *Upstream {
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 100
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 30 * time.Second
	}
	return &Upstream{config: c, maxBuffered: MaxBuffered, tunnels: make(map[*conn]struct{})}
}

func (u *Upstream) buffer() *[]byte {
	if b, ok := u.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, bufferSize)
	return &b
}

// Options are what may differ from request to request.
type Options struct {
	// Target is the request target to send, origin form ("/path?query"); empty
	// = the client's own, byte for byte.
	Target []byte
	// Host replaces the Host header; empty = the client's own.
	Host string
	// Timeout bounds the time until the response header is complete; 0 = none.
	Timeout time.Duration
	// IdleTimeout bounds the silence between two reads of the response body;
	// 0 = none.
	IdleTimeout time.Duration
	// DropTrailers leaves out the request's trailers, which RFC 9110, section
	// 6.5.1, allows everybody on the way.
	DropTrailers bool
	// Withhold reports which fields of answers are not passed on, be they of the
	// header, of interim responses or of the trailers; nil = all are. A reason
	// phrase that is not the standard's comes with the name "".
	Withhold func(name, value []byte) bool
	// CloseAfterBody asks the upstream to close its connection after a request
	// that has a body. A server that does not read a body takes it for the next
	// request, which nobody has checked.
	CloseAfterBody bool
	// BufferBody reads a body of unknown length whole, up to MaxBuffered, and sends
	// it with a Content-Length. Reading it is bounded by the server's
	// ReadTimeout, not by Timeout.
	BufferBody bool
}

// Forward sends ctx's request to the upstream and puts the answer into
// ctx.Response, whose body streams from the upstream after the caller's
// handler has returned. Fields that the caller has set on ctx.Request.Header
// are sent; fields set on ctx.Response.Header before stay and win over the
// upstream's.
//
// On an error ctx.Response is untouched, but for Connection: close when the
// request was at fault (ErrBadBody); ctx.Error would lose that, so set it again
// after it. A half-read request body makes the server close the connection
// after the answer.
//
// Three kinds of answers leave the server through ctx.Hijack, after the
// handler has returned and with the header as it then is: an upgrade, an
// answer that comes before the request body is read, and one of unknown length
// for an HTTP/1.0 client. While ctx.Hijacked() is true the caller must leave
// ctx.Response's body alone and must not read ctx.Request.Header, to which
// trailers may still be added.
//
// For an exact hop the server is one of [NewServer]; another must be set to
// StreamRequestBody, DisablePreParseMultipartForm,
// DisableHeaderNamesNormalizing, NoDefaultContentType and NoDefaultDate.
func (u *Upstream) Forward(ctx *fasthttp.RequestCtx, o Options) error {
	buf := u.buffer()
	defer u.buffers.Put(buf)
	r, err := newRequest(ctx, &o, (*buf)[:0], u.maxBuffered)
	if err != nil {
		// Where this request ends, another server may see otherwise.
		ctx.SetConnectionClose()
		return err
	}
	now := time.Now() // a look at the clock has its price too
	var deadline time.Time
	if o.Timeout > 0 {
		deadline = now.Add(o.Timeout)
	}

	up, err := u.get(now, deadline)
	if err != nil {
		return err
	}
	a, again, err := u.call(ctx, r, up, deadline)
	if again {
		// An idle connection died just when it was taken. A fresh one is tried
		// once, and never when the upstream could have seen the request twice.
		if up, err = u.dial(deadline); err != nil {
			return err
		}
		a, _, err = u.call(ctx, r, up, deadline)
	}
	if err != nil {
		return err
	}
	a.idle = o.IdleTimeout
	return a.deliver(r)
}

// call sends r over up and waits for the header of the response. again says
// that it failed without harm and is worth another connection.
func (u *Upstream) call(ctx *fasthttp.RequestCtx, r *request, up *conn, deadline time.Time) (a *answer, again bool, err error) {
	up.answered, up.readErr = false, nil
	up.watch.reset()
	if !deadline.IsZero() {
		up.SetDeadline(deadline)
	}
	a = &answer{u: u, ctx: ctx, up: up, last: r.last, withheld: r.withheld}
	// A failed write is no reason to give up: the upstream may have answered
	// and closed before it read everything.
	wrote, _ := up.Write(r.head)
	if r.body == nil {
		up.watch.start(ctx.Conn(), up, up.began)
	} else {
		a.send = &sender{ctx: ctx, req: r, up: up, read: make(chan struct{}), done: make(chan struct{})}
		go func() {
			buf := u.buffer()
			defer u.buffers.Put(buf)
			a.send.run(*buf)
		}()
	}
	err = up.readHeader(func() { passInterim(ctx, r, &up.resp.Header) })
	if err == nil {
		if !deadline.IsZero() {
			up.SetDeadline(time.Time{})
		}
		return a, false, nil
	}

	gone := up.watch.stop()
	up.Close()
	if a.send != nil {
		a.send.stop()
	}
	switch {
	case gone:
		return nil, false, fmt.Errorf("%w while it waited for the answer", ErrClientGone)
	case a.send != nil && a.send.clientErr != nil && errors.Is(up.readErr, net.ErrClosed):
		return nil, false, a.send.clientErr // and not an error of stop's making
	case !errors.Is(err, ErrUnreachable), a.send != nil, !up.reused, up.answered:
		return nil, false, err
	}
	return nil, wrote == 0 || idempotent(r.method), err
}

// idempotent reports whether a method may be sent twice (RFC 9110, section
// 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// Close closes the idle connections and the upgraded ones, which would
// otherwise have no end; those in use close when they are done.
func (u *Upstream) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.drop(len(u.idle))
	for c := range u.tunnels {
		c.Close()
	}
}

// Retire closes the idle connections and keeps none from now on. Unlike Close it
// leaves what is under way alone, and a call that comes late is still made: it is
// for an upstream that others may just have been given.
func (u *Upstream) Retire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.retired = true
	u.drop(len(u.idle))
}

// track takes note of an upgraded connection; false = u is closed already.
func (u *Upstream) track(c *conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.tunnels[c] = struct{}{}
	}
	return !u.closed
}

func (u *Upstream) untrack(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.tunnels, c)
}
