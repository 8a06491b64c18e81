package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// listener makes the connections that the server needs: they know when a
// response is done, bound each write, and none escapes the shutdown.
type listener struct {
	net.Listener
	writeTimeout time.Duration
	mu           sync.Mutex
	conns        map[*conn]struct{}
	idle         chan struct{} // closed when no connection is left; nil = nobody waits
}

// listen listens on a TCP address or a Unix socket. A socket file that nobody
// answers on is left over and replaced, any other file is an error.
func listen(network, address string, writeTimeout time.Duration) (*listener, error) {
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o600); err != nil {
			ln.Close()
			return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
		}
	}
	return &listener{Listener: ln, writeTimeout: writeTimeout, conns: map[*conn]struct{}{}}, nil
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

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, listener: l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if len(l.conns) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// wait waits until no connection is open, hijacked ones included.
func (l *listener) wait(ctx context.Context) error {
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

// abort closes every connection.
func (l *listener) abort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Conn.Close()
	}
}

// conn is a client's connection.
type conn struct {
	net.Conn
	listener *listener

	mu     sync.Mutex
	linger bool   // the client may still be sending when we close
	done   func() // of the request whose response is under way
	closed bool
}

// onDone has f called when the response under way is out, or the connection
// closed.
func (c *conn) onDone(f func()) {
	c.mu.Lock()
	c.done = f
	c.mu.Unlock()
}

func (c *conn) mayLinger(yes bool) {
	c.mu.Lock()
	c.linger = yes
	c.mu.Unlock()
}

func (c *conn) responseDone() {
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
	if state == fasthttp.StateIdle {
		c := nc.(*conn)
		c.mayLinger(false)
		c.responseDone()
	}
}

// Write implements net.Conn. The time limit is one write's, not a response's.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.listener.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn. Closing while the client still sends makes the
// kernel answer with a reset, which can destroy the response on its way: a 401
// to a large upload. So the rest is read for a moment first.
func (c *conn) Close() error {
	c.mu.Lock()
	again, linger := c.closed, c.linger
	c.closed = true
	c.mu.Unlock()
	if again {
		return net.ErrClosed
	}
	c.responseDone()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !linger || !ok {
		c.listener.forget(c)
		return c.Conn.Close()
	}
	go func() {
		if half.CloseWrite() == nil {
			c.Conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			io.Copy(io.Discard, c.Conn)
		}
		c.listener.forget(c)
		c.Conn.Close()
	}()
	return nil
}

// SyscallConn implements syscall.Conn, for who watches whether the client is
// still there.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}
