//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach has Ctrl-C end us, and not the browser, which may be the first to run and
// have all of the person's pages.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
