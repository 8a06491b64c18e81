package watchdog

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/config"
)

// identity is what a function gets to see of its caller's: the claims as
// headers, the token or not. The zero value leaves requests as they came.
type identity struct {
	headers   []config.ClaimHeader
	hideToken bool
}

// rewrite makes the header of a request what the function may see. caller may
// be nil: who needed no token is nobody.
//
// What a client sends under X-Auth-* goes, whatever the case, and whichever
// characters stand for the hyphens: servers turn those into the same variable
// (CGI, WSGI, PHP). So do its ways of taking ours away: a Connection that lists
// them, a Trailer that has them moved behind the body. The header is written
// anew and parsed again, because fasthttp keeps it in two forms, as lines and
// as fields, and the modes of package executor read both.
func (i *identity) rewrite(h *fasthttp.RequestHeader, caller *auth.Caller) error {
	vouches := len(i.headers) > 0
	if !vouches && !i.hideToken {
		return nil
	}
	raw := h.RawHeaders()
	b := make([]byte, 0, len(raw)+512)
	b = append(append(append(b, h.Method()...), ' '), h.RequestURI()...)
	b = append(append(append(b, ' '), h.Protocol()...), "\r\n"...)
	for len(raw) > 0 {
		var line []byte
		line, raw, _ = bytes.Cut(raw, []byte("\n"))
		line = bytes.TrimSuffix(line, []byte("\r"))
		name, value, isField := bytes.Cut(line, []byte(":"))
		switch {
		case !isField: // the block's end
		case i.hideToken && equalFold(name, "Authorization"):
		case vouches && hasPlainPrefix(name, "x-auth-"), vouches && equalFold(name, "Trailer"):
		case vouches && equalFold(name, "Connection"):
			if value = withoutIdentity(value); len(value) > 0 {
				b = fmt.Appendf(b, "%s: %s\r\n", name, value)
			}
		default:
			b = append(append(b, line...), "\r\n"...)
		}
	}
	if caller != nil {
		for n, header := range i.headers {
			if claim := caller.Claims[n]; claim != "" {
				b = fmt.Appendf(b, "%s: %s\r\n", header.Header, headerValue(claim))
			}
		}
	}
	b = append(b, "\r\n"...)
	length := h.ContentLength()
	if err := h.Read(bufio.NewReaderSize(bytes.NewReader(b), len(b))); err != nil {
		return fmt.Errorf("cannot write the request's header anew: %w", err)
	}
	if h.ContentLength() != length { // of a body that was chunked and has been read
		h.SetContentLength(length)
	}
	return nil
}

// hasPlainPrefix compares the begin of a header's name to prefix, which is in
// lower case, as the most lenient of servers would.
func hasPlainPrefix(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if plainByte(name[i]) != prefix[i] {
			return false
		}
	}
	return true
}

// plainName returns what a header's name is to the most lenient of servers.
func plainName(name []byte) string {
	plain := make([]byte, len(name))
	for i, c := range name {
		plain[i] = plainByte(c)
	}
	return string(plain)
}

// plainByte folds case, and takes all but letters and digits for hyphens.
func plainByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	}
	return '-'
}

// withoutIdentity returns the value of a Connection header without our names.
func withoutIdentity(value []byte) []byte {
	var kept [][]byte
	for item := range bytes.SplitSeq(value, []byte(",")) {
		if item = bytes.TrimSpace(item); !hasPlainPrefix(item, "x-auth-") && len(item) > 0 {
			kept = append(kept, item)
		}
	}
	return bytes.Join(kept, []byte(", "))
}

// headerValue writes a claim as a header's value: printable ASCII as it is, the
// rest, "%", and space at either end as %XX of its UTF-8 bytes. It holds nothing
// that could end a line, and url.PathUnescape gives the claim back.
func headerValue(claim string) string {
	var b strings.Builder
	for i := range len(claim) {
		switch c := claim[i]; {
		case c < ' ', c > '~', c == '%', c == ' ' && (i == 0 || i == len(claim)-1):
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
