package executor

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Serializing forks a process for each request. The body is read whole first,
// and the output whole before anything is answered, so that a non-zero exit
// becomes a 500. It is safe for concurrent use.
type Serializing struct{ *forks }

// NewSerializing returns the serializing mode of c.
func NewSerializing(c Config) *Serializing { return &Serializing{newForks(c)} }

// Invoke answers ctx with the output of a new process. An error leaves the
// response untouched, see [Status].
func (s *Serializing) Invoke(ctx *fasthttp.RequestCtx, call Call) error {
	body, size := requestBody(ctx)
	if size > reverseproxy.MaxBuffered {
		return fmt.Errorf("%w: %d bytes, want at most %d", reverseproxy.ErrBodyTooLarge, size, reverseproxy.MaxBuffered)
	}
	in, err := io.ReadAll(io.LimitReader(body, reverseproxy.MaxBuffered+1))
	if len(in) > reverseproxy.MaxBuffered {
		return fmt.Errorf("%w: more than %d bytes", reverseproxy.ErrBodyTooLarge, reverseproxy.MaxBuffered)
	}
	if err == nil {
		err = wholeBody(ctx.Conn(), body, int64(len(in)), size)
	}
	if err != nil {
		return reverseproxy.BodyFailure(ctx.Conn(), err)
	}
	k, err := s.fork(ctx, call, bytes.NewReader(in), len(in))
	if err != nil {
		return err
	}
	defer k.end()
	out, err := io.ReadAll(readerFunc(k.read))
	if err != nil {
		k.sent.Write(out) // what a failed function wrote is what one looks for
		return err
	}
	var header cgiHeader
	if s.config.CGIHeaders {
		if header, err = readCGIHeader(bufio.NewReader(bytes.NewReader(out))); err != nil {
			return err
		}
		out = out[header.size:]
	}
	k.sent.Write(out)
	header.apply(&ctx.Response.Header, s.config.ContentType)
	ctx.Response.SetBodyRaw(out)
	return nil
}
