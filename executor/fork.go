package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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
}

func newForks(c Config) *forks {
	f := &forks{config: c}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.kill, f.killAll = context.WithCancel(context.Background())
	return f
}

// Run waits for ctx's end and then ends the processes that are left. It fails
// at once when there is no such program.
func (f *forks) Run(ctx context.Context) error {
	if err := f.config.lookup(); err != nil {
		return err
	}
	<-ctx.Done()
	f.cancel(ErrShutdown)
	f.running.Wait()
	return nil
}

// Kill ends every process at once.
func (f *forks) Kill() { f.killAll() }

// Ready reports true: a fork needs no start of its own.
func (f *forks) Ready() bool { return true }

// fork is one request's process.
type fork struct {
	*process
	cancel  context.CancelCauseFunc
	conn    net.Conn
	feeding chan struct{} // closed when feed has returned
	body    bodyState     // valid after feeding
	ended   func()
}

// bodyState says where feeding left the client's body, and so what the server
// may still read from the connection.
type bodyState int

const (
	bodyRead     bodyState = iota // to its end
	bodyUnwanted                  // up to some byte: the rest can be skipped
	bodyBroken                    // no telling where the next request begins
)

// fork starts the process of one request and feeds it body, of which size
// bytes must come; size -1 = until its end. The caller must call end.
func (f *forks) fork(ctx *fasthttp.RequestCtx, call Call, body io.Reader, size int) (*fork, error) {
	env, err := requestEnv(f.config.Env, &ctx.Request.Header, call.Target)
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancelCause(f.ctx)
	stopTimer := func() bool { return true }
	if call.Timeout > 0 {
		stopTimer = time.AfterFunc(call.Timeout, func() { cancel(ErrTimeout) }).Stop
	}
	f.running.Add(1)
	ended := func() {
		stopTimer()
		cancel(nil)
		f.running.Done()
	}
	p, err := f.config.start(runCtx, f.kill, env, f.config.killDelay(time.Second), false)
	if err != nil {
		ended()
		return nil, err
	}
	k := &fork{process: p, cancel: cancel, feeding: make(chan struct{}), conn: ctx.Conn(), ended: ended}
	go k.feed(body, size)
	return k, nil
}

// feed writes the request's body to the process and then watches the client,
// so that nobody works for one who went away.
func (k *fork) feed(body io.Reader, size int) {
	defer close(k.feeding)
	from := &source{r: body}
	_, err := io.Copy(k.stdin, from)
	k.stdin.Close()
	switch {
	case from.err != nil:
		k.body = bodyBroken
		k.cancel(reverseproxy.BodyFailure(k.conn, from.err))
		return
	case err == nil && size >= 0 && from.n < int64(size):
		// fasthttp reports an early end as a plain one. Half an upload must
		// not be processed as if it were whole.
		k.body = bodyBroken
		k.cancel(fmt.Errorf("%w: %d bytes instead of %d", reverseproxy.BodyFailure(k.conn, io.ErrUnexpectedEOF), from.n, size))
		return
	case err != nil: // the function does not want the rest
		k.body = bodyUnwanted
	}
	if reverseproxy.WaitGone(k.conn) {
		k.cancel(reverseproxy.ErrClientGone)
	}
}

// end ends the process if it still runs, and returns when nothing of it uses
// the connection any more.
func (k *fork) end() {
	select {
	case <-k.exited:
	default:
		k.cancel(reverseproxy.ErrClientGone)
	}
	select {
	case <-k.feeding:
	default:
		// Wake the feeder where it reads from the client or watches it. In the
		// midst of a body the deadline stays: a server that went on reading
		// could take the rest of a chunk for the next request.
		k.conn.SetReadDeadline(time.Unix(1, 0))
		k.stdin.Close()
		<-k.feeding
		switch k.body {
		case bodyRead:
			k.conn.SetReadDeadline(time.Time{})
		case bodyUnwanted:
			k.conn.SetReadDeadline(time.Now().Add(time.Second))
		}
	}
	<-k.exited
	k.release()
	k.ended()
}

// source remembers how much was read, and an error of the reader, which io.Copy
// does not tell from one of the writer.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// requestBody returns the request's body and its length, -1 = unknown.
func requestBody(ctx *fasthttp.RequestCtx) (io.Reader, int) {
	if body := ctx.RequestBodyStream(); body != nil {
		return body, max(ctx.Request.Header.ContentLength(), -1)
	}
	return bytes.NewReader(ctx.Request.Body()), -1
}
