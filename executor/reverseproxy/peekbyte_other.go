//go:build (linux && (race || 386 || s390x)) || darwin || freebsd

package reverseproxy

import "syscall"

// peekByte looks at the next byte without taking it.
func peekByte(fd uintptr) (int, error) {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return n, err
}
