package reverseproxy

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// OnExpect has admit decide on a request with "Expect: 100-continue" before its
// body is invited (RFC 9110, section 10.1.1). When admit returns false it has
// put the final answer into ctx.Response: that is sent, without a 100, and the
// connection closed, since the client may send its body all the same. After
// true the handler follows, unless the client goes first.
func OnExpect(server *fasthttp.Server, admit func(ctx *fasthttp.RequestCtx) bool) {
	// fasthttp documents that the response must not be modified in here, but
	// sends it as it is; a test of this package notices if that changes.
	server.ExpectHandler = func(ctx *fasthttp.RequestCtx) int {
		if _, err := checkFraming(&ctx.Request.Header); err != nil {
			ctx.Error(err.Error()+"\n", fasthttp.StatusBadRequest)
		} else if admit(ctx) {
			return fasthttp.StatusContinue
		}
		ctx.Conn().(*Client).lingerFor(-1)
		addDate(&ctx.Response.Header)
		return ctx.Response.StatusCode()
	}
}

// knownExpect writes Expect as fasthttp knows it, which compares the name byte
// for byte when names are not normalized. A client that writes it otherwise, as
// proxies that speak HTTP/2 do, would wait for its invitation forever. Without a
// body there is nothing to invite.
func knownExpect(h *fasthttp.RequestHeader) (unchanged fasthttp.RequestConfig) {
	if n := h.ContentLength(); n == 0 || n < -1 {
		return unchanged
	}
	for block := h.RawHeaders(); len(block) > 0; {
		var line []byte
		if line, block = nextLine(block); !begins(line, "Expect") || bytes.HasPrefix(line, []byte("Expect")) {
			continue
		}
		if tooMany(h) {
			return unchanged // checkFraming refuses it
		}
		for name, value := range h.All() {
			if bytes.EqualFold(name, []byte("Expect")) && string(name) != "Expect" && is(value, "100-continue") {
				name, value := string(name), string(value)
				h.Del(name)
				h.Set("Expect", value)
				break
			}
		}
		break
	}
	return unchanged
}
