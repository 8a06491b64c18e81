package reverseproxy

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

const (
	// quietAccept is how long no connection may have come before the listener
	// counts as emptied: handshakes that were under way are over by then.
	quietAccept = 50 * time.Millisecond
	// maxAccept bounds that where new connections cannot be refused.
	maxAccept = time.Second
	// firstRequest is how long a new connection may take for its first byte
	// before it counts as one that nobody uses.
	firstRequest = time.Second
	// lastLookTime is how long a kept connection may take for one more request
	// before it is closed: that of a client who has not heard of the end may be on
	// its way, across a network, or from a process that waits for its turn.
	lastLookTime = 100 * time.Millisecond
)

// Drain ends a server's work without losing a request, and returns when no
// connection is left, hijacked ones included, or with ctx's error. Connections
// whose handshake is over are accepted and served; those that come later are
// refused. Closing a listener at once would reset what waits in the kernel's
// queue, requests included.
//
// Idle connections are closed, unless a request comes within lastLookTime. One that
// takes longer is lost, as with every server that closes a kept connection
// (RFC 9112, section 9.5): so tell clients by "Connection: close" first.
//
// It may be called once, while a server accepts. fasthttp's own shutdown closes
// idle connections without a look, and the listener with all that waits there.
func (l *Listener) Drain(ctx context.Context) error {
	began := time.Now()
	refuseNew(l.Listener)
	l.mu.Lock()
	l.draining = began
	l.mu.Unlock()
	if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		d.SetDeadline(began.Add(quietAccept)) // wakes Accept
	}
	select {
	case <-l.emptied:
	case <-ctx.Done():
		return ctx.Err()
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for l.retireIdle(time.Since(began) > firstRequest) > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// acceptRest is Accept while the listener drains.
func (l *Listener) acceptRest(inner net.Conn, err error) (net.Conn, error) {
	l.mu.Lock()
	began := l.draining
	l.mu.Unlock()
	switch {
	case began.IsZero():
	case err == nil:
		if time.Since(began) < maxAccept {
			l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(quietAccept))
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		// On a busy machine the deadline can pass without a look at the queue.
		if inner := acceptNow(l.Listener); inner != nil {
			return inner, nil
		}
		l.Listener.Close()
		close(l.emptied)
		return nil, net.ErrClosed
	}
	return inner, err
}

// retireIdle closes the connections on which no request is under way, new ones
// only if asked, and returns how many are left.
func (l *Listener) retireIdle(newToo bool) int {
	l.mu.Lock()
	conns := make([]*Client, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		if c.waiting && !c.looking && (newToo || c.used) {
			c.retired = true
			c.socket.SetReadDeadline(longAgo) // wakes Read
		}
		c.mu.Unlock()
	}
	return len(conns)
}

// lastLook looks once more for a request on a connection that is being retired,
// before it reports the end.
func (c *Client) lastLook(p []byte) (int, error) {
	c.lookOnce()
	n, err := c.socket.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, net.ErrClosed
	}
	return n, err
}

// lookOnce has what reads next wait for lastLookTime and no longer.
func (c *Client) lookOnce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looking = true
	c.socket.SetReadDeadline(time.Now().Add(lastLookTime))
}

func (c *Client) isRetired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting && c.retired
}

// setWaiting notes whether the server waits for a request on c.
func (c *Client) setWaiting(waiting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.looking = waiting, false
	c.used = true
	if c.retired && !waiting { // a request came after all
		c.retired = false
		c.socket.SetReadDeadline(time.Time{})
	}
}
