// Package executor runs a function, one file a mode: [HTTP] starts one process
// and forwards requests to its server, [Streaming] and [Serializing] fork a
// process for each request, [Handler] and [FastHandler] call Go code in this
// process, and [NewStatic] serves files. It owns processes, their groups, pipes
// and output; routing, authentication, limits and the access log are the
// caller's.
package executor

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// What callers branch on; [Status] maps them, and reverseproxy's too.
var (
	// ErrTimeout: the function ran longer than Call.Timeout.
	ErrTimeout = errors.New("the function ran into its time limit")
	// ErrFailed: the function's process ended with a non-zero status, or its
	// handler panicked.
	ErrFailed = errors.New("function failed")
	// ErrBadOutput: with Config.CGIHeaders, the output did not begin with a
	// header as RFC 3875, section 6, has it. It wraps ErrFailed.
	ErrBadOutput = fmt.Errorf("%w: bad CGI header", ErrFailed)
	// ErrShutdown: Run's context ended while the function worked.
	ErrShutdown = errors.New("the watchdog is shutting down")
)

// Config describes the function. Each mode uses what concerns it.
type Config struct {
	// Command is the program and its arguments.
	Command []string
	// Env is the environment of the function's processes, "name=value".
	Env []string
	// Upstream is the function's own server, for HTTP: http:// or unix://.
	Upstream *url.URL
	// BufferBody sends request bodies with a Content-Length, for HTTP.
	BufferBody bool
	// StreamIdle bounds the silence between two pieces of a response, for HTTP;
	// 0 = Call.Timeout.
	StreamIdle time.Duration
	// ContentType is that of the responses in the fork modes; empty = none.
	ContentType string
	// CGIHeaders has the output begin with a header, for the fork modes: see
	// [ErrBadOutput].
	CGIHeaders bool
	// CombineOutput has stderr join the response, for the fork modes.
	CombineOutput bool
	// ReadDebug and WriteDebug log the first 4 KiB of each request body and
	// each response body, for the fork modes. Headers are never logged.
	ReadDebug, WriteDebug bool
	// KillDelay is granted between SIGTERM and SIGKILL; 0 = 10s for HTTP,
	// which may have state to save, and 1s in the fork modes.
	KillDelay time.Duration

	// Stdout and Stderr take the function's log lines. They must be safe for
	// concurrent use, as an *os.File is.
	Stdout, Stderr io.Writer
	// PrefixLogs puts the time and the stream's name before each line.
	PrefixLogs bool
	// MaxLine is the longest log line in bytes, longer ones are split;
	// 0 = 64 KiB, -1 = unlimited.
	MaxLine int
	// Logf reports the panics of handlers in this process; nil = silence.
	Logf func(format string, args ...any)
}

// Call is one invocation.
type Call struct {
	// Target is the request target, in origin form.
	Target []byte
	// Timeout bounds the call; 0 = no limit.
	Timeout time.Duration
	// Traceparent replaces the request's header of that name where it becomes
	// an environment variable; "" = the request's own.
	Traceparent string
	// DropTrailers keeps the request's trailers from the function, as they
	// would be a second way to set headers that the caller vouches for.
	DropTrailers bool
	// CloseAfterBody has a function's own server take no other request on a
	// connection behind one that has a body, for HTTP: it might not read the
	// body, and take it for a request.
	CloseAfterBody bool
}

func (c Config) killDelay(fallback time.Duration) time.Duration {
	if c.KillDelay > 0 {
		return c.KillDelay
	}
	return fallback
}

func (c Config) logf(format string, args ...any) {
	if c.Logf != nil {
		c.Logf(format, args...)
	}
}

// Status maps an error of Invoke to an HTTP status. internal says that the
// watchdog made the error and not the function or the client, which tells
// queue workers that another try may help.
func Status(err error) (code int, internal bool) {
	switch {
	case errors.Is(err, ErrTimeout), errors.Is(err, reverseproxy.ErrTimeout):
		return http.StatusGatewayTimeout, true
	case errors.Is(err, reverseproxy.ErrBodyTooLarge):
		return http.StatusRequestEntityTooLarge, false
	case errors.Is(err, reverseproxy.ErrBadBody):
		return http.StatusBadRequest, false
	case errors.Is(err, reverseproxy.ErrClientGone):
		return 499, false // nobody reads it; nginx' number, for log and metrics
	case errors.Is(err, syscall.E2BIG):
		// Headers become environment variables, and the kernel limits those.
		return http.StatusRequestHeaderFieldsTooLarge, false
	case errors.Is(err, ErrBadOutput):
		return http.StatusBadGateway, false
	case errors.Is(err, ErrFailed):
		return http.StatusInternalServerError, false
	default:
		return http.StatusInternalServerError, true
	}
}
