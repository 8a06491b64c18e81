package executor

import (
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
	if err != nil {
		return reverseproxy.BodyFailure(ctx.Conn(), err)
	}
	if len(in) > reverseproxy.MaxBuffered {
		return fmt.Errorf("%w: more than %d bytes", reverseproxy.ErrBodyTooLarge, reverseproxy.MaxBuffered)
	}
	if size >= 0 && len(in) < size {
		return fmt.Errorf("%w: %d bytes instead of %d", reverseproxy.BodyFailure(ctx.Conn(), io.ErrUnexpectedEOF), len(in), size)
	}
	k, err := s.fork(ctx, call, bytes.NewReader(in), len(in))
	if err != nil {
		return err
	}
	defer k.end()
	out, err := io.ReadAll(readerFunc((&output{fork: k}).read))
	if err != nil {
		return err
	}
	ctx.SetContentType(s.config.ContentType)
	ctx.Response.SetBodyRaw(out)
	return nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
