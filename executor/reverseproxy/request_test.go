package reverseproxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// capture is a raw upstream that reports each header it gets, and what came
// after it, and closes.
func capture(t testing.TB, network string) (address string, heads <-chan string) {
	got := make(chan string, 10)
	return rawUpstream(t, network, func(c net.Conn, br *bufio.Reader) {
		head, err := readHead(br)
		if err != nil {
			return
		}
		got <- head
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		io.Copy(io.Discard, br)
	}), got
}

func TestRequestHeaderOnTheWire(t *testing.T) {
	t.Parallel()
	const forwarded = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: x\r\nX-Forwarded-Proto: http\r\n"
	for _, test := range []struct {
		name, network, request, want string
		options                      Options
		before                       func(*fasthttp.RequestCtx)
	}{
		{name: "plain", request: "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", want: "GET /a HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "raw target",
			request: "GET //a/../%2e%2E/;p=1/%zz/\x80?x=%20&&y#z HTTP/1.1\r\nHost: x\r\n\r\n",
			want:    "GET //a/../%2e%2E/;p=1/%zz/\x80?x=%20&&y#z HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "options star", request: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", want: "OPTIONS * HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "any method", request: "Brew~! /pot HTTP/1.1\r\nHost: x\r\n\r\n", want: "Brew~! /pot HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "target and host by options", options: Options{Target: []byte("/b//c?d"), Host: "fn"},
			request: "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
			want:    "GET /b//c?d HTTP/1.1\r\nHost: fn\r\n" + forwarded + "\r\n"},
		{name: "case, order and repeats kept",
			request: "GET / HTTP/1.1\r\nHost: x\r\nx-lower: 1\r\nX-MIXED: a\r\nX-MIXED: b\r\nx-lower: 2\r\nEmpty:\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nx-lower: 1\r\nX-MIXED: a\r\nX-MIXED: b\r\nx-lower: 2\r\nEmpty: \r\n" + forwarded + "\r\n"},
		{name: "several cookies and content types",
			request: "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nContent-Type: text/a\r\ncookie: b=\"2\"; c\r\nContent-Type: text/b\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nContent-Type: text/a\r\nContent-Type: text/b\r\nCookie: a=1\r\ncookie: b=\"2\"; c\r\n" + forwarded + "\r\n"},
		{name: "cookies that the caller has looked at",
			before:  func(ctx *fasthttp.RequestCtx) { ctx.Request.Header.Cookie("a") },
			request: "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1; b=2\r\n" + forwarded + "\r\n"},
		{name: "what the caller sets and deletes",
			before: func(ctx *fasthttp.RequestCtx) {
				ctx.Request.Header.Set("X-Call-Id", "7")
				ctx.Request.Header.Del("Authorization")
				ctx.Request.Header.SetContentType("text/c")
			},
			request: "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: secret\r\nContent-Type: text/a\r\nContent-Type: text/b\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nContent-Type: text/c\r\nX-Call-Id: 7\r\n" + forwarded + "\r\n"},
		{name: "hop by hop",
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Drop\r\nconnection: x-drop-too\r\nX-Drop: 1\r\nX-DROP-Too: 1\r\n" +
				"Keep-Alive: 5\r\nProxy-Connection: a\r\nProxy-Authenticate: a\r\nProxy-Authorization: a\r\nTE: gzip\r\nTrailer: X-T\r\nUpgrade: websocket\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "te trailers", request: "GET / HTTP/1.1\r\nHost: x\r\nTE: gzip, trailers\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n" + forwarded + "\r\n"},
		{name: "connection cannot take these away",
			request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close, authorization, X-Forwarded-For, X-Forwarded-Proto, Host, Cookie, X-Call-Id\r\n" +
				"Authorization: Bearer t\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nCookie: a=1\r\nX-Call-Id: 7\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nX-Forwarded-Proto: https\r\nCookie: a=1\r\nX-Call-Id: 7\r\n" +
				"X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\nX-Forwarded-Host: x\r\n\r\n"},
		{name: "connection cannot take the length away",
			request: "POST / HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
			want:    "POST / HTTP/1.1\r\nHost: x\r\n" + forwarded + "Content-Length: 3\r\n\r\n"},
		{name: "underscores do not pass for hyphens",
			request: "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 1\r\nAuthorization_: a\r\nTransfer_Encoding: chunked\r\nContent_Type: a\r\nmy_own: 1\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nAuthorization_: a\r\nmy_own: 1\r\n" + forwarded + "\r\n"},
		{name: "forwarded for is joined, host and proto are kept",
			request: "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Host: y\r\nx-forwarded-proto: https\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y\r\nx-forwarded-proto: https\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1\r\n\r\n"},
		{name: "a hop on a unix socket says whom it speaks for", network: "unix",
			request: "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n\r\n",
			want:    "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n\r\n"},
		{name: "expect is answered here",
			request: "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
			want:    "POST / HTTP/1.1\r\nHost: x\r\n" + forwarded + "Content-Length: 1\r\n\r\n"},
		{name: "http 1.0 becomes 1.1", request: "GET / HTTP/1.0\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: \r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n"},
		{name: "chunked with trailers announced",
			request: "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			want:    "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-T\r\n" + forwarded + "Transfer-Encoding: chunked\r\n\r\n"},
		{name: "empty post", request: "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
			want: "POST / HTTP/1.1\r\nHost: x\r\n" + forwarded + "Content-Length: 0\r\n\r\n"},
		{name: "upgrade", request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n" + forwarded + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{name: "no upgrade to h2c", request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
			want: "GET / HTTP/1.1\r\nHost: x\r\n" + forwarded + "\r\n"},
		{name: "no upgrade with a body", request: "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na",
			want: "POST / HTTP/1.1\r\nHost: x\r\n" + forwarded + "Content-Length: 1\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			up, heads := capture(t, "tcp")
			h := startHop(t, up, hopConfig{network: test.network, options: test.options, before: test.before})
			c := h.dial(t)
			_, err := io.WriteString(c, test.request)
			require.NoError(t, err)
			br := bufio.NewReader(c)
			head, err := readHead(br)
			require.NoError(t, err)
			if strings.Contains(head, " 100 ") {
				head, err = readHead(br)
				require.NoError(t, err)
			}
			require.Contains(t, head, " 200 OK")
			require.Equal(t, test.want, <-heads)
		})
	}
}

// TestAmbiguousFraming sends what servers have been known to frame
// differently. Behind each stands a second request, which must not reach the
// upstream as one.
func TestAmbiguousFraming(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"length and chunked":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked and length":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled,
		"identity":                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n" + smuggled,
		"identity and length":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"gzip":                    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" + smuggled,
		"gzip, chunked":           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked twice":           "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked, identity":       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked with tab":        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked in 1.0":          "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"space before colon":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"space in name":           "POST / HTTP/1.1\r\nHost: x\r\nTransfer Encoding: chunked\r\n\r\n" + smuggled,
		"two lengths":             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + smuggled,
		"two equal lengths":       "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n" + smuggled,
		"list of lengths":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 0\r\n\r\n" + smuggled,
		"plus":                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +0\r\n\r\n" + smuggled,
		"minus":                   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + smuggled,
		"hex":                     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x0\r\n\r\n" + smuggled,
		"empty length":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n" + smuggled,
		"huge length":             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n" + smuggled,
		"bad chunk size":          "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + smuggled,
		"huge chunk size":         "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + smuggled,
		"chunk without its end":   "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n" + smuggled,
		"bare LF in chunk":        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n" + smuggled,
		"bare CR in value":        "GET / HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 40\r\n\r\n" + smuggled,
		"nul in value":            "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n" + smuggled,
		"framing by a trailer":    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n" + smuggled,
		"tunnel":                  "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"two hosts":               "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + smuggled,
		"no host":                 "GET / HTTP/1.1\r\n\r\n" + smuggled,
		"space in target":         "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled,
		"bare LF in header":       "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n" + smuggled,
		"bare LF ends header":     "GET / HTTP/1.1\r\nHost: x\r\nX: y\n\r\n" + smuggled,
		"folded line":             "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n Evil: b\r\n\r\n" + smuggled,
		"line folded with a tab":  "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n" + smuggled,
		"header begins with fold": "GET / HTTP/1.1\r\n Host: x\r\n\r\n" + smuggled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up, heads := capture(t, "tcp")
			h := startHop(t, up, hopConfig{})
			// The client says that it is done by closing its side.
			c := h.dial(t).(*net.TCPConn)
			_, err := io.WriteString(c, request)
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			b, _ := io.ReadAll(c)
			answer := string(b)
			// The upstream answers at once, so where only the body is bad, its
			// answer may come through; the connection ends with it.
			require.Regexp(t, `^(HTTP/1.1 (400|501|502) |HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close|$)`, answer)
			require.LessOrEqual(t, strings.Count(answer, "HTTP/1.1 "), 1)
			for len(heads) > 0 {
				require.NotContains(t, <-heads, "/smuggled")
			}
			require.LessOrEqual(t, h.served.Load(), int32(1))
		})
	}
}
