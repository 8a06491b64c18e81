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

func signalGroup(p *os.Process, s syscall.Signal) error {
	if err := syscall.Kill(-p.Pid, s); err == syscall.ESRCH {
		return os.ErrProcessDone
	} else {
		return err
	}
}
