package federated

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// route is where a request is to go.
type route string

const (
	nowhere  route = "none"
	system   route = "system"
	function route = "function"
	async    route = "async-function"
)

// judge sets c's route and path by a request target as it came, which is as it
// will be forwarded; status 0 = it may be. What two servers could read in two
// ways is refused: behind us may be any number of them, and each may decode,
// merge slashes and resolve dots before it looks which route it is.
func (c *call) judge(target []byte, allowInvoke bool) (status int, problem string) {
	c.route = nowhere
	for _, b := range target {
		if b <= ' ' || b >= 0x7f || b == '#' {
			return http.StatusBadRequest, "the request target has a space, a control character, # or a byte that is not ASCII: percent-encode it"
		}
	}
	path, _, _ := bytes.Cut(target, []byte("?"))
	if len(path) == 0 || path[0] != '/' {
		// The absolute form (RFC 9112 §3.2.2) names a second host beside Host.
		return http.StatusBadRequest, "the request target must be a path that begins with /"
	}
	c.path = string(path)
	if rest, ok := strings.CutPrefix(c.path, "/system/"); ok {
		if isPlain(rest) {
			c.route = system
			return 0, ""
		}
	} else if rest, ok := strings.CutPrefix(c.path, "/function/"); ok && allowInvoke {
		c.route = function
		return c.judgeCall(rest)
	} else if rest, ok := strings.CutPrefix(c.path, "/async-function/"); ok && allowInvoke {
		c.route = async
		return c.judgeCall(rest)
	}
	return http.StatusNotFound, "not found: this is not among the paths that requests pass to"
}

// judgeCall judges a function's name and the path behind it, which is the
// function's own.
func (c *call) judgeCall(rest string) (status int, problem string) {
	name, path, _ := strings.Cut(rest, "/")
	switch {
	case !isPlain(name) || name == "":
		c.route = nowhere
		return http.StatusNotFound, "not found: a function's name has letters, digits, -, _ and . alone"
	case !stays(path):
		c.route = nowhere
		return http.StatusBadRequest, `the path has a "." or ".." segment, a bad percent-encoding, or something that is encoded many times over`
	}
	return 0, ""
}

// isPlain reports whether a path has nothing in it that any server could change:
// names of letters, digits, "-", "_" and "." with one slash between, and perhaps
// one at the end. All of the API's paths are so.
func isPlain(path string) bool {
	path = strings.TrimSuffix(path, "/")
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
		for _, b := range []byte(segment) {
			if !('a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_' || b == '.') {
				return false
			}
		}
	}
	return true
}

// stays reports whether path leads nowhere but below where it begins, however
// often it is decoded on the way, and by servers that take a backslash for a
// slash, or drop what follows a ";".
func stays(path string) bool {
	if _, err := url.PathUnescape(path); err != nil {
		return false // there is no telling what others make of it
	}
	for range 4 {
		if !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) {
			return false
		}
		for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return false
			}
		}
		decoded := decode(path)
		if decoded == path {
			return true
		}
		path = decoded
	}
	return false
}

// decode resolves percent-encodings, and leaves what is none as it is, as who
// decodes twice has to.
func decode(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if decoded, err := url.PathUnescape(path[i : i+3]); err == nil {
				b.WriteString(decoded)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// methods are those that gateways know. TRACE is not among them: its answer is
// the request, with the password in it (RFC 9110 §9.3.8).
const methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

func passes(method string) bool {
	for m := range strings.SplitSeq(methods, ", ") {
		if m == method {
			return true
		}
	}
	return false
}
