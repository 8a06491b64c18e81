package reverseproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// longAgo is a deadline that wakes whoever waits for a connection.
var longAgo = time.Unix(1, 0)

// sender writes a streamed request body to the upstream while the response is
// already awaited, or even passed on.
type sender struct {
	ctx  *fasthttp.RequestCtx
	req  *request
	up   *conn
	read chan struct{} // closed when the body has been read to its end
	done chan struct{} // closed when run is over

	// Why it ended early, to be read after done.
	clientErr   error // ErrBadBody or ErrClientGone; it has closed up
	upstreamErr error
}

// run copies the body. When the client fails, it closes the upstream's
// connection: a body cut short must never look like a whole one. When the
// upstream fails, it just ends: the answer may well be on its way.
func (s *sender) run(buf []byte) {
	defer close(s.done)
	if !s.req.live {
		s.bodyRead()
	}
	var readErr error
	if s.req.size < 0 {
		readErr, s.upstreamErr = s.chunks(buf)
	} else {
		readErr, s.upstreamErr = s.bytes(buf)
	}
	if readErr != nil {
		s.clientErr = BodyFailure(s.ctx.Conn(), readErr)
		s.up.Close()
	}
}

// bytes sends a body of known length.
func (s *sender) bytes(buf []byte) (readErr, writeErr error) {
	for left := s.req.size; left > 0; {
		n, err := s.req.body.Read(buf[:min(len(buf), left)])
		left -= n
		if left > 0 && err != nil {
			return noEOF(err), nil
		}
		if left == 0 {
			s.bodyRead()
		}
		if _, err := s.up.Write(buf[:n]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// chunks sends a chunked body, each piece as it comes, then the trailers.
func (s *sender) chunks(buf []byte) (readErr, writeErr error) {
	const room = len("12345678\r\n") // before a chunk, for its size
	var scratch [room]byte
	for {
		n, err := s.req.body.Read(buf[room : len(buf)-2])
		if n > 0 {
			size := append(strconv.AppendUint(scratch[:0], uint64(n), 16), "\r\n"...)
			start, end := room-len(size), room+n+2
			copy(buf[start:], size)
			copy(buf[room+n:], "\r\n")
			if _, err := s.up.Write(buf[start:end]); err != nil {
				return nil, err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err, nil
		}
	}
	if s.req.live {
		if err := EndOfChunks(s.ctx.Conn(), s.req.body); err != nil {
			return err, nil
		}
	}
	tail := []byte("0\r\n\r\n")
	if !s.req.dropTrailers {
		tail = append(tail[:len("0\r\n")], s.ctx.Request.Header.TrailerHeader()...)
	}
	s.bodyRead()
	_, err := s.up.Write(tail)
	return nil, err
}

// bodyRead marks that the client's connection is the server's again. From
// here on only a watch can tell that the client has gone.
func (s *sender) bodyRead() {
	if !closed(s.read) {
		close(s.read)
		s.up.watch.start(s.ctx.Conn(), s.up, s.up.began)
	}
}

// settled reports whether the body was sent whole. The upstream may answer
// before the last write has returned here, which is worth a moment.
func (s *sender) settled() bool {
	if closed(s.read) && !closed(s.done) {
		select {
		case <-s.done:
		case <-time.After(10 * time.Millisecond):
		}
	}
	return closed(s.done) && s.clientErr == nil && s.upstreamErr == nil
}

// stop ends run, if need be, and waits for it. The body may be left half read;
// the read deadline then stays in the past, so that the server closes the
// connection instead of waiting for the rest.
func (s *sender) stop() {
	if closed(s.done) {
		return // up may serve another call by now
	}
	s.up.Close()
	if s.req.live {
		s.ctx.Conn().SetReadDeadline(longAgo)
	}
	<-s.done
	if s.req.live && closed(s.read) {
		s.ctx.Conn().SetReadDeadline(time.Time{})
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// readWhole reads a chunked body of up to limit bytes into memory.
func readWhole(ctx *fasthttp.RequestCtx, limit int) ([]byte, error) {
	body := ctx.RequestBodyStream()
	b, err := io.ReadAll(io.LimitReader(body, int64(limit)+1))
	if len(b) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes without a Content-Length", ErrBodyTooLarge, limit)
	}
	if err == nil {
		err = EndOfChunks(ctx.Conn(), body)
	}
	if err != nil {
		return nil, BodyFailure(ctx.Conn(), err)
	}
	return b, nil
}

// EndOfChunks tells the end of a chunked body from a client that broke off
// between two chunks: fasthttp reports io.EOF for both, but only in the second
// case does another read turn to the connection, where the deadline meets it.
func EndOfChunks(client net.Conn, body io.Reader) error {
	client.SetReadDeadline(longAgo)
	n, err := body.Read(make([]byte, 1))
	client.SetReadDeadline(time.Time{})
	if n > 0 || err != io.EOF {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// BodyFailure says whose fault a failed read of the client's body is:
// ErrClientGone, or ErrBadBody when the client is still there.
func BodyFailure(client net.Conn, err error) error {
	if Gone(client) {
		return fmt.Errorf("%w while it sent the body", ErrClientGone)
	}
	return fmt.Errorf("%w: %v", ErrBadBody, unquotedError{noEOF(err)}) // trailers may be quoted
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
