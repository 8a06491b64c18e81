package executor

import (
	"os"
	"syscall"
)

// groupAttr keeps a Ctrl-C on the watchdog's console from the function.
func groupAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminateGroup kills the process: Windows has no SIGTERM.
func terminateGroup(p *os.Process) error { return p.Kill() }

// killGroup kills the process; its own children are out of reach.
func killGroup(p *os.Process) error { return p.Kill() }

// groupExists reports false: children are out of reach.
func groupExists(*os.Process) bool { return false }
