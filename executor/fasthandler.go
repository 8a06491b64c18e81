package executor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// FastHandler calls a fasthttp handler in this process, on the server's own
// context and goroutine. Such a handler cannot be told to stop: neither when
// its time is up nor when its client has left. It is safe for concurrent use.
type FastHandler struct {
	config  Config
	handler fasthttp.RequestHandler
}

// NewFastHandler returns the in-process mode for handler.
func NewFastHandler(c Config, handler fasthttp.RequestHandler) *FastHandler {
	return &FastHandler{c, handler}
}

// Run waits for ctx's end.
func (h *FastHandler) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Kill does nothing: Go code cannot be killed.
func (h *FastHandler) Kill() {}

// Ready reports true: a handler needs no start of its own.
func (h *FastHandler) Ready() bool { return true }

// Invoke has the handler answer ctx. When call.Timeout strikes before the
// handler has returned, the client is answered with 504 at once, and the body
// cannot be read any more; Invoke returns with the handler, since that is how
// long the function is busy. A client that has pipelined its requests has to wait
// for that too, since the answers before are not out: it would take this one for
// theirs. Then, or when the handler has panicked, the error says so.
//
// To drop trailers it reads the chunks first, since fasthttp puts trailers among
// the headers: up to reverseproxy.MaxBuffered.
func (h *FastHandler) Invoke(ctx *fasthttp.RequestCtx, call Call) (err error) {
	if call.DropTrailers && ctx.Request.IsBodyStream() && ctx.Request.Header.ContentLength() < 0 {
		if err := dropTrailers(ctx); err != nil {
			return err
		}
	}
	var answered atomic.Bool // by us or by the timer
	timedOut := make(chan struct{})
	client, is := ctx.Conn().(interface{ Pipelined() bool })
	pipelined := is && client.Pipelined()
	if call.Timeout > 0 {
		conn, head, began := ctx.Conn(), ctx.IsHead(), ctx.Time()
		timer := time.AfterFunc(call.Timeout, func() {
			if answered.CompareAndSwap(false, true) {
				if !pipelined {
					answerTimeout(conn, head, began)
				}
				close(timedOut)
			}
		})
		defer timer.Stop()
	}
	h.withUsualHeaders(ctx, func() {
		defer func() {
			if v := recover(); v != nil {
				h.config.logf("The handler panicked: %q\n%s", fmt.Sprint(v), debug.Stack())
				ctx.Response.Reset()
				err = fmt.Errorf("%w: its handler panicked", ErrFailed)
			}
		}()
		h.handler(ctx)
	})
	if !answered.CompareAndSwap(false, true) {
		<-timedOut
		ctx.Response.Reset()
		ctx.SetConnectionClose()
		if !pipelined {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(net.Conn) {})
		}
		return ErrTimeout
	}
	return err
}

// dropTrailers reads a chunked body and forgets what came behind it.
func dropTrailers(ctx *fasthttp.RequestCtx) error {
	var before fasthttp.RequestHeader
	ctx.Request.Header.CopyTo(&before)
	stream := ctx.RequestBodyStream()
	body, err := io.ReadAll(io.LimitReader(stream, reverseproxy.MaxBuffered+1))
	if len(body) > reverseproxy.MaxBuffered {
		return fmt.Errorf("%w: more than %d bytes", reverseproxy.ErrBodyTooLarge, reverseproxy.MaxBuffered)
	}
	if err == nil {
		err = reverseproxy.EndOfChunks(ctx.Conn(), stream)
	}
	if err != nil {
		return reverseproxy.BodyFailure(ctx.Conn(), err)
	}
	ctx.Request.SetBodyRaw(body)
	before.CopyTo(&ctx.Request.Header)
	return nil
}

// answerTimeout answers in the place of a handler that still runs.
func answerTimeout(conn net.Conn, head bool, began time.Time) {
	var r fasthttp.Response
	r.SetStatusCode(http.StatusGatewayTimeout)
	r.SetConnectionClose()
	r.SkipBody = head
	r.Header.Set("X-OpenFaaS-Internal", "of-watchdog")
	r.Header.Set("X-Duration-Seconds", fmt.Sprintf("%f", time.Since(began).Seconds()))
	r.SetBodyString("Gateway Timeout\n")
	w := bufio.NewWriter(conn)
	r.Write(w)
	w.Flush()
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	conn.SetReadDeadline(time.Unix(1, 0)) // nobody is to work on half a body
}

// withUsualHeaders calls f while header names are normalized and answers have a
// type by default, as fasthttp's handlers are used to. The server keeps both as
// they came, for the other modes.
func (h *FastHandler) withUsualHeaders(ctx *fasthttp.RequestCtx, f func()) {
	in, out := &ctx.Request.Header, &ctx.Response.Header
	var odd [][2]string
	for name, value := range in.All() {
		if n := string(name); textproto.CanonicalMIMEHeaderKey(n) != n {
			odd = append(odd, [2]string{n, string(value)})
		}
	}
	for _, field := range odd {
		in.Del(field[0])
	}
	in.EnableNormalizing()
	for _, field := range odd {
		in.Add(field[0], field[1])
	}
	out.EnableNormalizing()
	out.SetNoDefaultContentType(false)
	defer func() {
		in.DisableNormalizing()
		out.DisableNormalizing()
		if len(out.ContentType()) > 0 {
			out.SetContentTypeBytes(out.ContentType()) // the default one, too
		}
		out.SetNoDefaultContentType(true)
	}()
	f()
}
