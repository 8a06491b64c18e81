//go:build unix

package executor

import (
	"os"
	"syscall"
)

// terminateGroup asks every process of the group that c leads to end.
func terminateGroup(c *child) error { return signalGroup(c, syscall.SIGTERM) }

// killGroup ends every process of the group that c leads.
func killGroup(c *child) error { return signalGroup(c, syscall.SIGKILL) }

// groupExists reports whether there is a process in the group that c led.
func groupExists(c *child) bool { return signalGroup(c, 0) == nil }

func signalGroup(c *child, s syscall.Signal) error {
	if err := syscall.Kill(-c.pid, s); err == syscall.ESRCH {
		return os.ErrProcessDone
	} else {
		return err
	}
}
