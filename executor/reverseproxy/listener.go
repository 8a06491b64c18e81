package reverseproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// Listener makes connections that know when a response is done, bound each
// write, let an early answer reach its client, and do not escape the shutdown.
type Listener struct {
	net.Listener
	// Logf reports that no connection can be accepted for the moment; nil =
	// silence. It is set before the first Accept.
	Logf func(format string, args ...any)

	writeTimeout time.Duration
	mu           sync.Mutex
	conns        map[*Client]struct{}
	idle         chan struct{} // closed when no connection is left; nil = nobody waits
	draining     time.Time     // since when; zero = not
	emptied      chan struct{} // closed when nothing is left to accept
	parked       int           // connections since memory was given back
	released     time.Time     // when that was
}

// Listen listens on a TCP address or a Unix socket. A socket file that nobody
// answers on is left over and replaced, any other file is an error. A write to
// a client may take writeTimeout; one deadline over a whole response, which is
// fasthttp's way, would cut streams.
func Listen(network, address string, writeTimeout time.Duration) (*Listener, error) {
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	// Linux refuses socket filters, which Drain needs, on Multipath TCP.
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o600); err != nil {
			ln.Close()
			return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
		}
	}
	return &Listener{Listener: ln, writeTimeout: writeTimeout, conns: map[*Client]struct{}{}, emptied: make(chan struct{})}, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: the file exists and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("cannot listen on %s: another server answers there", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return nil
}

// Accept implements net.Listener. It waits a shortage out: to fasthttp every
// error of Accept is the end, so whoever opens connections until the
// descriptors run out would end the server, and every call with it.
func (l *Listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	for pause := 5 * time.Millisecond; isShortage(err); pause = min(2*pause, time.Second) {
		if l.Logf != nil {
			l.Logf("cannot accept a connection, trying again in %s: %v", pause, err)
		}
		time.Sleep(pause)
		inner, err = l.Listener.Accept()
	}
	if inner, err = l.acceptRest(inner, err); err != nil {
		return nil, err
	}
	return l.adopt(newSocket(inner, l.writeTimeout)), nil
}

func (l *Listener) adopt(inner *socket) *Client {
	c := &Client{socket: inner, listener: l, peer: tcpPeer(inner.RemoteAddr()), waiting: true}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c
}

// isShortage reports whether err is over once others give something back.
func isShortage(err error) bool {
	for _, shortage := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}

func (l *Listener) forget(c *Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if len(l.conns) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// Wait waits until no connection is open, hijacked ones included, which a
// server's own shutdown leaves out.
func (l *Listener) Wait(ctx context.Context) error {
	idle := make(chan struct{})
	l.mu.Lock()
	if len(l.conns) == 0 {
		close(idle)
	} else {
		l.idle = idle
	}
	l.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Abort closes every connection.
func (l *Listener) Abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.mu.Lock()
		if c.err == nil {
			c.err = ErrAborted
		}
		c.mu.Unlock()
		c.Conn.Close()
	}
}

// Client is a connection that a Listener has made.
type Client struct {
	*socket
	listener *Listener
	peer     string           // its address, if it is TCP's
	server   *fasthttp.Server // that may park it; nil = none

	// Bytes came since the last response: the server had read all it held, and
	// so has sent every response before.
	fresh     atomic.Bool
	pipelined atomic.Bool // responses before the current one may be unsent

	mu     sync.Mutex
	linger bool   // the client may still be sending when we close
	done   func() // of the request whose response is under way
	closed bool
	err    error // see Err

	waiting bool // for a request: none is under way
	used    bool // has had a request
	retired bool // to be closed unless a request comes
	looking bool // for that request, for the last time

	idleUntil time.Time // when the server closes it; of the last wait for a request
	parked    bool      // Close leaves it open, see SetReadDeadline
}

// Err says why the client did not get all of its response: ErrClientGone,
// ErrClientStalled or ErrAborted. nil = nothing is known to have failed.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Pipelined reports whether responses before the current one may be unsent: what
// is written to the connection itself would overtake them.
func (c *Client) Pipelined() bool { return c.pipelined.Load() }

// OnDone has f called when the response under way is out, or the connection
// closed.
func (c *Client) OnDone(f func()) {
	c.mu.Lock()
	c.done = f
	c.mu.Unlock()
}

// lingerFor notes whether the client may still be sending when the response is
// out: more of a body than fasthttp reads before it closes the connection.
func (c *Client) lingerFor(contentLength int) {
	c.mu.Lock()
	c.linger = contentLength == -1 || contentLength > 256<<10
	c.mu.Unlock()
}

// Linger notes that the client may still be sending when the response is out.
func (c *Client) Linger() { c.lingerFor(-1) }

func (c *Client) responseDone() {
	c.mu.Lock()
	f := c.done
	c.done = nil
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// connState is told by the server what becomes of its connections.
func connState(nc net.Conn, state fasthttp.ConnState) {
	c := nc.(*Client)
	switch state {
	case fasthttp.StateActive:
		c.pipelined.Store(!c.fresh.Load())
		c.setWaiting(false)
	case fasthttp.StateIdle:
		c.fresh.Store(false)
		c.lingerFor(0)
		c.responseDone()
		c.setWaiting(true)
	}
}

// Read implements net.Conn.
func (c *Client) Read(p []byte) (int, error) {
	n, err := c.socket.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		switch {
		case c.isRetired():
			n, err = c.lastLook(p)
		case c.park():
			err = errParked
		}
	}
	if n > 0 {
		c.fresh.Store(true)
	}
	return n, err
}

// Write implements net.Conn. The time limit is one write's, not a response's.
func (c *Client) Write(p []byte) (int, error) {
	n, err := c.socket.Write(p)
	if err != nil {
		c.mu.Lock()
		switch {
		case c.err != nil, errors.Is(err, net.ErrClosed): // our side's doing
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.err = fmt.Errorf("%w for %s", ErrClientStalled, c.listener.writeTimeout)
		default:
			c.err = ErrClientGone
		}
		c.mu.Unlock()
	}
	return n, err
}

// Close implements net.Conn. Closing while the client still sends makes the
// kernel answer with a reset, which can destroy the response on its way: a 401
// to a large upload. So the rest is read for a moment first.
func (c *Client) Close() error {
	c.mu.Lock()
	again, linger, parked := c.closed, c.linger, c.parked
	c.closed = true
	c.mu.Unlock()
	if again {
		return net.ErrClosed
	}
	c.responseDone()
	if parked {
		c.listener.countParked()
		go c.stayParked()
		return nil
	}
	if !linger {
		c.listener.forget(c)
		return c.Conn.Close()
	}
	go func() {
		if c.CloseWrite() == nil {
			c.socket.SetReadDeadline(time.Now().Add(lingerTime))
			io.Copy(io.Discard, c.socket)
		}
		c.listener.forget(c)
		c.Conn.Close()
	}()
	return nil
}

// CloseWrite tells the client that nothing more comes.
func (c *Client) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is [net.TCPConn.SetLinger]: with 0, Close resets the connection.
func (c *Client) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}
