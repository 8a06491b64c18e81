//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"unsafe"
)

// binariesVariable is the folder with the built programs; it is set within the
// namespace.
const binariesVariable = "BENCHMARKS_BINARIES"

// inNamespace starts this program again, with the same arguments, in a network
// namespace of its own.
func inNamespace(binaries string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), binariesVariable+"="+binaries)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A process group of its own: a Ctrl-C comes to it from us, and once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	return cmd, cmd.Start()
}

// enterNamespace switches the only interface of a new namespace on, if this is one.
func enterNamespace() {
	if os.Getenv(binariesVariable) == "" {
		return
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks: cannot bring up lo:", err)
		os.Exit(1)
	}
}

func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct { // struct ifreq
		name  [16]byte
		flags uint16
		_     [22]byte
	}{name: [16]byte{'l', 'o'}, flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// dieWithParent ends this process when the one that started it has ended,
// however that came.
func dieWithParent() {
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
}

// rawNanosleep sleeps without the scheduler's knowledge: it does not take the
// processor away from this thread, and need not give it back.
func rawNanosleep(ts *syscall.Timespec) {
	syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(ts)), 0, 0)
}
