//go:build unix

package watchdog

import (
	"os"
	"os/signal"
	"syscall"
)

// Init does what is process 1's duty, and reports false when this process is
// not that: it runs the program again as a child, passes signals on to it, and
// waits for whatever ends, since a function's orphans are process 1's to wait
// for. It returns the child's exit status, 128 and the signal's number for one
// that was killed; what else runs then, the kernel ends with process 1.
//
// The duty has a process of its own because waiting for any child would take
// os/exec's from it. It costs 2 MB. Init must be called first in main, and the
// program must not start other processes before.
func Init(args, environ []string) (status int, ok bool) {
	if os.Getpid() != 1 {
		return 0, false
	}
	program, err := os.Executable()
	if err != nil {
		return 0, false // no /proc: works, but for the orphans
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	child, err := syscall.ForkExec(program, args, &syscall.ProcAttr{
		Env:   environ,
		Files: []uintptr{0, 1, 2},
		// A terminal signals the whole group in front of it. In a group of its
		// own the child hears a Ctrl-C once, from us: the second ends it at once.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		signal.Reset()
		return 0, false
	}
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGURG, syscall.SIGCHLD, syscall.SIGPIPE: // about this process
			case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU: // would stop it, and nobody continues it
			default:
				syscall.Kill(child, s.(syscall.Signal))
			}
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR || err == nil && pid != child:
		case err != nil:
			return 1, true // cannot be while there is a child
		case ws.Signaled():
			return 128 + int(ws.Signal()), true
		default:
			return ws.ExitStatus(), true
		}
	}
}
