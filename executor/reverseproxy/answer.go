package reverseproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

// lingerTime is how long a client may go on sending a body that nobody reads
// any more, after its answer. Closing at once would make the kernel reset the
// connection, and the reset could overtake the answer.
const lingerTime = time.Second

// answer is a call whose response header has come.
type answer struct {
	u    *Upstream
	ctx  *fasthttp.RequestCtx
	up   *conn
	send *sender // nil = the request was sent in one write
	last bool    // up serves no other call
	idle time.Duration

	withheld func(name, value []byte) bool

	onEnd    func()
	size     int  // length of the response body; -1 = chunked, -2 = until close
	complete bool // the response has been read to its end
	closed   bool
	gone     bool  // the client was seen to leave
	sent     int64 // bytes of body read
	err      error // of reading the body
}

// Sent returns how many bytes of body were read so far.
func (a *answer) Sent() int64 { return a.sent }

// Err says, after Close, why the body was cut off; nil = it was not.
func (a *answer) Err() error {
	switch {
	case a.complete:
		return nil
	case a.err != nil && !a.gone:
		return a.err
	default:
		return ErrClientGone
	}
}

// deliver puts the response into ctx.Response.
func (a *answer) deliver(r *request) error {
	resp, up := &a.ctx.Response, a.up
	code := up.resp.StatusCode()
	if code == fasthttp.StatusSwitchingProtocols {
		return a.switchProtocols(r)
	}
	hasBody := r.method != "HEAD" && code != fasthttp.StatusNoContent && code != fasthttp.StatusNotModified
	if hasBody {
		a.size = up.resp.Header.ContentLength()
	}
	resp.ResetBody()
	copyHeader(&resp.Header, &up.resp.Header, hasBody, a.withheld)

	early := a.send != nil && !closed(a.send.read)
	whole := 0 <= a.size && a.size <= up.br.Buffered()
	switch {
	case whole:
		if hasBody {
			b, _ := up.br.Peek(a.size)
			resp.AppendBody(b)
			up.br.Discard(a.size)
		}
		a.complete = true
		if !early {
			a.Close()
		}
	default:
		up.quietMax = a.idle
		up.resp.ReadBody(up.br, 0) // makes the stream, reads nothing
		size := a.size
		if size < 0 || isEventStream(resp.Header.ContentType()) {
			size = -1 // in chunks, which the server flushes one by one
			resp.ImmediateHeaderFlush = true
		}
		resp.SetBodyStream(a, size)
		if size < 0 && !r.http11 {
			a.takeOver(a.untilClose)
			return nil
		}
	}
	if early {
		a.takeOver(a.whileSending)
	}
	return nil
}

// isEventStream reports whether a response comes in pieces that matter one by
// one, so that even one of known length must not wait in a buffer.
func isEventStream(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	kind = bytes.TrimSpace(kind)
	return is(kind, "text/event-stream") || is(kind, "application/x-ndjson")
}

// Read reads the response body. The end of a body that is cut short is never
// io.EOF, so that the server ends its own message as visibly short.
func (a *answer) Read(p []byte) (int, error) {
	if a.closed {
		return 0, net.ErrClosed
	}
	if a.complete {
		return 0, io.EOF
	}
	n, err := a.up.resp.BodyStream().Read(p)
	if a.sent += int64(n); a.onEnd != nil && (err != nil || a.sent == int64(a.size)) {
		a.onEnd()
	}
	switch {
	case err == io.EOF && a.size == -1 && a.up.readErr != nil:
		// The last chunk is read without meeting the end of the connection.
		err = fmt.Errorf("upstream cut the response short: %w", io.ErrUnexpectedEOF)
	case err == io.EOF:
		a.complete = true
		if a.size == -1 {
			addTrailers(&a.ctx.Response.Header, &a.up.resp.Header, a.withheld)
		}
	case errors.Is(a.up.readErr, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%w: it sent nothing for %s", ErrTimeout, a.idle)
	case err != nil:
		err = fmt.Errorf("upstream cut the response short: %w: %v", io.ErrUnexpectedEOF, err)
	}
	if err != nil && err != io.EOF {
		a.err = err
	}
	return n, err
}

// OnEnd has f called, perhaps more than once, when the last of the body has come
// from the upstream, before it is passed on: by the time the client has it all,
// f is over.
func (a *answer) OnEnd(f func()) { a.onEnd = f }

// SupportsBodyWriteTo makes fasthttp use WriteTo.
func (a *answer) SupportsBodyWriteTo() bool { return true }

// WriteTo passes on each piece of the body as it comes, with a larger buffer
// than fasthttp's own.
func (a *answer) WriteTo(w io.Writer) (written int64, err error) {
	buf := a.u.buffer()
	defer a.u.buffers.Put(buf)
	for {
		n, err := a.Read(*buf)
		if n > 0 {
			m, err := w.Write((*buf)[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
		}
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// Close ends the call. The upstream's connection serves another one only if
// this one is over on both sides; closing it otherwise tells the upstream that
// nobody waits any more.
func (a *answer) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	a.gone = a.up.watch.stop()
	a.up.resp.CloseBodyStream()
	sent := a.send == nil || a.send.settled()
	if sent && !a.last && !a.gone && a.complete && a.size != -2 && !a.up.resp.ConnectionClose() && a.up.br.Buffered() == 0 && !a.up.spent() {
		a.u.put(a.up)
		return nil
	}
	return a.up.Close()
}

// abort ends the call and the sending of its body, wherever both stand.
func (a *answer) abort() {
	a.Close()
	if a.send != nil {
		a.send.stop()
	}
}

// takeOver has the rest of the call happen on the client's connection without
// the server, which would touch the half-read request, or frame the response
// in a way the client does not know. The connection is closed afterwards.
func (a *answer) takeOver(handler func(client net.Conn) error) {
	client := a.ctx.Conn()
	a.ctx.SetConnectionClose() // which also keeps the server from looking at the body
	a.ctx.HijackSetNoResponse(true)
	a.ctx.Hijack(func(net.Conn) {
		err := handler(client)
		a.abort()
		if tcp, ok := client.(interface{ SetLinger(int) error }); ok && err != nil {
			tcp.SetLinger(0) // a response until close, cut short, must not end well
			return
		}
		linger(client)
	})
}

// whileSending writes the response while the client still sends its request.
func (a *answer) whileSending(client net.Conn) error {
	w := bufio.NewWriter(client)
	if err := a.ctx.Response.Write(w); err != nil {
		return err
	}
	return w.Flush()
}

// untilClose writes a response of unknown length to a client that does not
// speak HTTP/1.1, and so knows no chunks (RFC 9112, section 6.1).
func (a *answer) untilClose(client net.Conn) error {
	a.ctx.Response.Header.Del("Transfer-Encoding")
	if _, err := client.Write(a.ctx.Response.Header.Header()); err != nil {
		return err
	}
	_, err := a.WriteTo(client)
	return err
}

// linger lets the client read its answer before the connection closes.
func linger(client net.Conn) {
	half, ok := client.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	client.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, client)
}

// switchProtocols makes a tunnel of both connections (RFC 9110, section 7.8).
func (a *answer) switchProtocols(r *request) error {
	var protocol []byte
	for name, value := range a.up.resp.Header.All() {
		if is(name, "upgrade") {
			protocol = value
		}
	}
	if len(r.upgrade) == 0 || !bytes.EqualFold(protocol, r.upgrade) {
		a.abort()
		return fmt.Errorf("%w: it switched to protocol %q, asked was %q", ErrUnreachable, protocol, r.upgrade)
	}
	if a.up.watch.stop() {
		a.abort()
		return fmt.Errorf("%w while it waited for the upgrade", ErrClientGone)
	}
	client, h := a.ctx.Conn(), &a.ctx.Response.Header
	copyHeader(h, &a.up.resp.Header, true, a.withheld)
	h.Set("Connection", "Upgrade")
	h.SetBytesV("Upgrade", protocol)
	a.ctx.HijackSetNoResponse(true)
	a.ctx.Hijack(func(buffered net.Conn) {
		defer a.up.Close()
		if !a.u.track(a.up) {
			return
		}
		defer a.u.untrack(a.up)
		h.ResetConnectionClose()
		if _, err := client.Write(h.Header()); err != nil {
			return
		}
		tunnel(client, buffered, a.up)
	})
	return nil
}

// tunnel copies both ways until one side ends, and then closes both. The
// server still holds bytes of the client's, which buffered reads first.
func tunnel(client, buffered net.Conn, up *conn) {
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(up.Conn, buffered)
		up.Close()
		client.Close()
	}()
	io.Copy(client, up.br)
	up.Close()
	client.Close()
	<-sent
}
