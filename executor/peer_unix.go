//go:build unix

package executor

import (
	"net"
	"syscall"
)

// peerGone blocks until conn's peer has closed it (true), or until the peer
// sends something or a read deadline passes (false). It consumes no byte. A
// peer that closes its sending side only counts as gone, as in net/http.
func peerGone(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	var b [1]byte
	err = rc.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return false
		}
		gone = err != nil || n == 0
		return true
	})
	return err == nil && gone
}
