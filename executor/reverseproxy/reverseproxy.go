// Package reverseproxy is one HTTP/1.1 hop: a request that a fasthttp server
// received goes to one upstream, and the upstream's answer comes back. The
// watchdog's http mode and the gateway's function proxy share it. It owns the
// connections to the upstream and the rules of RFC 9110 and RFC 9112 for
// intermediaries; it does not choose upstreams, authenticate, log or retry.
package reverseproxy

import (
	"errors"
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
	// ErrBadBody: the client's body broke its own framing or ended early.
	ErrBadBody = errors.New("request body is broken")
)

// Config describes an upstream.
type Config struct {
	// Network and Address are dialled: "tcp" and "host:port", or "unix" and a
	// socket path.
	Network, Address string
	// DialTimeout bounds one dial; 0 = 5s.
	DialTimeout time.Duration
	// MaxIdle is how many idle connections are kept; 0 = 100.
	MaxIdle int
	// IdleTimeout is how long an idle connection is kept; 0 = 30s.
	IdleTimeout time.Duration
}

// Upstream is one server and the idle connections to it. It is safe for
// concurrent use.
type Upstream struct{}

// New returns an upstream. It dials nothing yet.
func New(c Config) *Upstream { return &Upstream{} }

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
	// BufferBody reads a body of unknown length whole and sends it with a
	// Content-Length.
	BufferBody bool
}

// Forward sends ctx's request to the upstream and puts the answer into
// ctx.Response, whose body streams from the upstream after the caller's
// handler has returned. On an error ctx.Response is untouched.
func (u *Upstream) Forward(ctx *fasthttp.RequestCtx, o Options) error { return ErrUnreachable }

// Close closes the idle connections; those in use close when they are done.
func (u *Upstream) Close() {}
