//go:build !linux

package reverseproxy

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// socket is a connection with a time limit on each Write. On Linux it is more.
type socket struct {
	net.Conn
	writeLimit time.Duration // 0 = none
}

func newSocket(c net.Conn, writeLimit time.Duration) *socket { return &socket{c, writeLimit} }

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	if s.writeLimit > 0 {
		if err := s.Conn.SetWriteDeadline(time.Now().Add(s.writeLimit)); err != nil {
			return 0, err
		}
	}
	return s.Conn.Write(p)
}

// SyscallConn implements syscall.Conn.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	sc, ok := s.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}
