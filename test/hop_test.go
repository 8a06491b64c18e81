package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestHops sends what is easily lost on the way through one hop, the built
// fwatchdog, through two, gateway and fwatchdog, and through three, with a
// gateway in front of that.
func TestHops(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "h") // t.TempDir() is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "f")
	w := start(t, dir, []string{"TMPDIR=" + dir, "listen=127.0.0.1:0", "metrics_port=0", "healthcheck_interval=0", "write_timeout=1s",
		"mode=http", "fprocess=" + os.Args[0], "upstream_url=unix://" + socket, functionVariable + "=1"}, "fwatchdog")
	direct := "http://" + w.stderr.find(t, w, `Serving mode http on (\S+),`)[1]

	stack := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(stack, "stack.yml"), fmt.Appendf(nil, `
functions:
  hop:
    fprocess: %q
    environment: {mode: http, %s: "1", write_timeout: 1s}
`, os.Args[0], functionVariable), 0o600))
	g := startUp(t, stack, []string{"write_timeout=1s"}, "-f", "stack.yml")

	front := startFront(t, g, "write_timeout=1s")

	for route, base := range map[string]string{"fwatchdog": direct, "gateway": g.url + "/function/hop", "provider": front.url + "/function/hop"} {
		for name, test := range map[string]func(*testing.T, string){
			"early hints": hopEarlyHints, "streams": hopStreams, "duplex": hopDuplex, "trailers": hopTrailers,
			"head": hopHead, "early answer": hopEarlyAnswer, "websocket": hopWebSocket,
		} {
			t.Run(route+" "+name, func(t *testing.T) { test(t, base) })
		}
	}
}

func send(t *testing.T, ctx context.Context, method, target string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func hopEarlyHints(t *testing.T, base string) {
	hints := make(chan textproto.MIMEHeader, 1)
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code != http.StatusEarlyHints {
				return fmt.Errorf("interim response %d", code)
			}
			hints <- h
			// The function goes on only now: the hints did not wait for it.
			go func() {
				if res, err := http.Get(base + "/seen?id=hints"); err == nil {
					res.Body.Close()
				}
			}()
			return nil
		},
	})
	res := send(t, ctx, "GET", base+"/hints?id=hints", nil)
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "answer", string(b))
	require.Equal(t, []string{"</a.css>", "</b.js>"}, (<-hints)["Link"])
}

// hopStreams: each piece arrives while the function waits with the next, and
// the whole takes longer than write_timeout.
func hopStreams(t *testing.T, base string) {
	for i, c := range []struct{ kind, length, accept string }{
		{"text/event-stream", "", "text/event-stream"},
		{"text/event-stream", "", "application/json"},
		{"text/event-stream; charset=utf-8", "8", ""},
		{"application/x-ndjson", "", "*/*"},
		{"application/x-ndjson", "8", ""},
		{"text/plain", "", "text/html"},
		{"", "", ""},
	} {
		id := fmt.Sprint("stream", i)
		query := "?id=" + id + "&type=" + url.QueryEscape(c.kind) + "&length=" + c.length
		headers := []string{"Accept: " + c.accept}
		if c.accept == "" {
			headers = nil
		}
		res := send(t, t.Context(), "GET", base+"/halves"+query, nil, headers...)
		br := bufio.NewReader(res.Body)
		line, err := br.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "one\n", line)
		if i == 0 {
			time.Sleep(1200 * time.Millisecond) // longer than write_timeout
		}
		require.Equal(t, 200, get(t, base+"/seen?id="+id).status)
		rest, err := io.ReadAll(br)
		require.NoError(t, err, c.kind)
		require.Equal(t, "two\n", string(rest))
	}
}

func hopDuplex(t *testing.T, base string) {
	sent := make([]byte, 32<<20)
	rand.Read(sent)
	for _, body := range []io.Reader{bytes.NewReader(sent), io.MultiReader(bytes.NewReader(sent))} { // with a length and without
		res := send(t, t.Context(), "POST", base+"/echo", body)
		got := sha256.New()
		n, err := io.Copy(got, res.Body)
		require.NoError(t, err)
		require.EqualValues(t, len(sent), n)
		want := sha256.Sum256(sent)
		require.Equal(t, want[:], got.Sum(nil))
	}
}

func hopTrailers(t *testing.T, base string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", base+"/echo", io.MultiReader(strings.NewReader("body")))
	require.NoError(t, err)
	req.Trailer = http.Header{"X-Up": {"value"}}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "body", string(b))
	require.Equal(t, "value", res.Trailer.Get("X-Down"))
	require.Equal(t, "unannounced", res.Trailer.Get("X-Late"))
}

func hopHead(t *testing.T, base string) {
	c := dialHop(t, base)
	br := bufio.NewReader(c)
	for range 2 { // the second shows that nothing of a body was sent
		u, _ := url.Parse(base)
		_, err := fmt.Fprintf(c, "HEAD %s/sized HTTP/1.1\r\nHost: x\r\n\r\n", u.Path)
		require.NoError(t, err)
		res, err := http.ReadResponse(br, &http.Request{Method: "HEAD"})
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode)
		require.EqualValues(t, 6, res.ContentLength)
	}
	require.Zero(t, br.Buffered())
}

// hopEarlyAnswer: a 413 arrives whole, while the client still sends.
func hopEarlyAnswer(t *testing.T, base string) {
	u, _ := url.Parse(base)
	for i, framing := range []string{"Content-Length: 1000000000", "Transfer-Encoding: chunked", "Content-Length: 1000000000", "Transfer-Encoding: chunked"} {
		stalls := i >= 2 // the client waits for the answer
		c := dialHop(t, base)
		_, err := fmt.Fprintf(c, "POST %s/refuse HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", u.Path, framing)
		require.NoError(t, err)
		go func() {
			if stalls {
				io.WriteString(c, "3\r\nabc\r\n")
				return
			}
			piece := []byte("3e8\r\n" + strings.Repeat("x", 1000) + "\r\n")
			for {
				if _, err := c.Write(piece); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err, framing)
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		require.Equal(t, "size", res.Header.Get("X-Why"))
		require.True(t, res.Close, "this connection is of no use any more")
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err, framing)
		require.Len(t, b, 100_001)
		c.Close()
	}
}

func dialHop(t *testing.T, base string) net.Conn {
	u, err := url.Parse(base)
	require.NoError(t, err)
	c, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func hopWebSocket(t *testing.T, base string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id := "ws" + url.QueryEscape(base)
	dial := func() *websocket.Conn {
		c, res, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+"/websocket?id="+id,
			&websocket.DialOptions{Subprotocols: []string{"other", "echo"}})
		require.NoError(t, err)
		require.Equal(t, 101, res.StatusCode)
		require.Equal(t, "echo", c.Subprotocol())
		c.SetReadLimit(-1)
		return c
	}

	c := dial()
	for _, size := range []int{0, 1, 125, 126, 65536, 1 << 20} {
		sent := make([]byte, size)
		rand.Read(sent)
		require.NoError(t, c.Write(ctx, websocket.MessageBinary, sent))
		kind, got, err := c.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, websocket.MessageBinary, kind)
		require.True(t, bytes.Equal(sent, got))
	}
	time.Sleep(1200 * time.Millisecond) // silence longer than write_timeout
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("still there")))
	kind, got, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, kind)
	require.Equal(t, "still there", string(got))
	require.NoError(t, c.Close(websocket.StatusNormalClosure, "bye"), "close handshake, ours")

	c = dial()
	require.NoError(t, c.Write(ctx, websocket.MessageText, []byte("end")))
	_, _, err = c.Read(ctx)
	var closed websocket.CloseError
	require.True(t, errors.As(err, &closed), "close handshake, the function's: %v", err)
	require.Equal(t, websocket.CloseError{Code: 4000, Reason: "as you wish"}, closed)

	c = dial()
	require.NoError(t, c.CloseNow())
	require.Equal(t, 200, get(t, base+"/gone?id="+id).status, "the function learns that the client is gone")
}
