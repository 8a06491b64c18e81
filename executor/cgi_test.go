package executor

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

const defaultType = "text/x-default"

// parseCGI returns what a client would see of an output.
func parseCGI(out io.Reader) (status int, reason string, header http.Header, body string, err error) {
	r := bufio.NewReaderSize(out, 16)
	h, err := readCGIHeader(r)
	if err != nil {
		return 0, "", nil, "", err
	}
	var dst fasthttp.ResponseHeader
	dst.DisableNormalizing()
	h.apply(&dst, defaultType)
	header = http.Header{}
	for name, value := range dst.All() {
		header.Add(string(name), string(value))
	}
	header.Del("Content-Length") // fasthttp's own, of a body it does not have yet
	rest, err := io.ReadAll(r)
	return dst.StatusCode(), string(dst.StatusMessage()), header, string(rest), err
}

// TestCGIHeader compares us with Go's net/http/cgi. Where the two differ, other
// is what that one does, and why says which is right.
func TestCGIHeader(t *testing.T) {
	t.Parallel()
	cat, err := exec.LookPath("cat")
	require.NoError(t, err)
	type answer struct {
		status int
		header http.Header
		body   string
	}
	ct := func(more ...string) http.Header {
		h := http.Header{"Content-Type": {"a/b"}}
		for i := 0; i < len(more); i += 2 {
			h.Add(more[i], more[i+1])
		}
		return h
	}
	plain := http.Header{"Content-Type": {defaultType}}
	for _, c := range []struct {
		name, out string
		want      answer // status 502: ErrBadOutput
		why       string // net/http/cgi answers something else; "" = the same
	}{
		{"type", "Content-Type: a/b\n\nbody\n", answer{200, ct(), "body\n"}, ""},
		{"CRLF", "Content-Type: a/b\r\nX-A: 1\r\n\r\n\r\nbody", answer{200, ct("X-A", "1"), "\r\nbody"}, ""},
		{"mixed line ends", "Content-Type: a/b\r\nX-A: 1\n\r\nx", answer{200, ct("X-A", "1"), "x"}, ""},
		{"status", "Status: 404 Not Found\nContent-Type: a/b\n\n", answer{404, ct(), ""}, ""},
		{"status alone", "Status:404\nContent-Type:a/b\n\nx", answer{404, ct(), "x"}, ""},
		{"lower case", "status: 404\ncontent-type: a/b\n\nx", answer{404, ct(), "x"}, "passed on as a field of that name there"},
		{"redirect", "Location: http://x/y?z\nContent-Type: a/b\n\n", answer{302, ct("Location", "http://x/y?z"), ""}, ""},
		{"redirect with a status", "Location: /there\nStatus: 308 Permanent\nContent-Type: a/b\n\n", answer{308, ct("Location", "/there"), ""}, ""},
		{"redirect without a type", "Location: /there\n\n", answer{302, http.Header{"Content-Type": {defaultType}, "Location": {"/there"}}, ""},
			"the type has a default here, content_type"},
		{"repeated", "Content-Type: a/b\nSet-Cookie: a=1; Path=/\nSet-Cookie: b=2\nSet-Cookie: a=3\nVary: a\nVary: b\n\n",
			answer{200, ct("Set-Cookie", "a=1; Path=/", "Set-Cookie", "b=2", "Set-Cookie", "a=3", "Vary", "a", "Vary", "b"), ""}, ""},
		{"white space", "Content-Type: \t a/b \t\nX-A:\nX-B: a b\tc\n\n", answer{200, ct("X-A", "", "X-B", "a b\tc"), ""}, ""},
		{"latin-1 and UTF-8", "Content-Type: a/b\nX-A: \xe9 é\n\n", answer{200, ct("X-A", "\xe9 é"), ""}, ""},
		{"body with NUL and lines", "Content-Type: a/b\n\n\n\x00: x\n\n", answer{200, ct(), "\n\x00: x\n\n"}, ""},
		{"long line", "Content-Type: a/b\nX-A: " + strings.Repeat("x", 900) + "\n\n", answer{200, ct("X-A", strings.Repeat("x", 900)), ""}, ""},

		{"no fields", "\nbody", answer{200, plain, "body"}, "the least a function can say; there a type is needed"},
		{"status and no type", "Status: 403\n\nno", answer{403, plain, "no"}, "as above"},
		{"framing", "Content-Type: a/b\nContent-Length: 1\nTransfer-Encoding: chunked\nConnection: close\nTrailer: x\nUpgrade: x\n\nlong",
			answer{200, ct(), "long"}, "net/http/cgi leaves these to its server, which fails"},
		{"the watchdog's own", "Content-Type: a/b\nX-OpenFaaS-Internal: of-watchdog\nx_openfaas_internal: x\nX-Duration-Seconds: 0\nX-Call-Id: 7\nDate: never\n\n",
			answer{200, ct(), ""}, "they are nothing special there"},
		{"long", "Content-Type: a/b\n" + strings.Repeat("X-A: "+strings.Repeat("x", 500)+"\n", 129), answer{status: 502}, "the limit there is 1 KiB a line, and none for the block"},
		{"empty", "", answer{status: 502}, "500 there"},
		{"no end", "Content-Type: a/b\n", answer{status: 502}, "what is there is used"},
		{"no end of line", "Content-Type: a/b", answer{status: 502}, "as above"},
		{"no header", "hello\n\nworld", answer{status: 502}, "lines without a colon are skipped there"},
		{"a type, and a line that is no field", "Content-Type: a/b\nhello\n\n", answer{status: 502}, "as above"},
		{"space before the colon", "Content-Type: a/b\nX-A : 1\n\n", answer{status: 502}, "skipped there"},
		{"folded", "Content-Type: a/b\nX-A: 1\n 2: 3\n\n", answer{status: 502}, "skipped there"},
		{"no name", "Content-Type: a/b\n: 3\n\n", answer{status: 502}, "skipped there"},
		{"NUL in a value", "Content-Type: a/b\nX-A: 1\x002\n\n", answer{status: 502}, "left to the server there"},
		{"CR in a value", "Content-Type: a/b\nX-A: 1\rX-B: 2\n\n", answer{status: 502}, "left to the server there"},
		{"status twice", "Status: 200\nStatus: 404\nContent-Type: a/b\n\n", answer{status: 502}, "the last wins there"},
		{"type twice", "Content-Type: a/b\nContent-Type: c/d\n\n", answer{status: 502}, "both are sent there"},
		{"status text alone", "Status: OK\nContent-Type: a/b\n\n", answer{status: 502}, "500 there"},
		{"status of four digits", "Status: 2000\nContent-Type: a/b\n\n", answer{status: 502}, "200 there"},
		{"interim status", "Status: 101\nContent-Type: a/b\n\n", answer{status: 502}, "sent on there"},
		{"status 600", "Status: 600\nContent-Type: a/b\n\n", answer{status: 502}, "sent on there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, in := range []io.Reader{strings.NewReader(c.out), iotest.OneByteReader(strings.NewReader(c.out))} {
				status, _, header, body, err := parseCGI(in)
				if c.want.status == 502 {
					require.ErrorIs(t, err, ErrBadOutput)
					code, internal := Status(err)
					require.Equal(t, 502, code)
					require.False(t, internal)
				} else {
					require.NoError(t, err)
					require.Equal(t, c.want, answer{status, header, body})
				}
			}

			file := filepath.Join(t.TempDir(), "out")
			require.NoError(t, os.WriteFile(file, []byte(c.out), 0o600))
			rec := httptest.NewRecorder()
			(&cgi.Handler{Path: cat, Args: []string{file}, Stderr: io.Discard, Logger: log.New(io.Discard, "", 0)}).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
			theirs := answer{rec.Code, rec.Header(), rec.Body.String()}
			if c.why == "" {
				require.Equal(t, c.want, theirs, "net/http/cgi")
			} else {
				require.NotEqual(t, c.want, theirs, "net/http/cgi does the same now: %s", c.why)
			}
		})
	}
}

func TestCGIReasonAndLimit(t *testing.T) {
	t.Parallel()
	_, reason, _, _, err := parseCGI(strings.NewReader("Status: 404 No Such Cat\n\n"))
	require.NoError(t, err)
	require.Equal(t, "No Such Cat", reason)

	for _, bad := range []string{"", "20", "+20", "-20", "0x1", "199", "99", "2 0", "200\tOK"} {
		_, _, _, _, err = parseCGI(strings.NewReader("Status: " + bad + "\n\n"))
		require.ErrorIs(t, err, ErrBadOutput, bad)
	}

	block := func(size int) string {
		return "X-A: " + strings.Repeat("x", size-len("X-A: \n\n")) + "\n\n"
	}
	_, _, _, body, err := parseCGI(strings.NewReader(block(maxCGIHeader) + "body"))
	require.NoError(t, err)
	require.Equal(t, "body", body)
	_, _, _, _, err = parseCGI(strings.NewReader(block(maxCGIHeader + 1)))
	require.ErrorContains(t, err, "exceeds 65536 bytes")

	// An output without any line end is given up early, not read to its end.
	endless := &countingReader{}
	_, _, _, _, err = parseCGI(endless)
	require.ErrorIs(t, err, ErrBadOutput)
	require.Less(t, endless.n, maxCGIHeader+1024)

	// What the process ended with is passed on, not blamed on its header.
	cause := errors.New("the cause")
	_, _, _, _, err = parseCGI(io.MultiReader(strings.NewReader("Status: 200\n"), iotest.ErrReader(cause)))
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, ErrBadOutput)
}

type countingReader struct{ n int }

func (r *countingReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	r.n += len(p)
	return len(p), nil
}

func FuzzCGIHeader(f *testing.F) {
	f.Add("Status: 404 Not Found\r\nContent-Type: a/b\r\nSet-Cookie: a\nSet-Cookie: b\n\nbody")
	f.Add("\nX-A: 1")
	f.Add("Location: /\n\n")
	f.Add("X-A: 1\rX-B: 2\nTransfer_Encoding: chunked\n\n0\r\n\r\n")
	f.Add("Status: 299 a\tb\nServer: x\nContent-Encoding: gzip\n\n")
	f.Fuzz(func(t *testing.T, out string) {
		h, err := readCGIHeader(bufio.NewReader(strings.NewReader(out)))
		if err != nil {
			require.ErrorIs(t, err, ErrBadOutput)
			return
		}
		require.LessOrEqual(t, h.size, len(out))
		block := out[:h.size]
		require.True(t, block == "\n" || block == "\r\n" || strings.HasSuffix(block, "\n\n") || strings.HasSuffix(block, "\n\r\n"))

		// On the wire it is what Go's client reads as one response with this
		// very body: nothing in a header can begin another.
		resp := &fasthttp.Response{}
		resp.Header.DisableNormalizing()
		h.apply(&resp.Header, defaultType)
		if !h.hasNoBody() {
			resp.SetBodyString(out[h.size:])
		}
		wire := resp.String()
		r := bufio.NewReader(strings.NewReader(wire))
		got, err := http.ReadResponse(r, nil)
		require.NoError(t, err, "%q", wire)
		body, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		require.Zero(t, r.Buffered())
		if !h.hasNoBody() {
			require.Equal(t, out[h.size:], string(body))
		}
		if h.status != 0 {
			require.Equal(t, h.status, got.StatusCode)
		}
		require.Empty(t, got.TransferEncoding)
		for _, name := range []string{"Connection", "Transfer-Encoding", "Trailer", "Upgrade", "X-Openfaas-Internal", "X-Duration-Seconds"} {
			require.Empty(t, got.Header.Values(name))
		}
		for _, field := range h.fields {
			require.NotContains(t, field.name+field.value, "\n")
		}
	})
}
