package reverseproxy

import (
	"bytes"
	"iter"

	"github.com/valyala/fasthttp"
)

// Fields returns the lines of a request's header as they came, in their order.
// Unlike the header's own All it does not join Cookie lines for everybody who
// looks later.
func Fields(h *fasthttp.RequestHeader) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := h.RawHeaders(); len(rest) > 0; {
			var name, value []byte
			name, value, rest = nextField(rest)
			if len(name) > 0 && !yield(name, value) {
				return
			}
		}
	}
}

// field is one header line.
type field struct{ name, value []byte }

// nextField cuts the first line off a header block and splits it at its colon.
// At the end of the block rest is empty and name is nil.
func nextField(block []byte) (name, value, rest []byte) {
	line, rest := nextLine(block)
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return nil, nil, rest
	}
	return line[:colon], trim(line[colon+1:]), rest
}

// nextLine cuts the first line off a header block. What is left of its end is CR.
func nextLine(block []byte) (line, rest []byte) {
	if end := bytes.IndexByte(block, '\n'); end >= 0 {
		return block[:end], block[end+1:]
	}
	return block, nil
}

// begins reports whether a line is of the field name, in whatever case.
func begins(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && equalFold(line[:len(name)], name)
}

// equalFold is apart from begins for that to be small enough for its callers.
//
//go:noinline
func equalFold(name []byte, want string) bool { return bytes.EqualFold(name, []byte(want)) }

// trim takes spaces and tabs off both ends, of which there are few: [bytes.Trim]
// takes longer to prepare for them than to find them.
func trim(value []byte) []byte {
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for n := len(value); n > 0 && (value[n-1] == ' ' || value[n-1] == '\t'); n-- {
		value = value[:n-1]
	}
	return value
}

// appendField appends one header line.
func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// is compares a field name to one in lower case. An underscore counts as a
// hyphen: CGI-like servers (WSGI, PHP, our own fork modes) turn both into the
// same variable, so X_Forwarded_For would pass for X-Forwarded-For. The compiler
// puts it into its callers: most names differ in length already.
func is(name []byte, lower string) bool {
	return len(name) == len(lower) && isFolded(name, lower)
}

// isFolded is for is: names of one length.
func isFolded(name []byte, lower string) bool {
	for i, b := range name {
		switch {
		case 'A' <= b && b <= 'Z':
			b += 'a' - 'A'
		case b == '_':
			b = '-'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

// IsHop reports whether a field is meant for one connection only (RFC 9110,
// section 7.6.1), in whatever direction.
func IsHop(name []byte) bool {
	switch len(name) {
	case 2:
		return is(name, "te")
	case 7:
		return is(name, "upgrade") || is(name, "trailer")
	case 10:
		return is(name, "connection") || is(name, "keep-alive")
	case 14:
		return is(name, "http2-settings")
	case 16:
		return is(name, "proxy-connection")
	case 17:
		return is(name, "transfer-encoding")
	case 18:
		return is(name, "proxy-authenticate")
	case 19:
		return is(name, "proxy-authorization")
	}
	return false
}

// isKept reports whether a request field stays even if Connection lists it. A
// client could otherwise take away what a proxy before us has added, or what
// the function's own check of the caller rests on.
func isKept(name []byte) bool {
	switch len(name) {
	case 4:
		return is(name, "host")
	case 6:
		return is(name, "cookie")
	case 9:
		return is(name, "forwarded") || is(name, "x-call-id")
	case 12:
		return is(name, "content-type") || is(name, "x-start-time")
	case 13:
		return is(name, "authorization")
	case 14:
		return is(name, "content-length")
	case 16:
		return is(name, "content-encoding")
	}
	return len(name) > 12 && is(name[:12], "x-forwarded-")
}

// listed reports whether one of the comma-separated lists names token, which
// is in lower case.
func listed(lists [][]byte, token string) bool {
	for _, list := range lists {
		for len(list) > 0 {
			var item []byte
			item, list, _ = bytes.Cut(list, []byte(","))
			if is(bytes.Trim(item, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// nominations are the field names that a message's Connection lists, in lower
// case; nil = none.
type nominations map[string]struct{}

// add takes note of what a Connection field lists. What concerns one connection
// anyway needs no note.
func (n *nominations) add(list []byte) {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		item = bytes.Trim(item, " \t")
		if len(item) == 0 || IsHop(item) {
			continue
		}
		if *n == nil {
			*n = nominations{}
		}
		(*n)[string(bytes.ToLower(item))] = struct{}{}
	}
}

// has is one look-up: lists and headers of thousands would take a second else.
func (n nominations) has(name []byte) bool {
	if n == nil {
		return false
	}
	_, has := n[string(bytes.ToLower(name))]
	return has
}

// Method returns the method of a request, without a copy of one of HTTP's own.
func Method(h *fasthttp.RequestHeader) string {
	b := h.Method()
	for _, known := range [...]string{"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}
