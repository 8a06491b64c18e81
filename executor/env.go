package executor

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// requestEnv returns what CGI-like functions read of a request:
// Http_<Header_Name>, Http_Method, Http_Query, Http_Path (decoded) and
// Http_Transfer_Encoding. A header that came more than once is one variable with
// all values, as CGI has it (RFC 3875, section 4.1.18): joined by ", ", and by
// "; " for Cookie. Upstream's watchdog gives the first value alone.
//
// The caller of a function chooses header names, so some are left out:
//   - names with anything but letters, digits and hyphens: X_User would become
//     the same variable as X-User, which an intermediary may vouch for;
//   - Method, Path, Query and Transfer-Encoding, which would pass for ours;
//   - Proxy, which where names ignore case is HTTP_PROXY (CVE-2016-5385);
//   - Host, Trailer, which upstream's server takes out too;
//   - values with a NUL, which no environment can hold.
func requestEnv(h *fasthttp.RequestHeader, target []byte) ([]string, error) {
	path, query, _ := bytes.Cut(target, []byte("?"))
	decoded, err := url.PathUnescape(string(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", reverseproxy.ErrBadBody, err)
	}
	if strings.ContainsRune(decoded, 0) || bytes.IndexByte(query, 0) >= 0 {
		return nil, fmt.Errorf("%w: NUL in the request target", reverseproxy.ErrBadBody)
	}

	at := make(map[string]int, 8) // which of headers a variable is
	var headers [][]byte          // "Http_Name=value"
	for name, value := range h.AllInOrder() {
		variable, ok := appendVariable(make([]byte, 0, 64), name)
		if !ok || bytes.IndexByte(value, 0) >= 0 {
			continue
		}
		switch string(variable) {
		case "Http_Method", "Http_Path", "Http_Query", "Http_Transfer_Encoding", "Http_Proxy", "Http_Host", "Http_Trailer":
			continue
		}
		i, seen := at[string(variable)]
		if !seen {
			at[string(variable)] = len(headers)
			kv := make([]byte, 0, len(variable)+1+len(value))
			headers = append(headers, append(append(append(kv, variable...), '='), value...))
			continue
		}
		separator := ", "
		if string(variable) == "Http_Cookie" {
			separator = "; "
		}
		headers[i] = append(append(headers[i], separator...), value...)
	}

	env := make([]string, 0, len(headers)+6)
	for _, kv := range headers {
		env = append(env, string(kv))
	}
	env = append(env, "Http_Method="+string(h.Method()))
	if len(query) > 0 {
		env = append(env, "Http_Query="+string(query))
	}
	if decoded != "" {
		env = append(env, "Http_Path="+decoded)
	}
	length := h.ContentLength()
	if length == -1 {
		env = append(env, "Http_Transfer_Encoding=chunked")
	}
	if _, sent := at["Http_Content_Length"]; !sent && length > 0 { // chunks that ReadBody has read
		env = append(env, "Http_Content_Length="+strconv.Itoa(length))
	}
	return env, nil
}

// appendVariable appends the name of a header's variable, or reports false for one
// that has none.
func appendVariable(b, name []byte) ([]byte, bool) {
	b = append(b, "Http_"...)
	upper := true
	for _, c := range name {
		switch {
		case c == '-':
			b, upper = append(b, '_'), true
			continue
		case 'a' <= c && c <= 'z':
			if upper {
				c -= 'a' - 'A'
			}
		case 'A' <= c && c <= 'Z':
			if !upper {
				c += 'a' - 'A'
			}
		case c < '0' || c > '9':
			return nil, false
		}
		b, upper = append(b, c), false
	}
	return b, true
}

// override returns base with a request's variables, which replace those of base
// with the same name.
func override(base, request []string) []string {
	env := make([]string, 0, len(base)+len(request))
	for _, kv := range base {
		if strings.HasPrefix(kv, "Http_") {
			name, _, _ := strings.Cut(kv, "=")
			if slices.ContainsFunc(request, func(kv string) bool { return len(kv) > len(name) && kv[:len(name)] == name && kv[len(name)] == '=' }) {
				continue
			}
		}
		env = append(env, kv)
	}
	return append(env, request...)
}
