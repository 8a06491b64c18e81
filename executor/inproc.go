package executor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Handler calls an http.Handler in this process. Between the two is the same
// hop as in http mode, over connections in memory, to a server of net/http: so
// streaming both ways, Flush, Hijack, trailers and the request's context are
// that package's own and exact. It is safe for concurrent use.
type Handler struct {
	config   Config
	handler  http.Handler
	server   *http.Server
	listener *pipeListener
	upstream *reverseproxy.Upstream
	// remoteHeader carries the client's address to our end of the pipe. Nobody
	// else knows its name, so nobody can set it.
	remoteHeader string
	life         context.Context
	endLife      context.CancelFunc
}

// NewHandler returns the in-process mode for handler.
func NewHandler(c Config, handler http.Handler) *Handler {
	h := &Handler{config: c, handler: handler, remoteHeader: "X-Remote-" + rand.Text()}
	h.life, h.endLife = context.WithCancel(context.Background())
	h.listener = &pipeListener{conns: make(chan net.Conn), closed: h.life.Done()}
	h.server = &http.Server{
		Handler:                      http.HandlerFunc(h.serve),
		DisableGeneralOptionsHandler: true, // OPTIONS * is the handler's too
		ErrorLog:                     log.New(logfWriter(c.logf), "", 0),
		BaseContext:                  func(net.Listener) context.Context { return h.life },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			end := c.(*serverEnd)
			context.AfterFunc(end.gone, cancel)
			return context.WithValue(ctx, endKey{}, end)
		},
	}
	h.upstream = reverseproxy.New(reverseproxy.Config{Dial: h.listener.dial, Address: "in-process"})
	return h
}

// Run serves until ctx ends. The contexts of calls that still run then end too,
// and their handlers have a second to return: Go code cannot be killed.
func (h *Handler) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, h.endLife)
	defer stop()
	err := h.server.Serve(h.listener)
	if h.life.Err() == nil {
		return err
	}
	h.upstream.Close()
	grace, cancel := context.WithTimeout(context.Background(), h.config.killDelay(time.Second))
	defer cancel()
	h.server.Shutdown(grace)
	h.server.Close()
	return nil
}

// Kill ends the contexts of all calls, and so Run.
func (h *Handler) Kill() {
	h.endLife()
	h.server.Close()
}

// Ready reports true: a handler needs no start of its own.
func (h *Handler) Ready() bool { return true }

// Invoke has the handler answer ctx. When call.Timeout strikes before it has
// begun to, or its client leaves, the request's context ends and an error is
// returned, which leaves the response untouched, see [Status].
func (h *Handler) Invoke(ctx *fasthttp.RequestCtx, call Call) error {
	o := reverseproxy.Options{Timeout: call.Timeout, IdleTimeout: call.Timeout, BufferBody: h.config.BufferBody, DropTrailers: call.DropTrailers}
	if !bytes.Equal(call.Target, ctx.Request.Header.RequestURI()) {
		o.Target = call.Target
	}
	ctx.Request.Header.Set(h.remoteHeader, ctx.RemoteAddr().String())
	return h.upstream.Forward(ctx, o)
}

// serve is the way of a request on net/http's side. A panic before the answer
// has begun is a 500, later it cuts the answer off.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	r.RemoteAddr = r.Header.Get(h.remoteHeader)
	r.Header.Del(h.remoteHeader)
	tracked := &responseWriter{ResponseWriter: w}
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v != http.ErrAbortHandler {
			h.config.logf("The handler panicked: %q\n%s", fmt.Sprint(v), debug.Stack())
		}
		if tracked.began {
			r.Context().Value(endKey{}).(*serverEnd).spent.Store(true)
			tracked.Flush() // else the hop would see no answer and might ask again
			panic(http.ErrAbortHandler)
		}
		clear(w.Header())
		http.Error(w, "function failed: its handler panicked", http.StatusInternalServerError)
	}()
	h.handler.ServeHTTP(tracked, r)
}

// responseWriter knows whether the answer has begun.
type responseWriter struct {
	http.ResponseWriter
	began bool
}

func (w *responseWriter) WriteHeader(status int) {
	w.began = w.began || status >= 200 || status == http.StatusSwitchingProtocols
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.began = true
	return w.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom, for net/http's pooled buffers.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.began = true
	return io.Copy(w.ResponseWriter, r)
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() {
	w.began = true
	w.ResponseWriter.(http.Flusher).Flush()
}

// Hijack implements http.Hijacker.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.began = true
		conn.(*serverEnd).spent.Store(true)
	}
	return conn, rw, err
}

// Unwrap serves http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pipeListener makes connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed <-chan struct{}
}

func (l *pipeListener) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	gone, leave := context.WithCancel(context.Background())
	end := &serverEnd{Conn: theirs, gone: gone}
	select {
	case l.conns <- end:
		return &hopEnd{Conn: ours, leave: leave, other: end}, nil
	case <-l.closed:
		leave()
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "in-process", Net: "pipe"} }

// serverEnd is the end that net/http has. It learns at once when the hop gives
// up: net/http itself only while it is not waiting for more of the body.
type serverEnd struct {
	net.Conn
	gone  context.Context
	spent atomic.Bool // takes no request any more
}

// endKey is where a request's context has its *serverEnd.
type endKey struct{}

func (e *serverEnd) Close() error {
	e.spent.Store(true)
	return e.Conn.Close()
}

// hopEnd is the end that the hop has. The hop writes a request before it reads
// an answer, and a pipe holds nothing: a server that answers in the midst of a
// request, to refuse it or with 103, would wait for us while we wait for it.
// So one write, a request's header and small body, may be under way behind the
// hop's back.
type hopEnd struct {
	net.Conn
	leave context.CancelFunc
	other *serverEnd

	wrote    chan struct{} // closed when the last write is over; nil = it is
	writeErr error         // of that write
	held     []byte        // what it writes: the hop reuses its own buffer
}

// readAhead is how much net/http takes off a connection before it acts on any of
// it.
const readAhead = 4 << 10

// Write implements net.Conn. An error may be the write's before.
func (e *hopEnd) Write(p []byte) (int, error) {
	if e.wrote != nil {
		<-e.wrote
		e.wrote = nil
		if e.writeErr != nil {
			return 0, e.writeErr
		}
	}
	if len(p) <= readAhead {
		return e.Conn.Write(p)
	}
	e.held = append(e.held[:0], p...)
	done := make(chan struct{})
	e.wrote = done
	go func() {
		defer close(done)
		_, e.writeErr = e.Conn.Write(e.held)
	}()
	return len(p), nil
}

// Close closes before it tells: a handler that ends because its client has left
// must not have its end taken for a whole answer.
func (e *hopEnd) Close() error {
	err := e.Conn.Close()
	e.leave()
	return err
}

// Spent tells the hop, which sees a socket's end by looking at it, that the other
// end is closed, or a handler's who has hijacked it: no next call may meet him.
func (e *hopEnd) Spent() bool { return e.other.spent.Load() }

// Read speaks of a closed connection as a socket does.
func (e *hopEnd) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if errors.Is(err, io.ErrClosedPipe) {
		err = net.ErrClosed
	}
	return n, err
}

type logfWriter func(format string, args ...any)

func (f logfWriter) Write(p []byte) (int, error) {
	f("%s", bytes.TrimSuffix(p, []byte("\n")))
	return len(p), nil
}
