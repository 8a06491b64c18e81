package executor

import "syscall"

// groupAttr keeps a Ctrl-C on the watchdog's console from the function.
func groupAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// terminateGroup kills the process: Windows has no SIGTERM.
func terminateGroup(c *child) error { return c.cmd.Process.Kill() }

// killGroup kills the process; its own children are out of reach.
func killGroup(c *child) error { return c.cmd.Process.Kill() }

// groupExists reports false: children are out of reach.
func groupExists(*child) bool { return false }
