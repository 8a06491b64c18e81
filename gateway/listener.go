package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// listener keeps the server alive through a shortage. To fasthttp every error
// of Accept is the end, so whoever opens connections until the descriptors run
// out would end the gateway, and every call and function with it.
type listener struct {
	net.Listener
	writeTimeout time.Duration // of its connections; 0 = none
	log          zerolog.Logger
}

// Accept implements net.Listener. It waits until the system can accept again.
func (l *listener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Listener.Accept()
		if err == nil {
			return &conn{Conn: c, writeTimeout: l.writeTimeout}, nil
		}
		if !isShortage(err) {
			return nil, err
		}
		l.log.Error().Msgf("cannot accept a connection, trying again in %s: %v", pause, err)
		time.Sleep(pause)
	}
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

// conn is a client's connection. Each write has a time limit: a client that
// asks and never reads would hold its connection, and the function's, for ever.
// fasthttp's own WriteTimeout would be one deadline over a whole stream.
type conn struct {
	net.Conn
	writeTimeout time.Duration
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.writeTimeout > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// CloseWrite lets a client read its answer before the connection closes.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger makes Close a reset, with 0: a truncated answer must look so.
func (c *conn) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return tcp.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// SyscallConn implements syscall.Conn, for who watches whether the client is
// still there.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
