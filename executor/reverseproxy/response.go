package reverseproxy

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// copyHeader adds the upstream's end-to-end fields to dst. What the caller has
// set there before stays and wins. withheld is Options.Withhold. hasBody tells a message with a body from
// one whose Content-Length only describes one (HEAD, 304).
//
// fasthttp keeps one line each of Content-Type, Content-Encoding and Server.
func copyHeader(dst, src *fasthttp.ResponseHeader, hasBody bool, withheld func(name, value []byte) bool) {
	var array [8][]byte
	own := array[:0]
	for name := range dst.All() {
		if !is(name, "content-type") && !is(name, "content-length") && !is(name, "server") {
			own = append(own, name)
		}
	}
	var nominated nominations
	for name, value := range src.All() {
		if is(name, "connection") {
			nominated.add(value)
		}
	}

	dst.SetStatusCode(src.StatusCode())
	if text := src.StatusMessage(); string(text) != fasthttp.StatusMessage(src.StatusCode()) && !withheld(nil, text) {
		dst.SetStatusMessage(text)
	}
	var trailer []byte
	for name, value := range src.All() {
		switch {
		case is(name, "trailer"):
			trailer = value
		case IsHop(name), bytes.IndexByte(name, ' ') >= 0, withheld(name, value):
		case is(name, "content-length"):
			if !hasBody {
				dst.AddBytesKV(name, value)
			}
		case len(nominated) > 0 && nominated.has(name), contains(own, name):
		case is(name, "date"):
			setDate(dst, value)
		default:
			dst.AddBytesKV(name, value)
		}
	}
	if hasBody && src.ContentLength() == -1 && len(trailer) > 0 {
		dst.AddTrailerBytes(trailer)
	}
}

func contains(names [][]byte, name []byte) bool {
	for _, n := range names {
		if bytes.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// addTrailers adds the trailer section that came with src.
func addTrailers(dst, src *fasthttp.ResponseHeader, withheld func(name, value []byte) bool) {
	for rest := src.TrailerHeader(); len(rest) > 0; {
		var name, value []byte
		name, value, rest = nextField(rest)
		if len(name) > 0 && !withheld(name, value) && dst.AddTrailerBytes(name) == nil {
			dst.AddBytesKV(name, value)
		}
	}
}
