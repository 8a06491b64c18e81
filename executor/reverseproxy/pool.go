package reverseproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// maxHeader bounds a response header, in bytes.
const maxHeader = 64 << 10

// maxInterim bounds the 1xx responses before the final one.
const maxInterim = 32

// conn is one connection to the upstream with what it needs for a call. It
// serves one call at a time.
type conn struct {
	*socket
	br     *bufio.Reader
	resp   fasthttp.Response // of the current call; its body reads from br
	probe  *probe
	watch  watch
	reused bool // has served a call before

	quietMax time.Duration // longest wait for a read; 0 = forever
	answered bool          // some byte of a response has come
	readErr  error         // the last read error

	began     time.Time // the current call
	idleSince time.Time
}

// Read keeps what the callers above bufio and fasthttp need to know.
func (c *conn) Read(p []byte) (int, error) {
	if c.quietMax > 0 {
		c.SetReadDeadline(time.Now().Add(c.quietMax))
	}
	n, err := c.socket.Read(p)
	c.answered = c.answered || n > 0
	c.readErr = err
	return n, err
}

// readHeader reads the header of the final response, and has interim called
// with each response before it in c.resp. Errors never quote what came: it may
// hold cookies or tokens.
func (c *conn) readHeader(interim func()) error {
	for range maxInterim {
		// fasthttp takes status 000 for 200.
		if line, err := c.br.Peek(len("HTTP/1.1 000")); err == nil && bytes.HasSuffix(line, []byte(" 000")) {
			return fmt.Errorf("%w: it answered with status 000, which is none", ErrUnreachable)
		}
		if err := c.resp.Header.Read(c.br); err != nil {
			var small *fasthttp.ErrSmallBuffer
			switch {
			case errors.As(err, &small):
				return fmt.Errorf("%w: response header exceeds %d bytes", ErrUnreachable, maxHeader)
			case errors.Is(c.readErr, os.ErrDeadlineExceeded):
				return fmt.Errorf("%w before its response header was complete", ErrTimeout)
			case c.readErr == io.EOF:
				return fmt.Errorf("%w: it closed the connection before its response header was complete", ErrUnreachable)
			case c.readErr != nil:
				return fmt.Errorf("%w: %v", ErrUnreachable, c.readErr)
			}
			return fmt.Errorf("%w: its response header is malformed", ErrUnreachable)
		}
		switch code := c.resp.StatusCode(); {
		case code < 100:
			return fmt.Errorf("%w: it answered with status %d, which is none", ErrUnreachable, code)
		case code == fasthttp.StatusSwitchingProtocols, code >= 200:
			return nil
		}
		interim()
	}
	return fmt.Errorf("%w: it sent more than %d interim responses", ErrUnreachable, maxInterim)
}

// get returns an idle connection that is still alive, or a new one.
func (u *Upstream) get(now, deadline time.Time) (*conn, error) {
	for {
		u.mu.Lock()
		n := len(u.idle)
		if n == 0 {
			u.mu.Unlock()
			return u.dial(deadline)
		}
		c := u.idle[n-1]
		u.idle[n-1] = nil
		u.idle = u.idle[:n-1]
		u.config.Idle.give(1)
		u.mu.Unlock()
		if now.Sub(c.idleSince) < u.config.IdleTimeout && c.probe.quiet() && !c.spent() {
			c.reused, c.began = true, now
			return c, nil
		}
		c.Close()
	}
}

// spent reports whether a connection that is no socket is of no further use.
func (c *conn) spent() bool {
	s, ok := c.Conn.(interface{ Spent() bool })
	return ok && s.Spent()
}

func (u *Upstream) dial(deadline time.Time) (*conn, error) {
	d := net.Dialer{Timeout: u.config.DialTimeout, Deadline: deadline}
	dial := u.config.Dial
	if dial == nil {
		dial = func() (net.Conn, error) { return d.Dial(u.config.Network, u.config.Address) }
	}
	nc, err := dial()
	if err != nil {
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return nil, fmt.Errorf("%w: %v", ErrTimeout, err)
		}
		return nil, fmt.Errorf("%w: %v", ErrUnreachable, err)
	}
	c := &conn{socket: newSocket(nc, 0), began: time.Now(), probe: newProbe(nc)}
	c.br = bufio.NewReaderSize(c, maxHeader)
	c.resp.StreamBody = true
	c.resp.Header.DisableNormalizing()
	c.resp.Header.SetNoDefaultContentType(true)
	return c, nil
}

// put keeps a connection whose call is over for the next one. The longest
// idle ones, at the front, leave when they are too old or too many: no
// goroutine is needed for that, and an upstream that sees no calls at all may
// hold its last connections until it closes them itself.
func (u *Upstream) put(c *conn) {
	if c.quietMax > 0 {
		c.quietMax = 0
		c.SetReadDeadline(time.Time{})
	}
	c.idleSince = c.began.Add(time.Since(c.began)) // half of what time.Now takes
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.retired {
		c.Close()
		return
	}
	old := 0
	for old < len(u.idle) && (len(u.idle)-old >= u.config.MaxIdle || c.idleSince.Sub(u.idle[old].idleSince) >= u.config.IdleTimeout) {
		old++
	}
	u.drop(old)
	if !u.config.Idle.take() {
		c.Close()
		return
	}
	u.idle = append(u.idle, c)
}

// drop closes the n connections that have been idle for longest. u.mu is held.
func (u *Upstream) drop(n int) {
	if n == 0 {
		return
	}
	for _, c := range u.idle[:n] {
		c.Close()
	}
	u.config.Idle.give(n)
	left := copy(u.idle, u.idle[n:])
	clear(u.idle[left:])
	u.idle = u.idle[:left]
}

// IdleLimit bounds the idle connections of several upstreams together.
type IdleLimit struct{ left atomic.Int64 }

// NewIdleLimit returns a limit of n connections.
func NewIdleLimit(n int) *IdleLimit {
	l := &IdleLimit{}
	l.left.Store(int64(n))
	return l
}

// take reports whether there is room for one more, and takes it then.
func (l *IdleLimit) take() bool {
	if l == nil {
		return true
	}
	if l.left.Add(-1) >= 0 {
		return true
	}
	l.left.Add(1)
	return false
}

func (l *IdleLimit) give(n int) {
	if l != nil {
		l.left.Add(int64(n))
	}
}
