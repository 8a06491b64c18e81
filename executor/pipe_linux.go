package executor

import (
	"os"
	"syscall"
)

// maxInput is how much of a body may be written to a pipe that nobody reads yet:
// a pipe has a page at least, whatever else its user has open (pipe(7)).
const maxInput = 4096

// polled says at which end of a pipe goroutines are to wait.
type polled int

const (
	neither polled = iota
	readEnd
	writeEnd
)

// pipe is os.Pipe without what the ends cost that are not polled: a process'
// own, which have to block, and one that a known input is written to.
func pipe(ours polled) (r, w *os.File, err error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	switch ours {
	case readEnd:
		err = syscall.SetNonblock(fds[0], true)
	case writeEnd:
		err = syscall.SetNonblock(fds[1], true)
	}
	r, w = os.NewFile(uintptr(fds[0]), "|0"), os.NewFile(uintptr(fds[1]), "|1")
	if err != nil {
		r.Close()
		w.Close()
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return r, w, nil
}
