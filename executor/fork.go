package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// forks is what the two fork modes share: the processes that run now.
type forks struct {
	config  Config
	ctx     context.Context // ends when Run's does: with it, every process
	cancel  context.CancelCauseFunc
	kill    context.Context
	killAll context.CancelFunc
	running sync.WaitGroup
	program atomic.Pointer[string] // the command's file, once Run has found it
}

func newForks(c Config) *forks {
	c.Env = c.environ()
	f := &forks{config: c}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.kill, f.killAll = context.WithCancel(context.Background())
	return f
}

// Run waits for ctx's end and then ends the processes that are left. It fails
// at once when there is no such program.
func (f *forks) Run(ctx context.Context) error {
	program, err := f.config.lookup()
	if err != nil {
		return err
	}
	f.program.Store(&program)
	<-ctx.Done()
	f.cancel(ErrShutdown)
	f.running.Wait()
	return nil
}

// Kill ends every process at once.
func (f *forks) Kill() { f.killAll() }

// Ready reports whether Run has found the program. A fork needs no start of its
// own, but who was told that a misspelt one is ready would end what ran before.
func (f *forks) Ready() bool { return f.program.Load() != nil }

// fork is one request's process.
type fork struct {
	*process
	cancel  context.CancelCauseFunc
	conn    net.Conn
	late    *time.Timer   // attends to a process that had its input at the start; nil = feed does
	feeding chan struct{} // closed when feed, or what late starts, has returned
	ending  chan struct{} // closed when it should
	body    bodyState     // valid after feeding
	ended   func(left bool)
	config  Config

	received, sent *excerpt // for Config.ReadDebug and WriteDebug; nil = off
}

// bodyState says where feeding left the client's body, and so what the server
// may still read from the connection.
type bodyState int

const (
	bodyRead     bodyState = iota // to its end
	bodyUnwanted                  // up to some byte: the rest can be skipped
	bodyBroken                    // no telling where the next request begins
)

// attendDelay is how old a call with a small body is before somebody looks
// whether the client is there and what the process writes to its log: what ends
// sooner costs no goroutine.
const attendDelay = 5 * time.Millisecond

// fork starts the process of one request and feeds it body, of which size
// bytes must come; size -1 = the client's chunks. The caller must call end.
func (f *forks) fork(ctx *fasthttp.RequestCtx, call Call, body io.Reader, size int) (*fork, error) {
	env, err := requestEnv(&ctx.Request.Header, call.Target)
	if err != nil {
		return nil, err
	}
	program := f.program.Load()
	if program == nil { // Run has not come so far
		found, err := f.config.lookup()
		if err != nil {
			return nil, err
		}
		program = &found
	}
	l := launch{
		program: *program,
		env:     override(f.config.Env, withTraceparent(env, call.Traceparent)),
		delay:   f.config.killDelay(time.Second),
	}
	runCtx, cancel := context.WithCancelCause(f.ctx)
	stopTimer := func() bool { return true }
	if call.Timeout > 0 {
		stopTimer = time.AfterFunc(call.Timeout, func() { cancel(ErrTimeout) }).Stop
	}
	f.running.Add(1)
	var p *process
	ended := func(left bool) {
		stopTimer()
		cancel(nil)
		if left {
			go f.killLeftovers(p)
		} else {
			f.running.Done()
		}
	}
	if 0 <= size && size <= maxInput {
		l.input = make([]byte, size)
		if err := readInput(runCtx, ctx, body, l.input); err != nil {
			ended(false)
			return nil, err
		}
	}
	if p, err = f.config.start(runCtx, f.kill, l); err != nil {
		ended(false)
		return nil, err
	}
	k := &fork{
		process: p, config: f.config, cancel: cancel, conn: ctx.Conn(), ended: ended,
		feeding: make(chan struct{}), ending: make(chan struct{}),
	}
	if f.config.ReadDebug {
		k.received = &excerpt{}
		k.received.Write(l.input)
	}
	if f.config.WriteDebug {
		k.sent = &excerpt{}
	}
	if l.input != nil {
		k.late = time.AfterFunc(attendDelay, func() {
			defer close(k.feeding)
			p.attend(f.config)
			k.watch()
		})
	} else {
		p.attend(f.config)
		go k.feed(body, size)
	}
	return k, nil
}

// readInput reads a small body, which has mostly come with its header. If not,
// its client has as long as the whole call has, and not as long as reading may take.
func readInput(runCtx context.Context, ctx *fasthttp.RequestCtx, body io.Reader, input []byte) error {
	conn := ctx.Conn()
	if _, here := body.(*bytes.Reader); !here && len(input) > 0 {
		stop := context.AfterFunc(runCtx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
		defer func() {
			if !stop() {
				ctx.SetConnectionClose() // whose deadline is in the past, or soon will be
			}
		}()
	}
	_, err := io.ReadFull(body, input)
	if cause := context.Cause(runCtx); cause != nil {
		return cause
	}
	if err != nil {
		return reverseproxy.BodyFailure(conn, err)
	}
	return nil
}

// killLeftovers ends what a process has left running in its group. No limit
// counts what runs on after its call, no log line names it, and it would slow
// down the calls that follow. What is meant to outlive a call has a moment to
// leave the group, which setsid does.
func (f *forks) killLeftovers(p *process) {
	defer f.running.Done()
	select {
	case <-time.After(f.config.killDelay(time.Second)):
	case <-f.ctx.Done():
	case <-f.kill.Done():
	}
	killGroup(p.child)
}

// feed writes the request's body to the process and then watches the client,
// so that nobody works for one who went away.
func (k *fork) feed(body io.Reader, size int) {
	defer close(k.feeding)
	from := &source{r: body, seen: k.received}
	_, err := io.Copy(k.stdin, from)
	if err != nil && from.err == nil { // the function does not want the rest
		k.stdin.Close()
		k.body = bodyUnwanted
	} else {
		if err == nil {
			err = wholeBody(k.conn, body, from.n, size)
		}
		if err != nil {
			// The process is ended without seeing the end of its input: half an
			// upload must not be processed as if it were whole.
			k.body = bodyBroken
			k.cancel(reverseproxy.BodyFailure(k.conn, err))
			return
		}
		k.stdin.Close()
	}
	k.watch()
}

// watch ends the process when the client goes.
func (k *fork) watch() {
	k.conn.SetReadDeadline(time.Time{}) // the server's is for reading the request
	select {
	case <-k.ending: // whose deadline this, or wholeBody, may have taken back
		return
	default:
	}
	if reverseproxy.WaitGone(k.conn) {
		k.cancel(reverseproxy.ErrClientGone)
	}
}

// wholeBody returns an error if a body of size bytes, of which n were read up to
// a plain io.EOF, is not whole: fasthttp reports an early end like that, too.
func wholeBody(client net.Conn, body io.Reader, n int64, size int) error {
	if size < 0 {
		return reverseproxy.EndOfChunks(client, body)
	}
	if n < int64(size) {
		return fmt.Errorf("%w: %d bytes instead of %d", io.ErrUnexpectedEOF, n, size)
	}
	return nil
}

// read reads the process' output. Its io.EOF comes after a clean end only.
func (k *fork) read(p []byte) (int, error) {
	n, err := k.stdout.Read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, ErrTimeout
	}
	if err := k.wait(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// end ends the process if it still runs, and returns when nothing of it uses
// the connection any more.
func (k *fork) end() {
	select {
	case <-k.exited:
	default:
		k.cancel(reverseproxy.ErrClientGone)
	}
	if k.late == nil || !k.late.Stop() {
		k.endFeeding()
	} else if !k.closeStderr() {
		k.logStderr(k.config)
	}
	if c, ok := k.conn.(interface{ Linger() }); ok && k.body != bodyRead {
		c.Linger() // if the server closes the connection now
	}
	k.wait()
	left := k.release()
	if k.received != nil {
		k.config.logf("Request body: %s", k.received)
	}
	if k.sent != nil {
		k.config.logf("Response body: %s", k.sent)
	}
	k.ended(left)
}

// endFeeding has feed, or watch, return, and the connection ready for the server.
func (k *fork) endFeeding() {
	select {
	case <-k.feeding:
		return
	default:
	}
	// Wake the feeder where it reads from the client or watches it. In the
	// midst of a body the deadline stays: a server that went on reading
	// could take the rest of a chunk for the next request.
	close(k.ending)
	k.conn.SetReadDeadline(time.Unix(1, 0))
	if k.stdin != nil {
		k.stdin.Close()
	}
	<-k.feeding
	switch k.body {
	case bodyRead:
		k.conn.SetReadDeadline(time.Time{})
	case bodyUnwanted:
		k.conn.SetReadDeadline(time.Now().Add(time.Second))
	}
}

// excerpt keeps the begin of what is written to it; nil keeps nothing.
type excerpt struct {
	head []byte
	n    int64
}

const maxExcerpt = 4 << 10

// Write implements io.Writer. It never fails.
func (e *excerpt) Write(p []byte) (int, error) {
	if e != nil {
		e.head = append(e.head, p[:min(len(p), maxExcerpt-len(e.head))]...)
		e.n += int64(len(p))
	}
	return len(p), nil
}

// String is on one line: a body must not write log lines of its own.
func (e *excerpt) String() string {
	if more := e.n - int64(len(e.head)); more > 0 {
		return fmt.Sprintf("%d bytes, %q and %d more", e.n, e.head, more)
	}
	return fmt.Sprintf("%d bytes, %q", e.n, e.head)
}

// source remembers how much was read, and an error of the reader, which io.Copy
// does not tell from one of the writer.
type source struct {
	r    io.Reader
	n    int64
	err  error
	seen *excerpt
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.seen.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// requestBody returns the request's body and its length, -1 = chunked.
func requestBody(ctx *fasthttp.RequestCtx) (io.Reader, int) {
	if body := ctx.RequestBodyStream(); body != nil {
		return body, max(ctx.Request.Header.ContentLength(), -1)
	}
	body := ctx.Request.Body()
	return bytes.NewReader(body), len(body)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
