//go:build linux && (race || 386 || s390x)

package reverseproxy

import "syscall"

// The race detector has to see them: what happened before a write, happened
// before the other side's read. The other systems have no such calls.

func receive(fd uintptr, p []byte) (int, syscall.Errno) { return split(syscall.Read(int(fd), p)) }

func send(fd uintptr, p []byte) (int, syscall.Errno) { return split(syscall.Write(int(fd), p)) }

func split(n int, err error) (int, syscall.Errno) {
	errno, _ := err.(syscall.Errno)
	return n, errno
}
