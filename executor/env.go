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
// Http_<Header_Name> with each header's first value, Http_Method, Http_Query,
// Http_Path (decoded) and Http_Transfer_Encoding.
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

	env := append(make([]string, 0, len(base)+24), base...)
	seen := map[string]bool{
		"Method": true, "Path": true, "Query": true, "Transfer_Encoding": true,
		"Proxy": true, "Host": true, "Trailer": true,
	}
	for name, value := range h.AllInOrder() {
		if bytes.ContainsFunc(name, notPlain) || bytes.IndexByte(value, 0) >= 0 {
			continue
		}
		variable := strings.ReplaceAll(textproto.CanonicalMIMEHeaderKey(string(name)), "-", "_")
		if !seen[variable] {
			seen[variable] = true
			env = append(env, "Http_"+variable+"="+string(value))
		}
	}
	env = append(env, "Http_Method="+string(h.Method()))
	if len(query) > 0 {
		env = append(env, "Http_Query="+string(query))
	}
	if decoded != "" {
		env = append(env, "Http_Path="+decoded)
	}
	if h.ContentLength() == -1 {
		env = append(env, "Http_Transfer_Encoding=chunked")
	}
	return env, nil
}

func notPlain(r rune) bool {
	return !(r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}
