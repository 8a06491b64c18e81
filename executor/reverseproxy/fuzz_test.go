package reverseproxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzResponse has an upstream answer with arbitrary bytes. Nothing may panic,
// and the client gets at most one final response that a strict parser
// understands, or one that is visibly broken off.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
		"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nhello",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nDate: x\r\nSet-Cookie: a\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
		"HTTP/1.1 103 a\rb\r\nLink: a\rHTTP/1.1 200 OK\r\n b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 000 \r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n c\r\nTrailer: Date\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	var answer atomic.Pointer[[]byte]
	up := rawUpstream(f, "unix", func(c net.Conn, br *bufio.Reader) {
		readHead(br)
		c.Write(*answer.Load())
		c.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, br)
	})
	h := startHop(f, up, hopConfig{network: "unix", options: Options{Timeout: patience}})
	f.Fuzz(func(t *testing.T, response []byte, upgrade bool) {
		answer.Store(&response)
		c := h.dial(t)
		defer c.Close()
		request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		if upgrade {
			request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
		}
		io.WriteString(c, request)
		if upgrade {
			c.(*net.UnixConn).CloseWrite()
		}
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		for err == nil && resp.StatusCode < 200 && resp.StatusCode != 101 {
			resp, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			return // broken off, or a status line that only fasthttp takes
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err == nil && resp.StatusCode != 101 {
			rest, _ := io.ReadAll(br)
			require.Empty(t, rest, "after the response")
		}
	})
}

// FuzzRequest sends arbitrary bytes to a server with the hop. The upstream,
// which is net/http and parses on its own, must never see more requests than
// the hop's server has handed to its handler, where they are authorized: no
// part of a body, of a header or of garbage may turn into a request on its
// way. What net/http itself would make of the bytes is no bound, since it
// refuses some well-framed heads that fasthttp takes.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"GET /\x80%00?# HTTP/1.1\r\nHost: x\r\nConnection: Host, X-A\r\nX-A: 1\r\nCookie: a=b;;=\r\nX_Forwarded_For: 1\r\nX-F: a\r\n b\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\nHost: x\n\n",
	} {
		f.Add([]byte(seed))
	}
	var through atomic.Int32
	up := goUpstream(f, func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		io.Copy(io.Discard, r.Body)
	})
	h := startHop(f, up, hopConfig{network: "unix", options: Options{Timeout: patience}})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := h.dial(t)
		defer c.Close()
		c.Write(raw)
		c.(*net.UnixConn).CloseWrite()
		_, err := io.Copy(io.Discard, c)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		require.LessOrEqual(t, through.Load(), h.served.Load())
		require.NotErrorIs(t, h.lastErr(), ErrTimeout)
	})
}
