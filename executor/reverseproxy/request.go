package reverseproxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/valyala/fasthttp"
)

// smallBody is the largest body of known length that goes out in one write
// with its header.
const smallBody = 8 << 10

// request is what goes to the upstream.
type request struct {
	method  string
	head    []byte    // the header and a small body: one write
	body    io.Reader // the rest of the body; nil = nothing left to send
	size    int       // length of body; -1 = chunked
	live    bool      // body reads from the client's connection
	http11  bool      // the client speaks HTTP/1.1
	upgrade []byte    // the protocol asked for; empty = none

	dropTrailers bool
	withheld     func(name, value []byte) bool // see Options.Withhold; never nil
	last         bool                          // the upstream is to close its connection after it
}

// newRequest applies the rules for requests and appends the header, and the
// body if it is small, to buf.
func newRequest(ctx *fasthttp.RequestCtx, o *Options, buf []byte, maxBuffered int) (*request, error) {
	h := &ctx.Request.Header
	r := &request{method: Method(h), http11: h.IsHTTP11(), dropTrailers: o.DropTrailers}
	if r.withheld = o.Withhold; r.withheld == nil {
		r.withheld = func(_, _ []byte) bool { return false }
	}
	f, checked := ctx.UserValue(framingKey{}).(framing)
	var err error
	if !checked {
		f, err = checkFraming(h)
	}
	if err != nil {
		return nil, err
	}
	if h.IsConnect() {
		return nil, fmt.Errorf("%w: method CONNECT asks for a proxy to anywhere, which this is not", ErrBadBody)
	}

	// Where the body comes from.
	var whole []byte
	r.size = h.ContentLength()
	switch {
	case !ctx.Request.IsBodyStream():
		whole = ctx.Request.Body()
		r.size = len(whole)
	case r.size < 0 && o.BufferBody:
		if whole, err = readWhole(ctx, maxBuffered); err != nil {
			return nil, err
		}
		r.size = len(whole)
	default:
		r.body, r.live = ctx.RequestBodyStream(), true
	}

	r.last = o.CloseAfterBody && r.size != 0
	r.head, err = r.appendHeader(buf, ctx, o, f)
	if err != nil {
		return nil, err
	}
	switch small := 0 <= r.size && r.size <= smallBody; {
	case small && r.live:
		n := len(r.head)
		r.head = append(r.head, make([]byte, r.size)...)
		if _, err := io.ReadFull(r.body, r.head[n:]); err != nil {
			return nil, BodyFailure(ctx.Conn(), err)
		}
		r.body, r.live = nil, false
	case small:
		r.head = append(r.head, whole...)
	case !r.live:
		r.body = bytes.NewReader(whole)
	}
	return r, nil
}

// framing is what checkFraming has found in a header that it lets pass.
type framing uint8

const (
	// sentLength: there is a Content-Length.
	sentLength framing = 1 << iota
	// repeated: Content-Type or User-Agent may have more than one line.
	repeated
)

// framingKey is where a request's framing is, once it has been checked. It outlives
// changes to the header, so whoever writes that anew leaves the lines it is about.
type framingKey struct{}

// checkFraming refuses what two servers might read differently (RFC 9112,
// sections 2.2, 5.2 and 6.3): lines that end with LF alone, folded lines, and
// what fasthttp lets pass of "Transfer-Encoding: identity" and of
// Content-Length beside Transfer-Encoding. It refuses headers of too many
// lines, too.
func checkFraming(h *fasthttp.RequestHeader) (f framing, err error) {
	encoding, lines, types, agents := false, 0, 0, 0
	for block := h.RawHeaders(); len(block) > 0; {
		var line []byte
		line, block = nextLine(block)
		switch lines++; {
		case lines > maxLines:
			return 0, fmt.Errorf("%w: more than %d header lines", ErrBadBody, maxLines)
		case len(line) == 0, line[len(line)-1] != '\r':
			return 0, fmt.Errorf("%w: a header line ends with LF alone; want CRLF", ErrBadBody)
		case line[0] == ' ', line[0] == '\t':
			return 0, fmt.Errorf("%w: a header line is folded", ErrBadBody)
		}
		switch {
		case begins(line, "User-Agent"):
			agents++
		case begins(line, "Content-Type"):
			types++
		case begins(line, "Content-Length"):
			f |= sentLength
		case begins(line, "Transfer-Encoding"):
			encoding = true
		}
	}
	if types > 1 || agents > 1 {
		f |= repeated
	}
	switch {
	case encoding && f&sentLength != 0:
		return 0, fmt.Errorf("%w: both Content-Length and Transfer-Encoding are set; send one", ErrBadBody)
	case encoding && h.ContentLength() != -1:
		return 0, fmt.Errorf("%w: Transfer-Encoding is not chunked", ErrBadBody)
	}
	return f, nil
}

// maxLines bounds the lines of a request's header. fasthttp takes time for the
// square of their number to set a cookie or take a field out, which in 64 KiB of
// them is a quarter of a second.
const maxLines = 1000

func tooMany(h *fasthttp.RequestHeader) bool {
	return bytes.Count(h.RawHeaders(), []byte("\n")) > maxLines
}

// appendHeader appends the header that goes upstream. It works on what
// fasthttp has parsed, since the caller may have changed that, and turns to
// the raw lines where the parser keeps only one of several.
func (r *request) appendHeader(dst []byte, ctx *fasthttp.RequestCtx, o *Options, f framing) ([]byte, error) {
	h := &ctx.Request.Header
	target := h.RequestURI()
	if len(o.Target) > 0 {
		target = o.Target
	}
	for _, b := range target {
		if b <= ' ' || b == 0x7f {
			return nil, fmt.Errorf("%w: request target has the byte %#x; it must be percent-encoded", ErrBadBody, b)
		}
	}
	dst = append(append(append(dst, r.method...), ' '), target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	if o.Host != "" {
		dst = append(dst, o.Host...)
	} else {
		dst = append(dst, h.Host()...)
	}
	dst = append(dst, "\r\n"...)

	var fieldArray [16]field
	var connectionArray [4][]byte
	fields, connection := fieldArray[:0], connectionArray[:0]
	var nominated nominations
	var upgrade []byte
	h.SetNoDefaultContentType(true)
	_, rest, _ := bytes.Cut(h.Header(), []byte("\r\n")) // not All, which joins cookies, and takes quotes off
	for len(rest) > 0 {
		var name, value []byte
		name, value, rest = nextField(rest)
		fields = append(fields, field{name, value})
		switch {
		case is(name, "connection"):
			connection = append(connection, value)
			nominated.add(value)
		case is(name, "upgrade"):
			upgrade = value
		}
	}

	peer := peerOf(ctx)
	forwardedHost, forwardedProto := false, false
	for _, line := range fields {
		name, value := line.name, line.value
		underscore := bytes.IndexByte(name, '_') >= 0
		switch {
		case len(name) == 0, is(name, "host"), is(name, "content-length"):
		case bytes.IndexByte(name, ' ') >= 0:
			// fasthttp lets it pass; others might cut the name at the space. What
			// comes behind that may be a token, where the colon is elsewhere.
			name, _, _ = bytes.Cut(name, []byte(" "))
			return nil, fmt.Errorf("%w: a header name has a space behind %q", ErrBadBody, name)
		case is(name, "te"):
			if listed([][]byte{value}, "trailers") {
				dst = append(dst, "TE: trailers\r\n"...)
			}
		case is(name, "trailer") && r.size < 0 && !underscore && !r.dropTrailers:
			dst = appendField(dst, name, value)
		case IsHop(name):
		case underscore && isKept(name):
		case is(name, "expect") && is(value, "100-continue"):
			// The server has answered it before it called the handler.
		case is(name, "x-forwarded-for") && peer != "":
			// Joined into one line below.
		case len(nominated) > 0 && !isKept(name) && nominated.has(name):
		case f&repeated != 0 && (is(name, "content-type") || is(name, "user-agent")):
			dst = appendRepeated(dst, h.RawHeaders(), name, value)
		default:
			forwardedHost = forwardedHost || is(name, "x-forwarded-host")
			forwardedProto = forwardedProto || is(name, "x-forwarded-proto")
			dst = appendField(dst, name, value)
		}
	}

	if peer != "" {
		dst = append(dst, "X-Forwarded-For: "...)
		for _, line := range fields {
			if is(line.name, "x-forwarded-for") && len(line.value) > 0 && bytes.IndexByte(line.name, '_') < 0 {
				dst = append(append(dst, line.value...), ", "...)
			}
		}
		dst = append(append(dst, peer...), "\r\n"...)
	}
	if client := h.Host(); !forwardedHost && len(client) > 0 {
		dst = appendField(dst, []byte("X-Forwarded-Host"), client)
	}
	if !forwardedProto {
		proto := "http"
		if ctx.IsTLS() {
			proto = "https"
		}
		dst = append(append(append(dst, "X-Forwarded-Proto: "...), proto...), "\r\n"...)
	}

	switch {
	case r.size < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.size > 0, f&sentLength != 0, r.method == "POST", r.method == "PUT", r.method == "PATCH":
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, int64(r.size), 10), "\r\n"...)
	}
	// An upgrade to h2c would let anything through behind the first request's
	// check (h2c smuggling), and RFC 9113 has done away with it.
	if r.http11 && r.size == 0 && len(upgrade) > 0 && listed(connection, "upgrade") && !listed([][]byte{upgrade}, "h2c") {
		r.upgrade = bytes.Clone(upgrade)
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = appendField(dst, []byte("Upgrade"), upgrade)
	}
	if r.last {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(dst, "\r\n"...), nil
}

// appendRepeated appends a field of which fasthttp keeps only the last line:
// all lines that came, unless the caller has changed the value since.
func appendRepeated(dst, raw, name, value []byte) []byte {
	n := 0
	var last []byte
	for rest := raw; len(rest) > 0; {
		var k, v []byte
		k, v, rest = nextField(rest)
		if bytes.EqualFold(k, name) {
			n, last = n+1, v
		}
	}
	if n < 2 || !bytes.Equal(last, value) {
		return appendField(dst, name, value)
	}
	for rest := raw; len(rest) > 0; {
		var k, v []byte
		k, v, rest = nextField(rest)
		if bytes.EqualFold(k, name) {
			dst = appendField(dst, k, v)
		}
	}
	return dst
}

// peerOf returns the address of a client on TCP; "" = it is none.
func peerOf(ctx *fasthttp.RequestCtx) string {
	if c, ok := ctx.Conn().(*Client); ok {
		return c.peer
	}
	return tcpPeer(ctx.RemoteAddr())
}

// tcpPeer is addr as text. A client on a Unix socket is a hop of ours, which has
// already said whom it speaks for: "".
func tcpPeer(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr()
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
