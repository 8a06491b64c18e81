//go:build unix && !linux

package executor

import "syscall"

// groupAttr makes the process lead a group of its own.
func groupAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
