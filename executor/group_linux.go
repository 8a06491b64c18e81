package executor

import "syscall"

// groupAttr makes the process lead a group of its own, and has the kernel kill
// it when the watchdog is killed. That happens when the parent's thread ends,
// not only its process (golang/go#27505): no goroutine of ours may end while it
// is locked to its thread.
func groupAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
