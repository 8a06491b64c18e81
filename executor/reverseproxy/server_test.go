package reverseproxy

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// serve runs NewServer on a Listener until the test ends.
func serve(t *testing.T, l *Listener, handler fasthttp.RequestHandler) {
	t.Helper()
	s := NewServer(handler, log.New(io.Discard, "", 0))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		l.Abort()
		require.NoError(t, <-ended)
	})
}

func listenTCP(t *testing.T, writeTimeout time.Duration) *Listener {
	t.Helper()
	l, err := Listen("tcp", "127.0.0.1:0", writeTimeout)
	require.NoError(t, err)
	return l
}

// TestServerFraming sends what proxies frame in different ways: the handler
// sees none of it, nor anything after it on the same connection.
func TestServerFraming(t *testing.T) {
	t.Parallel()
	l := listenTCP(t, time.Minute)
	var handled atomic.Int32
	serve(t, l, func(ctx *fasthttp.RequestCtx) { handled.Add(1) })
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, header := range map[string]string{
		"identity":    "Transfer-Encoding: identity\r\nContent-Length: 35\r\n",
		"no length":   "Transfer-Encoding: identity\r\n",
		"gzip":        "Transfer-Encoding: gzip\r\n",
		"both":        "Transfer-Encoding: chunked\r\nContent-Length: 35\r\n",
		"two lengths": "Content-Length: 35\r\nContent-Length: 0\r\n",
		"signed":      "Content-Length: +35\r\n",
		"bare LF":     "X: y\n",
		"folded":      "X: a\r\n b\r\n",
		"many lines":  strings.Repeat("Cookie:\r\n", maxLines),
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"+smuggled)
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		answer, err := io.ReadAll(c)
		require.NoError(t, err, "%s: the connection stays open after %q", name, answer)
		require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 4"), "%s: %q", name, answer)
		require.Equal(t, 1, strings.Count(string(answer), "HTTP/1.1 "), "%s: %q", name, answer)
		c.Close()
	}
	require.Zero(t, handled.Load())
}

// TestServerFields: nothing that the server itself looks at may change a line, as
// fasthttp's cookies lose their quotes; repeated lines all go upstream.
func TestServerFields(t *testing.T) {
	t.Parallel()
	up, heads := capture(t, "tcp")
	upstream := New(Config{Network: "tcp", Address: up})
	t.Cleanup(upstream.Close)
	l := listenTCP(t, time.Minute)
	serve(t, l, func(ctx *fasthttp.RequestCtx) {
		for range Fields(&ctx.Request.Header) {
		}
		if err := upstream.Forward(ctx, Options{}); err != nil {
			ctx.Error(err.Error(), 500)
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\nCookie: a=\"1\"\r\nuser-agent: b\r\nCookie: b=2\r\nX-Forwarded-Proto: p\r\n"+
		"Content-Length: 0\r\nX-Forwarded-For: y\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a\r\nuser-agent: b\r\nCookie: a=\"1\"\r\nCookie: b=2\r\nX-Forwarded-Proto: p\r\n"+
		"X-Forwarded-For: y, 127.0.0.1\r\nX-Forwarded-Host: x\r\nContent-Length: 0\r\n\r\n", <-heads)
}

func TestServerDate(t *testing.T) {
	t.Parallel()
	l := listenTCP(t, time.Minute)
	serve(t, l, func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/own" {
			setDate(&ctx.Response.Header, []byte("Thu, 01 Jan 1970 00:00:00 GMT"))
		}
	})
	for path, want := range map[string]string{"/own": "^Thu, 01 Jan 1970", "/none": "^.{26}GMT$"} {
		res, err := http.Get("http://" + l.Addr().String() + path)
		require.NoError(t, err)
		res.Body.Close()
		require.Len(t, res.Header.Values("Date"), 1, path)
		require.Regexp(t, want, res.Header.Get("Date"))
	}
}

// TestServerSlowReader asks for an answer without an end and does not read it.
func TestServerSlowReader(t *testing.T) {
	t.Parallel()
	l := listenTCP(t, 200*time.Millisecond)
	closed := make(chan struct{})
	serve(t, l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyStream(endless{closed}, -1) })
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	_, err = bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		require.Fail(t, "the answer goes on")
	}
}

// endless is a body that tells of its Close.
type endless struct{ closed chan struct{} }

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func (e endless) Close() error {
	close(e.closed)
	return nil
}

// failing is a listener that is short of descriptors for a while.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestListenerOutlivesShortage(t *testing.T) {
	t.Parallel()
	l := listenTCP(t, time.Minute)
	short := &failing{Listener: l.Listener}
	short.left.Store(3)
	l.Listener = short
	serve(t, l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("still here") })
	res, err := http.Get("http://" + l.Addr().String())
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "still here", string(body))
	require.Negative(t, short.left.Load())
}

// However much Connection lists, and however many fields there are.
func TestNominations(t *testing.T) {
	t.Parallel()
	var n nominations
	n.add([]byte("keep-alive, ,Upgrade"))
	require.Nil(t, n)
	require.False(t, n.has([]byte("keep-alive")))
	n.add([]byte("close, X-One\t,x-two"))
	for name, want := range map[string]bool{"close": true, "x-ONE": true, "X-Two": true, "X_Two": false, "x-three": false, "": false} {
		require.Equal(t, want, n.has([]byte(name)), name)
	}
	var list []byte
	for i := range 30_000 {
		list = fmt.Appendf(list, "%d,", i)
	}
	began := time.Now()
	n.add(list)
	for range 30_000 { // 900 million comparisons, if there were any
		require.False(t, n.has([]byte("x")))
	}
	require.Less(t, time.Since(began), time.Second)
}
