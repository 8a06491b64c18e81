package executor

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// maxInput is how much of a body may be written to a pipe that nobody reads yet:
// a pipe has a page at least, whatever else its user has open (pipe(7)).
const maxInput = 4096

// child is a started process and our ends of its pipes. It is made of system
// calls and not of os/exec and os.Pipe, which for a call of some 100 µs are much:
// they make files of the process' ends, too, and wait on a thread of its own for
// each process.
type child struct {
	pid int

	stdin    *os.File // closing it is the end of input; nil = the input was given
	stdout   *os.File
	stderrFD int // -1 = it joins stdout, or somebody has taken it
}

// spawn starts a process that leads its own group. An input that is not nil is
// all of it, at most maxInput bytes.
func spawn(program string, argv, env []string, input []byte, combine bool) (c *child, err error) {
	const in, out, log = 0, 1, 2
	none := [2]int{-1, -1}
	pipes := [3][2]int{none, none, none}
	defer func() {
		for _, p := range pipes { // what c has not got
			for _, fd := range p {
				if fd >= 0 {
					syscall.Close(fd)
				}
			}
		}
	}()
	for i := range pipes {
		if i == log && combine {
			break
		}
		if err := syscall.Pipe2(pipes[i][:], syscall.O_CLOEXEC); err != nil {
			return nil, os.NewSyscallError("pipe2", err)
		}
	}
	if input != nil {
		if len(input) > 0 {
			if _, err := syscall.Write(pipes[in][1], input); err != nil {
				return nil, os.NewSyscallError("write", err)
			}
		}
		syscall.Close(pipes[in][1])
		pipes[in][1] = -1
	}
	c = &child{}
	files := [3]uintptr{uintptr(pipes[in][0]), uintptr(pipes[out][1]), uintptr(pipes[log][1])}
	if combine {
		files[log] = files[out]
	}
	c.pid, err = syscall.ForkExec(program, argv, &syscall.ProcAttr{Env: env, Files: files[:], Sys: groupAttr()})
	if err != nil {
		return nil, &os.PathError{Op: "fork/exec", Path: program, Err: err}
	}
	c.stdin, c.stdout, c.stderrFD = polled(pipes[in][1]), polled(pipes[out][0]), pipes[log][0]
	pipes[in][1], pipes[out][0], pipes[log][0] = -1, -1, -1
	return c, nil
}

// polled returns a file that goroutines wait for, not threads; nil for -1.
func polled(fd int) *os.File {
	if fd < 0 {
		return nil
	}
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "|")
}

// takeStderr returns the file, or nil when there is none or it has been taken.
func (c *child) takeStderr() *os.File {
	f := polled(c.stderrFD)
	c.stderrFD = -1
	return f
}

// closeStderr closes stderr if all of it has been read and no process has the
// other end any more, and reports whether it did. Else nothing has happened.
func (c *child) closeStderr() bool {
	const hangup = 0x10
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: int32(c.stderrFD), events: 1}
	var now syscall.Timespec
	n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if n != 1 || poll.revents != hangup {
		return false
	}
	syscall.Close(c.stderrFD)
	c.stderrFD = -1
	return true
}

// wait waits for the process' end, and returns an error unless its status is 0.
// It must be called once.
func (c *child) wait() error {
	var status syscall.WaitStatus
	var err error
	ended := func(options int) bool {
		var pid int
		for {
			if pid, err = syscall.Wait4(c.pid, &status, options, nil); err != syscall.EINTR {
				return pid != 0
			}
		}
	}
	if !ended(syscall.WNOHANG) && !c.poll(func() bool { return ended(syscall.WNOHANG) }) {
		ended(0)
	}
	switch {
	case err != nil:
		return os.NewSyscallError("wait4", err)
	case status.Signaled():
		return fmt.Errorf("signal: %s", status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	}
	return nil
}

// poll waits until ended says that the process has ended, and asks only when it
// may have. No thread waits meanwhile. It reports false where that does not work:
// Linux has it since 5.10, and sandboxes may not.
func (c *child) poll(ended func() bool) bool {
	const pidfdOpen, nonblock = 434, syscall.O_NONBLOCK
	fd, _, errno := syscall.Syscall(pidfdOpen, uintptr(c.pid), nonblock, 0)
	if errno != 0 {
		return false
	}
	f := os.NewFile(fd, "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	return err == nil && raw.Read(func(uintptr) bool { return ended() }) == nil
}
