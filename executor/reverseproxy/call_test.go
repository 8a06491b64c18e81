package reverseproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestClientGone: the upstream's connection closes when the client leaves, at
// whatever point of the call.
func TestClientGone(t *testing.T) {
	t.Parallel()
	leave := map[string]func(net.Conn){
		"close":      func(c net.Conn) { c.Close() },
		"half close": func(c net.Conn) { c.(interface{ CloseWrite() error }).CloseWrite() },
	}
	post := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"
	for name, test := range map[string]struct{ request, answer string }{
		"waiting":                   {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"waiting after a body":      {post + strings.Repeat("x", 20000), ""},
		"sending":                   {post + strings.Repeat("x", 10000), ""},
		"sending chunks":            {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", ""},
		"receiving":                 {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"},
		"receiving while sending":   {post + strings.Repeat("x", 10000), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"},
		"receiving a known length":  {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 10000)},
		"receiving in the http 1.0": {"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\na"},
	} {
		for how, leave := range leave {
			for _, network := range []string{"tcp", "unix"} {
				t.Run(name+" "+how+" "+network, func(t *testing.T) {
					t.Parallel()
					closed := make(chan struct{})
					up := rawUpstream(t, network, func(c net.Conn, br *bufio.Reader) {
						defer close(closed)
						readHead(br)
						io.WriteString(c, test.answer)
						io.Copy(io.Discard, br)
					})
					h := startHop(t, up, hopConfig{network: network})
					c := h.dial(t)
					io.WriteString(c, test.request)
					if test.answer == "" {
						eventually(t, func() bool { return h.served.Load() == 1 }, "the call")
						time.Sleep(2 * watchDelay) // in the middle of the wait
					} else {
						_, err := c.Read(make([]byte, 1))
						require.NoError(t, err)
					}
					leave(c)
					select {
					case <-closed:
					case <-time.After(patience):
						t.Fatal("the upstream is still at it")
					}
					if test.answer == "" {
						require.ErrorIs(t, h.err(t), ErrClientGone)
					}
				})
			}
		}
	}
}

// TestWatchLeavesPipelineAlone: slow calls one after the other on a connection,
// with the next request already sent, or sent only after the answer.
func TestWatchLeavesPipelineAlone(t *testing.T) {
	t.Parallel()
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(watchDelay * 3 / 2)
		b, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.URL.Path, " ", len(b))
	})
	h := startHop(t, up, hopConfig{})
	c := h.dial(t)
	br := bufio.NewReader(c)
	for i := range 3 {
		fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		time.Sleep(watchDelay * 5 / 4) // into the watch
		fmt.Fprintf(c, "POST /p%d HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n%s", i, strings.Repeat("x", 9000))
		require.Equal(t, fmt.Sprint("/", i, " 0"), readBody(t, br))
		require.Equal(t, fmt.Sprint("/p", i, " 9000"), readBody(t, br))
	}
	require.Empty(t, h.errs)
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request string
		serve   func(c net.Conn, br *bufio.Reader)
	}{
		"silence":       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(c net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }},
		"byte by byte":  {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(c net.Conn, br *bufio.Reader) { drip(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 10000)) }},
		"interim":       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(c net.Conn, br *bufio.Reader) { drip(c, strings.Repeat("HTTP/1.1 102 P\r\n\r\n", 30)) }},
		"during a body": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("x", 9000), func(c net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }},
		"body not read": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n" + strings.Repeat("x", 10000000), func(c net.Conn, br *bufio.Reader) { time.Sleep(patience / 10) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHop(t, rawUpstream(t, "unix", test.serve), hopConfig{options: Options{Timeout: 100 * time.Millisecond}})
			c := h.dial(t)
			go io.WriteString(c, test.request)
			err := h.err(t)
			require.ErrorIs(t, err, ErrTimeout)
			require.NotErrorIs(t, err, ErrUnreachable)
		})
	}
}

// drip writes s slowly, until the other side closes.
func drip(c net.Conn, s string) {
	for i := range s {
		if _, err := io.WriteString(c, s[i:i+1]); err != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestIdleTimeoutCutsASilentResponse(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		defer close(closed)
		readHead(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		// Longer in all than the timeout, but never silent for long.
		for range 30 {
			io.WriteString(c, chunk("x"))
			time.Sleep(50 * time.Millisecond)
		}
		io.Copy(io.Discard, br)
	})
	h := startHop(t, up, hopConfig{options: Options{IdleTimeout: time.Second}})
	c := h.dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.Error(t, err)
	require.Len(t, b, 30)
	<-closed
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	h := startHop(t, "127.0.0.1:"+freeport.Take(), hopConfig{})
	c := h.dial(t)
	br := bufio.NewReader(c)
	// The client's connection stays usable, small unread bodies included.
	for range 2 {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("x", 20000))
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		require.Equal(t, 502, resp.StatusCode)
		require.ErrorIs(t, h.err(t), ErrUnreachable)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		dials.Add(1)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if req.Method == "HEAD" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
				continue
			}
			switch req.URL.Path {
			case "/length":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
			case "/long":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000))
			case "/chunked":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
			case "/204":
				io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			case "/close":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
			case "/extra":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			}
		}
	})
	h := startHop(t, up, hopConfig{})
	c := h.dial(t)
	br := bufio.NewReader(c)
	call := func(method, path string) {
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n%s\r\n0\r\n\r\n", method, path, strings.Repeat("x", 10000))
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NotContains(t, string(b), "evil")
		eventually(t, func() bool {
			h.up.mu.Lock()
			defer h.up.mu.Unlock()
			return len(h.up.idle) == 1 || path == "/close" || path == "/extra"
		}, "the connection to be idle")
	}
	for _, path := range []string{"/length", "/long", "/chunked", "/204", "/length"} {
		call("POST", path)
	}
	call("HEAD", "/long")
	require.EqualValues(t, 1, dials.Load())
	call("GET", "/close")
	call("GET", "/length")
	require.EqualValues(t, 2, dials.Load())
	call("GET", "/extra")
	call("GET", "/length")
	require.EqualValues(t, 3, dials.Load())
}

// TestDeadIdleConnection: the upstream closed it, or said something nobody
// asked for, while it was idle. Even a POST finds another one.
func TestDeadIdleConnection(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"", "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"} {
		for _, network := range []string{"tcp", "unix"} {
			var calls atomic.Int32
			drop, dropped := make(chan struct{}), make(chan struct{})
			up := rawUpstream(t, network, func(c net.Conn, br *bufio.Reader) {
				readHead(br)
				calls.Add(1)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				<-drop
				io.WriteString(c, last)
				if last == "" {
					c.Close()
				}
				dropped <- struct{}{}
				io.Copy(io.Discard, br)
			})
			h := startHop(t, up, hopConfig{})
			c := h.dial(t)
			br := bufio.NewReader(c)
			for range 3 {
				io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n\r\n")
				require.Equal(t, "hello", readBody(t, br))
				drop <- struct{}{}
				<-dropped
			}
			require.EqualValues(t, 3, calls.Load())
			require.Empty(t, h.errs)
		}
	}
}

// TestRedial: the upstream closes a reused connection when the request is
// already on its way. What may be sent twice is, once; what may not is not.
func TestRedial(t *testing.T) {
	t.Parallel()
	for method, again := range map[string]bool{"GET": true, "HEAD": true, "PUT": true, "DELETE": true, "OPTIONS": true, "POST": false, "PATCH": false, "FOO": false} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var got atomic.Int32
			up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
				for i := range 2 {
					if _, err := readHead(br); err != nil {
						return
					}
					got.Add(1)
					if i == 1 {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			h := startHop(t, up, hopConfig{})
			c := h.dial(t)
			br := bufio.NewReader(c)
			for i := range 2 {
				fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", method)
				resp, err := http.ReadResponse(br, &http.Request{Method: method})
				require.NoError(t, err)
				io.Copy(io.Discard, resp.Body)
				if i == 0 || again {
					require.Equal(t, 200, resp.StatusCode)
				} else {
					require.Equal(t, 502, resp.StatusCode)
				}
			}
			want := int32(2)
			if again {
				want = 3
			}
			require.Equal(t, want, got.Load())
		})
	}
}

func TestPoolBounds(t *testing.T) {
	t.Parallel()
	var open atomic.Int32
	up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		io.Copy(io.Discard, br)
	})
	u := New(Config{Network: "tcp", Address: up, MaxIdle: 2, IdleTimeout: 200 * time.Millisecond})
	var conns []*conn
	for range 4 {
		c, err := u.get(time.Now(), time.Time{})
		require.NoError(t, err)
		conns = append(conns, c)
	}
	for _, c := range conns {
		u.put(c)
	}
	require.Equal(t, conns[2:], u.idle)
	eventually(t, func() bool { return open.Load() == 2 }, "two connections closed")
	c, err := u.get(time.Now(), time.Time{})
	require.NoError(t, err)
	require.Same(t, conns[3], c)
	require.True(t, c.reused)
	time.Sleep(250 * time.Millisecond)
	u.put(c)
	require.Equal(t, []*conn{c}, u.idle)
	time.Sleep(250 * time.Millisecond)
	c, err = u.get(time.Now(), time.Time{})
	require.NoError(t, err)
	require.False(t, c.reused)
	u.put(c)
	u.Close()
	eventually(t, func() bool { return open.Load() == 0 }, "all connections closed")
	u.put(c)
	require.Empty(t, u.idle)
}

// TestIdleLimit: several upstreams share what may be idle, and one that is
// retired keeps nothing but still serves.
func TestIdleLimit(t *testing.T) {
	t.Parallel()
	var open atomic.Int32
	up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		io.Copy(io.Discard, br)
	})
	limit := NewIdleLimit(3)
	a := New(Config{Network: "tcp", Address: up, Idle: limit})
	b := New(Config{Network: "tcp", Address: up, Idle: limit, MaxIdle: 1})
	fill := func(u *Upstream, n int) {
		var conns []*conn
		for range n {
			c, err := u.dial(time.Time{})
			require.NoError(t, err)
			conns = append(conns, c)
		}
		for _, c := range conns {
			u.put(c)
		}
	}
	fill(b, 2)
	require.Len(t, b.idle, 1, "its own limit holds as well")
	fill(a, 4)
	require.Len(t, a.idle, 2)
	eventually(t, func() bool { return open.Load() == 3 }, "the others closed")

	used, err := a.get(time.Now(), time.Time{})
	require.NoError(t, err)
	require.True(t, used.reused)
	a.Retire()
	require.Empty(t, a.idle)
	fill(a, 1)
	a.put(used)
	require.Empty(t, a.idle)
	fill(b, 5)
	require.Len(t, b.idle, 1)
	b.Close()
	eventually(t, func() bool { return open.Load() == 0 }, "all connections closed")
	require.EqualValues(t, 3, limit.left.Load(), "all is given back")
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 10)
	up := rawUpstream(t, "unix", func(c net.Conn, br *bufio.Reader) {
		head, _ := readHead(br)
		if strings.Contains(head, "/refuse") {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			return
		}
		// The first bytes come along with the header.
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\n\r\nhello ")
		if strings.Contains(head, "/bye") {
			return
		}
		io.Copy(c, br)
		ended <- struct{}{}
	})
	h := startHop(t, up, hopConfig{})
	connect := func(path string) (net.Conn, *bufio.Reader, string) {
		c := h.dial(t)
		// So do the client's.
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ", path)
		br := bufio.NewReader(c)
		head, err := readHead(br)
		require.NoError(t, err)
		return c, br, head
	}
	read := func(br *bufio.Reader, want string) {
		b := make([]byte, len(want))
		_, err := io.ReadFull(br, b)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
	}

	c, br, head := connect("/")
	require.Equal(t, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n", head)
	read(br, "hello early ")
	io.WriteString(c, "ping")
	read(br, "ping")
	c.Close()
	<-ended // the client's end ends the upstream's side

	_, br, _ = connect("/bye")
	read(br, "hello ")
	_, err := br.ReadByte() // and the other way round
	require.Error(t, err)

	_, _, head = connect("/refuse")
	require.Contains(t, head, "HTTP/1.1 403 ")

	_, br, _ = connect("/")
	read(br, "hello early ")
	h.up.Close()
	_, err = br.ReadByte()
	require.Error(t, err)
	<-ended
	eventually(t, func() bool {
		h.up.mu.Lock()
		defer h.up.mu.Unlock()
		return len(h.up.tunnels) == 0
	}, "no tunnel to be left")
}

// TestNoCrossTalk has many clients at once, some of which leave, and looks
// whether each gets its own answers from the shared connections.
func TestNoCrossTalk(t *testing.T) {
	t.Parallel()
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Query().Has("slow") {
			time.Sleep(watchDelay * 4 / 3)
		}
		if r.URL.Query().Has("flush") {
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, r.URL.Path, " ", string(b))
	})
	h := startHop(t, up, hopConfig{config: Config{MaxIdle: 4}})
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			c := h.dial(t)
			br := bufio.NewReader(c)
			for i := range 60 {
				id := fmt.Sprintf("/%d/%d", client, i)
				query := []string{"", "?flush", "?slow", "?slow&flush"}[(client+i)%4]
				body := strings.Repeat(id, 1+(i%3)*3000)
				if i%2 == 0 {
					fmt.Fprintf(c, "POST %s%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", id, query, len(body), body)
				} else {
					fmt.Fprintf(c, "POST %s%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n", id, query, chunk(body))
				}
				if (client+i)%7 == 0 {
					c.Close()
					c = h.dial(t)
					br.Reset(c)
					continue
				}
				resp, err := http.ReadResponse(br, nil)
				if !assert.NoError(t, err) {
					return
				}
				b, err := io.ReadAll(resp.Body)
				assert.NoError(t, err)
				if !assert.Equal(t, id+" "+body, string(b)) {
					return
				}
			}
		})
	}
	wg.Wait()
	for err := h.lastErr(); err != nil; err = h.lastErr() {
		require.ErrorIs(t, err, ErrClientGone)
	}
}

func TestErrorsAreDistinct(t *testing.T) {
	t.Parallel()
	all := []error{ErrUnreachable, ErrTimeout, ErrClientGone, ErrBadBody}
	for i, a := range all {
		for j, b := range all {
			require.Equal(t, i == j, errors.Is(a, b))
		}
	}
}
