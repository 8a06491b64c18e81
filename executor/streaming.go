package executor

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Streaming forks a process for each request. The body is its stdin, its stdout
// is streamed to the client while the process runs, and while the body is still
// being sent if it likes. It is safe for concurrent use.
type Streaming struct {
	*forks
	buffers sync.Pool // of *buffers
}

// NewStreaming returns the streaming mode of c.
func NewStreaming(c Config) *Streaming {
	return &Streaming{newForks(c), sync.Pool{New: func() any {
		return &buffers{in: bufio.NewReader(nil), piece: make([]byte, 32<<10)}
	}}}
}

// buffers are those of one response. Without their reuse, calls kept the garbage
// collector busy.
type buffers struct {
	in    *bufio.Reader // reads from a fork
	piece []byte
}

// Invoke answers ctx with the output of a new process: 200, or what its CGI
// header says, with its first byte or its clean end. An error before that
// leaves the response untouched, see [Status]; after it the response is cut
// off, so that nobody takes it for whole, and the body's Err says why.
func (s *Streaming) Invoke(ctx *fasthttp.RequestCtx, call Call) error {
	body, size := requestBody(ctx)
	k, err := s.fork(ctx, call, body, size)
	if err != nil {
		return err
	}
	out := &output{fork: k, buffers: s.buffers.Get().(*buffers), pool: &s.buffers}
	out.in.Reset(readerFunc(k.read))
	var header cgiHeader
	if s.config.CGIHeaders {
		header, err = readCGIHeader(out.in)
	} else {
		_, err = out.in.Peek(1)
	}
	if err == nil && (ctx.IsHead() || header.hasNoBody()) { // nothing to stream
		if _, err = io.Copy(io.Discard, out.in); err == nil {
			err = io.EOF
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		out.Close()
		return err
	}
	header.apply(&ctx.Response.Header, s.config.ContentType)
	if err != nil {
		out.Close()
		return nil
	}
	ctx.SetBodyStream(out, -1)
	ctx.Response.ImmediateHeaderFlush = out.in.Buffered() == 0 // else it goes with the first piece
	if !ctx.Request.Header.IsHTTP11() {
		out.untilClose(ctx)
	}
	return nil
}

// output is the body of a streaming response.
type output struct {
	*fork
	*buffers
	pool   *sync.Pool // where buffers go
	whole  bool
	n      int64
	onEnd  func()
	cause  error // why the output was cut off
	closed bool
}

// Read implements io.Reader. Its io.EOF comes after the process' clean end only.
func (o *output) Read(p []byte) (int, error) {
	n, err := o.in.Read(p)
	o.n += int64(n)
	o.sent.Write(p[:n])
	if err != nil && o.onEnd != nil {
		o.onEnd()
	}
	if err == io.EOF {
		o.whole = true
	} else if err != nil {
		o.cause = err
	}
	return n, err
}

// SupportsBodyWriteTo makes fasthttp use WriteTo.
func (o *output) SupportsBodyWriteTo() bool { return true }

// WriteTo passes on each piece of output as it comes, with a larger buffer than
// fasthttp's own: half the time for a large body.
func (o *output) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{o}, o.piece)
}

// Sent returns how many bytes of body were read so far.
func (o *output) Sent() int64 { return o.n }

// OnEnd has f called, perhaps more than once, when the process has ended, before
// the client is told the end of the response.
func (o *output) OnEnd(f func()) { o.onEnd = f }

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
	if !o.closed {
		o.closed = true
		o.end()
		o.in.Reset(nil)
		o.pool.Put(o.buffers)
		o.buffers = nil
	}
	return nil
}

// untilClose takes the response out of the server's hands, which would write it
// in chunks: those a client that does not speak HTTP/1.1 takes for content
// (RFC 9112, section 6.1).
func (o *output) untilClose(ctx *fasthttp.RequestCtx) {
	client := ctx.Conn()
	ctx.SetConnectionClose()
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {
		defer o.Close()
		ctx.Response.Header.Del("Transfer-Encoding")
		_, err := client.Write(ctx.Response.Header.Header())
		if err == nil {
			_, err = o.WriteTo(client)
		}
		if tcp, ok := client.(interface{ SetLinger(int) error }); ok && err != nil {
			tcp.SetLinger(0) // cut short, it must not end well
		}
	})
}
