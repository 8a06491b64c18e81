package gateway

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

const (
	requestIDHeader = "X-Request-Id"
	callIDHeader    = "X-Call-Id"
	startTimeHeader = "X-Start-Time"
)

// maxRequestID bounds the request ID that a caller may choose, in bytes.
const maxRequestID = 128

// setRequestID gives the answer the caller's X-Request-Id, or a new one where
// that is missing, there twice, long, or not visible ASCII: it goes into the
// log and to the auth plugin.
func setRequestID(ctx *fasthttp.RequestCtx) {
	id := ""
	if given := headerValues(ctx, requestIDHeader); len(given) == 1 {
		id = string(given[0])
	}
	if id == "" || len(id) > maxRequestID || !visible(id) {
		id = string(appendID(nil))
	}
	ctx.Response.Header.Set(requestIDHeader, id)
}

// appendID appends a random UUID (RFC 9562 §5.4).
func appendID(dst []byte) []byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	id[6] = id[6]&0x0f | 4<<4
	id[8] = id[8]&0x3f | 2<<6
	dst = append(hex.AppendEncode(dst, id[:4]), '-')
	dst = append(hex.AppendEncode(dst, id[4:6]), '-')
	dst = append(hex.AppendEncode(dst, id[6:8]), '-')
	dst = append(hex.AppendEncode(dst, id[8:10]), '-')
	return hex.AppendEncode(dst, id[10:])
}

// named adds to a line of the log which call or request it is about. The IDs
// are those on the answer, so that they cost nothing without a line.
func named(ctx *fasthttp.RequestCtx, e *zerolog.Event) *zerolog.Event {
	if id := ctx.Response.Header.Peek(callIDHeader); len(id) > 0 {
		return e.Str("call_id", clip(string(id)))
	}
	if id := ctx.Response.Header.Peek(requestIDHeader); len(id) > 0 {
		return e.Str("request_id", string(id))
	}
	return e
}
