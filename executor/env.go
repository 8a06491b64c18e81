package executor

import (
	"bytes"
	"fmt"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// requestEnv returns base and what CGI-like functions read of a request:
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
func requestEnv(base []string, h *fasthttp.RequestHeader, target []byte) ([]string, error) {
	path, query, _ := bytes.Cut(target, []byte("?"))
	decoded, err := url.PathUnescape(string(path))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", reverseproxy.ErrBadBody, err)
	}
	if strings.ContainsRune(decoded, 0) || bytes.IndexByte(query, 0) >= 0 {
		return nil, fmt.Errorf("%w: NUL in the request target", reverseproxy.ErrBadBody)
	}

	const reserved = -1
	at := map[string]int{ // which of headers a variable is
		"Method": reserved, "Path": reserved, "Query": reserved, "Transfer_Encoding": reserved,
		"Proxy": reserved, "Host": reserved, "Trailer": reserved,
	}
	var headers [][]byte // "Http_Name=value"
	for name, value := range h.AllInOrder() {
		if bytes.ContainsFunc(name, notPlain) || bytes.IndexByte(value, 0) >= 0 {
			continue
		}
		variable := strings.ReplaceAll(textproto.CanonicalMIMEHeaderKey(string(name)), "-", "_")
		i, seen := at[variable]
		if i == reserved {
			continue
		}
		if !seen {
			i = len(headers)
			at[variable] = i
			headers = append(headers, []byte("Http_"+variable+"="))
		} else if variable == "Cookie" {
			headers[i] = append(headers[i], "; "...)
		} else {
			headers[i] = append(headers[i], ", "...)
		}
		headers[i] = append(headers[i], value...)
	}

	env := append(make([]string, 0, len(base)+len(headers)+4), base...)
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
	if _, sent := at["Content_Length"]; !sent && length > 0 { // chunks that ReadBody has read
		env = append(env, fmt.Sprintf("Http_Content_Length=%d", length))
	}
	return env, nil
}

func notPlain(r rune) bool {
	return !(r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}
