package reverseproxy

import (
	"bytes"
	"fmt"

	"github.com/valyala/fasthttp"
)

// passInterim passes an interim response (RFC 9110, section 15.2) on at once,
// without waiting for the final one: 103 Early Hints would be useless else. Not
// 100, which the server has said itself, and nothing to HTTP/1.0, which knows
// no interim responses.
//
// fasthttp has no way to send one, so it is written to the connection itself.
// That must not overtake an answer that the server still holds back because
// the client has pipelined its requests: there it is left out.
func passInterim(ctx *fasthttp.RequestCtx, r *request, h *fasthttp.ResponseHeader) {
	client, ok := ctx.Conn().(*Client)
	code := h.StatusCode()
	if !ok || client.Pipelined() || !r.http11 || code == fasthttp.StatusContinue {
		return
	}
	var nominated nominations
	for name, value := range h.All() {
		if is(name, "connection") {
			nominated.add(value)
		}
	}
	text := string(h.StatusMessage())
	if text == "" || r.withheld(nil, []byte(text)) {
		text = fasthttp.StatusMessage(code)
	}
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", code, text)
	for name, value := range h.All() {
		switch {
		case IsHop(name), nominated.has(name), r.withheld(name, value):
		case is(name, "content-length"): // there is no body to describe
		case bytes.IndexByte(name, ' ') >= 0:
		default:
			b = appendField(b, name, value)
		}
	}
	client.Write(append(b, "\r\n"...)) // who is gone is noticed elsewhere
}
