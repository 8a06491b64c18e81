package executor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// maxCGIHeader bounds the header that an output begins with, in bytes.
const maxCGIHeader = 64 << 10

// cgiHeader is the header that a function's output begins with. Its zero value
// is the header of a function that gives none.
type cgiHeader struct {
	status int    // 0 = not given
	reason string // of the status; "" = the usual one
	fields []cgiField
	size   int // bytes it took, with the empty line
}

type cgiField struct{ name, value string }

// readCGIHeader reads a header from r up to and including the empty line that
// ends it, and leaves r at the body. Lines end with LF or CRLF.
//
// Every output has a header, though it may be just the empty line: if a missing
// one were let pass, a function that returns what its caller sent would let him
// write response headers. For the same reason what is malformed is refused, and
// not skipped. Errors never quote what came, it may hold cookies or tokens; one
// that is neither ErrBadOutput nor r's does not occur.
func readCGIHeader(r *bufio.Reader) (h cgiHeader, err error) {
	seen := map[string]bool{}
	for number := 1; ; number++ {
		line, err := readLine(r, maxCGIHeader-h.size)
		h.size += len(line)
		switch {
		case errors.Is(err, errLineTooLong):
			return h, fmt.Errorf("%w: it exceeds %d bytes", ErrBadOutput, maxCGIHeader)
		case errors.Is(err, io.EOF):
			return h, fmt.Errorf("%w: the output ended in line %d, before an empty line", ErrBadOutput, number)
		case err != nil:
			return h, err
		}
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		switch {
		case !ok:
			return h, fmt.Errorf("%w: line %d has no colon", ErrBadOutput, number)
		case len(name) == 0 || bytes.ContainsFunc(name, notToken):
			return h, fmt.Errorf("%w: the name in line %d is not a token", ErrBadOutput, number)
		case bytes.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			return h, fmt.Errorf("%w: the value in line %d has control characters", ErrBadOutput, number)
		}
		lower := strings.ToLower(string(name))
		switch lower {
		case "status", "location", "content-type":
			if seen[lower] {
				return h, fmt.Errorf("%w: line %d repeats %s", ErrBadOutput, number, lower)
			}
			seen[lower] = true
		}
		if lower == "status" {
			if err := h.setStatus(string(value)); err != nil {
				return h, fmt.Errorf("%w in line %d", err, number)
			}
		} else if !isServers(lower) {
			h.fields = append(h.fields, cgiField{string(name), string(value)})
		}
	}
	if seen["location"] && h.status == 0 {
		h.status = http.StatusFound // section 6.2.3
	}
	return h, nil
}

var errLineTooLong = errors.New("line too long")

// readLine returns the next line with its LF, of at most limit bytes.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, errLineTooLong
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

// setStatus takes "404" or "404 No Such Cat". Interim statuses are not for a
// header that is followed by the body.
func (h *cgiHeader) setStatus(value string) error {
	code, reason, _ := strings.Cut(value, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 200 || status > 599 {
		return fmt.Errorf("%w: Status is not a number from 200 to 599", ErrBadOutput)
	}
	h.status, h.reason = status, strings.TrimSpace(reason)
	return nil
}

// isServers reports whether a field, in lower case, is the watchdog's to set:
//   - what frames the message or is meant for one connection: a wrong
//     Content-Length would have the client take a body for the next response;
//   - Date, which the server adds;
//   - X-Duration-Seconds, which is measured; X-Call-Id, which names the call;
//     and X-OpenFaaS-Internal, which says that the error is the watchdog's and
//     has queue workers try again.
//
// An underscore counts as a hyphen, as it does to CGI-like readers behind us.
func isServers(name string) bool {
	switch strings.ReplaceAll(name, "_", "-") {
	case "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
		"te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		"date", "x-duration-seconds", "x-call-id", "x-openfaas-internal":
		return true
	}
	return false
}

func notToken(c rune) bool {
	return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

// hasNoBody reports whether responses with this status have none.
func (h *cgiHeader) hasNoBody() bool {
	return h.status == http.StatusNoContent || h.status == http.StatusNotModified
}

// apply puts h into a response's header. contentType is for a function that
// gives none.
func (h *cgiHeader) apply(dst *fasthttp.ResponseHeader, contentType string) {
	dst.SetContentType(contentType)
	if h.status != 0 {
		dst.SetStatusCode(h.status)
		dst.SetStatusMessage([]byte(h.reason))
	}
	for _, f := range h.fields {
		dst.Add(f.name, f.value)
	}
}
