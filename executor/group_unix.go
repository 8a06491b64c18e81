//go:build unix

package executor

import (
	"os"
	"syscall"
)

// terminateGroup asks every process of the group that p leads to end.
func terminateGroup(p *os.Process) error { return signalGroup(p, syscall.SIGTERM) }

// killGroup ends every process of the group that p leads.
func killGroup(p *os.Process) error { return signalGroup(p, syscall.SIGKILL) }

// groupExists reports whether there is a process in the group that p led.
func groupExists(p *os.Process) bool { return signalGroup(p, 0) == nil }

func signalGroup(p *os.Process, s syscall.Signal) error {
	if err := syscall.Kill(-p.Pid, s); err == syscall.ESRCH {
		return os.ErrProcessDone
	} else {
		return err
	}
}
