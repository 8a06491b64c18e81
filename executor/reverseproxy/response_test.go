package reverseproxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

func TestResponseOnTheWire(t *testing.T) {
	t.Parallel()
	const get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	const head = "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	const old = "GET / HTTP/1.0\r\n\r\n"
	for _, test := range []struct {
		name, request, response, want string
		closes                        bool // the upstream, after its response
		before                        func(*fasthttp.RequestCtx)
	}{
		{name: "length", request: get,
			response: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
			want:     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
		{name: "status text, date, server, repeats and case", request: get,
			response: "HTTP/1.1 299 Fine by me\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: fn/1\r\nx-a: 1\r\nX-B: 2\r\nx-a: 3\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: a=2\r\nset-cookie: b\r\nVary: a\r\nVary: b\r\nContent-Length: 0\r\n\r\n",
			want:     "HTTP/1.1 299 Fine by me\r\nServer: fn/1\r\nContent-Length: 0\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nx-a: 1\r\nX-B: 2\r\nx-a: 3\r\nVary: a\r\nVary: b\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: a=2\r\nSet-Cookie: b\r\nConnection: close\r\n\r\n"},
		{name: "hop by hop", request: get,
			response: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Drop\r\nKeep-Alive: timeout=5\r\nX-Drop: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: a\r\nTE: a\r\nTrailer: X-T\r\nX-Stay: 1\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n",
			want:     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Stay: 1\r\nConnection: close\r\n\r\n"},
		{name: "chunked", request: get,
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
			want:     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "trailers", request: get,
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
			want:     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n"},
		{name: "until close", request: get, closes: true,
			response: "HTTP/1.1 200 OK\r\n\r\nhello",
			want:     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "http 1.0 upstream", request: get, closes: true,
			response: "HTTP/1.0 200 OK\r\n\r\nhello",
			want:     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "204", request: get, response: "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
			want: "HTTP/1.1 204 No Content\r\nX-A: 1\r\nConnection: close\r\n\r\n"},
		{name: "204 with a length", request: get, response: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
			want: "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"},
		{name: "304 with the length of what is not sent", request: get, response: "HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 5\r\n\r\n",
			want: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: a\r\nConnection: close\r\n\r\n"},
		{name: "head", request: head, response: "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\nContent-Type: a/b\r\n\r\n",
			want: "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 500000\r\nConnection: close\r\n\r\n"},
		{name: "head chunked", request: head, response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			want: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{name: "interim response", request: get,
			response: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
			want:     "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
		{name: "redirect is not followed", request: get,
			response: "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
			want:     "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://elsewhere/\r\nConnection: close\r\n\r\n"},
		{name: "http 1.0 client gets no chunks", request: old,
			response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
			want:     "HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close\r\n\r\nhello world"},
		{name: "http 1.0 client, length", request: old,
			response: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
			want:     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"},
		{name: "what the caller has set wins", request: get,
			before: func(ctx *fasthttp.RequestCtx) {
				ctx.Response.Header.Set("X-Call-Id", "ours")
				ctx.SetBodyString("to be replaced")
			},
			response: "HTTP/1.1 200 OK\r\nX-Call-Id: theirs\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello",
			want:     "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\nX-Call-Id: ours\r\nConnection: close\r\n\r\nhello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := startHop(t, answering(t, test.response, test.closes), hopConfig{before: test.before})
			require.Equal(t, test.want, h.ask(t, test.request))
		})
	}
}

// TestHeaderSetAfterForward: a caller may add fields when Forward is back,
// even where the answer leaves by Hijack.
func TestHeaderSetAfterForward(t *testing.T) {
	t.Parallel()
	h := startHop(t, answering(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false),
		hopConfig{after: func(ctx *fasthttp.RequestCtx) { ctx.Response.Header.Set("X-Duration-Seconds", "1") }})
	require.Contains(t, h.ask(t, "GET / HTTP/1.0\r\n\r\n"), "X-Duration-Seconds: 1\r\n")
	require.Contains(t, h.ask(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "X-Duration-Seconds: 1\r\n")
}

// TestCutShort: a response that the upstream breaks off must look broken to
// the client, however it was framed, and its connection is not used again.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]string{
		"length":         "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000),
		"short length":   "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
		"in a chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhello",
		"between chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"in a size":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1",
		"in the end":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
		"in trailers":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: 1\r\n",
		"bad chunk":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				h := startHop(t, answering(t, response, true), hopConfig{})
				c := h.dial(t)
				io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				require.Error(t, err)
				require.Empty(t, h.up.idle)
			})
		}
	}
}

func TestBadResponses(t *testing.T) {
	t.Parallel()
	for name, response := range map[string]string{
		"nothing":              "",
		"half a header":        "HTTP/1.1 200 OK\r\nX-Token: secret",
		"not http":             "SSH-2.0-secret\r\n\r\n",
		"status 99":            "HTTP/1.1 099 secret\r\n\r\n",
		"status 0":             "HTTP/1.1 000 secret\r\n\r\n",
		"status 0 after a 103": "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 000\r\n\r\n",
		"bad length":           "HTTP/1.1 200 OK\r\nX: secret\r\nContent-Length: -1\r\n\r\n",
		"two lengths":          "HTTP/1.1 200 OK\r\nX: secret\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"unknown encoding":     "HTTP/1.1 200 OK\r\nX: secret\r\nTransfer-Encoding: gzip\r\n\r\n",
		"huge header":          "HTTP/1.1 200 OK\r\nX: secret" + strings.Repeat("x", maxHeader) + "\r\n\r\n",
		"endless interim":      strings.Repeat("HTTP/1.1 102 Processing\r\nX: secret\r\n\r\n", 100),
		"interim, cr in value": "HTTP/1.1 103 Early\r\nX: secret\rY: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"upgrade nobody asked": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHop(t, answering(t, response, true), hopConfig{})
			answer := h.ask(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			require.Contains(t, answer, "HTTP/1.1 502 ")
			err := h.err(t)
			require.ErrorIs(t, err, ErrUnreachable)
			require.NotContains(t, err.Error(), "secret")
			require.Empty(t, h.up.idle)
		})
	}
}

// TestFlush: each write of the upstream reaches the client at once, without
// any Accept header.
func TestFlush(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		header string
		frame  func(string) string
	}{
		"chunked":            {"Transfer-Encoding: chunked\r\n", chunk},
		"until close":        {"X-A: 1\r\n", func(s string) string { return s }},
		"events of a length": {"Content-Type: text/event-stream; charset=utf-8\r\nContent-Length: 9\r\n", func(s string) string { return s }},
		"ndjson of a length": {"Content-Type: application/x-ndjson\r\nContent-Length: 9\r\n", func(s string) string { return s }},
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				step := make(chan struct{})
				up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
					readHead(br)
					io.WriteString(c, "HTTP/1.1 200 OK\r\n"+test.header+"\r\n")
					for _, piece := range []string{"one", "two", "six"} {
						<-step
						io.WriteString(c, test.frame(piece))
					}
					if name == "chunked" {
						io.WriteString(c, "0\r\n\r\n")
					}
				})
				h := startHop(t, up, hopConfig{})
				c := h.dial(t)
				io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				require.NoError(t, err)
				for _, piece := range []string{"one", "two", "six"} {
					step <- struct{}{}
					buf := make([]byte, 3)
					_, err := io.ReadFull(resp.Body, buf)
					require.NoError(t, err)
					require.Equal(t, piece, string(buf))
				}
				rest, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Empty(t, rest)
			})
		}
	}
}
