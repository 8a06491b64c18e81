package local

import "syscall"

// detached puts a watchdog into a process group of its own, so that a Ctrl-C
// in the terminal reaches the gateway alone and the stop stays orderly, and
// has the kernel end it when the gateway is killed outright.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
