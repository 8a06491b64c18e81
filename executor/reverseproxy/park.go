package reverseproxy

import (
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// parkAfter is how long a connection is quiet before it is parked. Shorter, and
// clients that call a few times a second pay for a revival each time; longer, and
// more of many connections that come at once are unparked together.
const parkAfter = 250 * time.Millisecond

// After manyParked connections, what they held is given back to the system. Go
// would keep it: a quiet process collects garbage every two minutes, twice until
// pools let go, and even then keeps part of it. releaseDelay is when fasthttp's
// goroutines have ended too, and releasePause bounds what that costs where
// connections are parked all the time.
const (
	manyParked   = 256
	releaseDelay = 5 * time.Second
	releasePause = 30 * time.Second
)

// errParked ends the server's work on a connection that is being parked.
var errParked = errors.New("the connection is parked")

// SetReadDeadline implements net.Conn. What the server sets while it waits for
// the next request is the end of the idle time.
//
// A connection that waits in fasthttp holds a reader, a writer, a request's
// context and a large stack, 23 KiB together. So Read fails once the connection
// has been quiet for parkAfter: fasthttp then gives all that back and closes the
// connection, which goes on in a small goroutine until a request comes.
func (c *Client) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && c.used && c.server != nil {
		c.idleUntil = t
		if idle := cmp.Or(c.server.IdleTimeout, c.server.ReadTimeout); idle > parkAfter {
			t = t.Add(parkAfter - idle) // without another look at the clock
		}
	}
	return c.socket.SetReadDeadline(t)
}

// park reports whether c, which has met its read deadline, is parked from now
// on. Nothing is lost: fasthttp waits for a request only when its reader is empty
// and its writer flushed.
func (c *Client) park() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = c.waiting && c.used && !c.retired && time.Now().Before(c.idleUntil)
	return c.parked
}

// stayParked waits for a request and has it served, as that of a new Client:
// whoever still holds this one cannot reach the connection any more. The server
// does it here, not by Accept, which ends before the last request of a drain.
func (c *Client) stayParked() {
	if !c.awaitRequest() {
		c.listener.forget(c)
		c.Conn.Close()
		return
	}
	next := c.listener.adopt(c.socket)
	next.server = c.server
	c.listener.forget(c)
	if err := c.server.ServeConn(next); err != nil && !isHangUp(err) {
		// As fasthttp says it of accepted connections.
		c.server.Logger.Printf("error when serving connection %q<->%q: %v", next.LocalAddr(), next.RemoteAddr(), err)
	}
}

func (l *Listener) countParked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked++; l.parked == manyParked {
		time.AfterFunc(max(releaseDelay, releasePause-time.Since(l.released)), l.release)
	}
}

func (l *Listener) release() {
	runtime.GC()
	debug.FreeOSMemory() // collects again: pools forget in two steps
	l.mu.Lock()
	l.parked, l.released = 0, time.Now()
	l.mu.Unlock()
}

// awaitRequest waits until a request comes (true), or until the idle time, the
// drain or the client ends the connection.
func (c *Client) awaitRequest() bool {
	c.mu.Lock()
	if !c.retired {
		c.socket.SetReadDeadline(c.idleUntil)
	}
	c.mu.Unlock()
	data := awaitData(c.socket)
	if !data && c.isRetired() { // one more look, as lastLook's
		c.lookOnce()
		data = awaitData(c.socket)
	}
	c.setWaiting(false) // no drain sets a deadline any more
	c.socket.SetReadDeadline(time.Time{})
	return data
}

// isHangUp reports whether err is one of those that fasthttp does not log, or
// comes from our own Close.
func isHangUp(err error) bool {
	var small *fasthttp.ErrSmallBuffer
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, fasthttp.ErrBadTrailer) || errors.As(err, &small)
}
