package executor

import (
	"errors"
	"io"
	"os"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Streaming forks a process for each request. The body is its stdin, its stdout
// is streamed to the client while the process runs, and while the body is still
// being sent if it likes. It is safe for concurrent use.
type Streaming struct{ *forks }

// NewStreaming returns the streaming mode of c.
func NewStreaming(c Config) *Streaming { return &Streaming{newForks(c)} }

// Invoke answers ctx with the output of a new process: 200 with its first byte
// or its clean end. An error before that leaves the response untouched, see
// [Status]; after it the response is cut off, so that nobody takes it for
// whole, and the body's Err says why.
func (s *Streaming) Invoke(ctx *fasthttp.RequestCtx, call Call) error {
	body, size := requestBody(ctx)
	k, err := s.fork(ctx, call, body, size)
	if err != nil {
		return err
	}
	out := &output{fork: k, buf: make([]byte, 32<<10)}
	n, err := out.read(out.buf)
	for err == nil && ctx.IsHead() { // its answer has no body to stream
		n, err = out.read(out.buf)
	}
	if err != nil {
		k.end()
		if !errors.Is(err, io.EOF) {
			return err
		}
		ctx.SetContentType(s.config.ContentType)
		return nil
	}
	out.first = out.buf[:n]
	ctx.SetContentType(s.config.ContentType)
	ctx.SetBodyStream(out, -1)
	ctx.Response.ImmediateHeaderFlush = true
	return nil
}

// output is the body of a streaming response.
type output struct {
	*fork
	buf   []byte
	first []byte // read before the response began
	whole bool
	n     int64
	cause error // why the output was cut off
}

// Read implements io.Reader. Its io.EOF comes after the process' clean end only.
func (o *output) Read(p []byte) (int, error) {
	if len(o.first) > 0 {
		n := copy(p, o.first)
		o.first = o.first[n:]
		o.n += int64(n)
		return n, nil
	}
	n, err := o.read(p)
	o.n += int64(n)
	if err == io.EOF {
		o.whole = true
	} else if err != nil {
		o.cause = err
	}
	return n, err
}

func (o *output) read(p []byte) (int, error) {
	n, err := o.stdout.Read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, ErrTimeout
	}
	if err := o.wait(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// Sent returns how many bytes of body were read so far.
func (o *output) Sent() int64 { return o.n }

// Err says, after Close, why the output was cut off; nil = it was not.
func (o *output) Err() error {
	switch {
	case o.whole:
		return nil
	case o.cause != nil:
		return o.cause
	default:
		return reverseproxy.ErrClientGone
	}
}

// Close implements io.Closer: fasthttp calls it when the response is out, or
// when the client went away.
func (o *output) Close() error {
	o.end()
	return nil
}
