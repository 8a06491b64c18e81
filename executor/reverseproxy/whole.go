package reverseproxy

import (
	"fmt"
	"io"

	"github.com/valyala/fasthttp"
)

// firstRead is what ReadBody begins with, in bytes.
const firstRead = 4 << 10

// ReadBody reads ctx's body whole, for who must see all of it before anybody
// else does, and puts what it has read in the place of the stream: a handler and
// Forward then have that, with its Content-Length. Memory grows with what comes,
// whatever the client has said of the length; before each growth room is asked
// whether there may be n bytes in all. Reading is bounded by the server's
// ReadTimeout.
//
// The error is ErrBodyTooLarge beyond limit, ErrTrailers, ErrBadBody,
// ErrClientGone, or room's. The body is then gone in part, so the caller has to
// close the connection.
func ReadBody(ctx *fasthttp.RequestCtx, limit int, room func(n int) error) ([]byte, error) {
	h := &ctx.Request.Header
	size := h.ContentLength()
	switch {
	case len(h.PeekTrailerKeys()) > 0:
		return nil, ErrTrailers
	case size > limit:
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrBodyTooLarge, size, limit)
	case !ctx.Request.IsBodyStream():
		return ctx.Request.Body(), nil
	}
	want := limit + 1 // of which the last is too many
	if size >= 0 {
		want = size
	}
	var b []byte
	for stream := ctx.RequestBodyStream(); len(b) < want; {
		if len(b) == cap(b) {
			n := min(max(2*cap(b), firstRead), want)
			if err := room(n); err != nil {
				return nil, err
			}
			b = append(make([]byte, 0, n), b...)
		}
		n, err := stream.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF && size < 0 {
			err = EndOfChunks(ctx.Conn(), stream)
			if err == nil {
				break
			}
		}
		if err != nil && len(b) < want {
			return nil, BodyFailure(ctx.Conn(), err)
		}
	}
	switch {
	case len(b) > limit:
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBodyTooLarge, limit)
	case len(h.PeekTrailerKeys()) > 0:
		return nil, ErrTrailers
	}
	ctx.Request.SetBodyRaw(b)
	h.SetContentLength(len(b))
	// Its framing was the server's to check, and its length is no longer what the
	// raw header says.
	ctx.SetUserValue(framingKey{}, sentLength|repeated)
	return b, nil
}

// ErrTrailers: ReadBody met trailers, which who has seen the body alone has not
// seen. It wraps ErrBadBody.
var ErrTrailers = fmt.Errorf("%w: trailers are not accepted here", ErrBadBody)
