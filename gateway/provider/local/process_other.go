//go:build unix && !linux

package local

import "syscall"

// detached puts a watchdog into a process group of its own, so that a Ctrl-C
// in the terminal reaches the gateway alone and the stop stays orderly.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
