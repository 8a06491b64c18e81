package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a running command and the group it leads. Its pipes are made by
// hand and not by os/exec, whose Wait closes them and so may lose the last
// bytes of the output.
type process struct {
	cmd    *exec.Cmd
	ctx    context.Context
	stdin  *os.File // our end: closing it is the function's end of input
	stdout *os.File // our end: nil when the output goes to the log
	exited chan struct{}
	err    error // what ended it, set before exited is closed

	logs     sync.WaitGroup
	stopKill func() bool
	killed   chan struct{}
}

// start runs the command. When ctx ends, the process' group gets a SIGTERM, and
// what is left of it after delay, or when kill ends, a SIGKILL. The output goes
// to the log when logStdout is set, and is to be read from stdout else, where
// Config.CombineOutput has stderr join it.
func (c Config) start(ctx, kill context.Context, env []string, delay time.Duration, logStdout bool) (*process, error) {
	p := &process{ctx: ctx, exited: make(chan struct{}), killed: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	p.cmd.Env = env
	p.cmd.SysProcAttr = groupAttr()
	p.cmd.Cancel = func() error { return terminateGroup(p.cmd.Process) }
	p.cmd.WaitDelay = delay

	var theirs, ours []*os.File
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err == nil {
			theirs, ours = append(theirs, w), append(ours, r)
		}
		return r, w, err
	}
	stdout, childStdout, err1 := pipe()
	var stderr *os.File
	childStderr, err2 := childStdout, error(nil)
	if logStdout || !c.CombineOutput {
		stderr, childStderr, err2 = pipe()
	}
	childStdin, stdin, err3 := os.Pipe()
	if err3 == nil {
		theirs, ours = append(theirs, childStdin), append(ours, stdin)
	}
	err := errors.Join(err1, err2, err3)
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childStdin, childStdout, childStderr
		err = p.cmd.Start()
	}
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		for _, f := range ours {
			f.Close()
		}
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause // it struck on the way
		}
		return nil, fmt.Errorf("cannot start %q: %w", c.Command[0], err)
	}

	p.stdin = stdin
	if stderr != nil {
		p.logs.Go(func() { c.copyLog(c.Stderr, "stderr", stderr) })
	}
	if logStdout {
		p.logs.Go(func() { c.copyLog(c.Stdout, "stdout", stdout) })
	} else {
		p.stdout = stdout
	}
	keepAlive := context.AfterFunc(kill, func() { killGroup(p.cmd.Process) })
	go func() {
		defer close(p.exited)
		defer keepAlive()
		if p.err = p.cmd.Wait(); p.err != nil {
			p.err = fmt.Errorf("%w: %w", ErrFailed, p.err)
		}
		if cause := context.Cause(ctx); cause != nil {
			p.err = cause
		}
	}()
	// os/exec kills the leader alone. Its children would outlive it, and hold
	// the output open. The leader has been waited for by then, so in theory its
	// number may belong to another group already; the kernel hands numbers out
	// in turn, so that takes a whole round within microseconds.
	p.stopKill = context.AfterFunc(ctx, func() {
		defer close(p.killed)
		<-p.exited
		killGroup(p.cmd.Process)
		if p.stdout != nil {
			// A process that left the group may still hold the other end. Not
			// at once: what the function wrote is still to be read.
			p.stdout.SetReadDeadline(time.Now().Add(delay))
		}
	})
	return p, nil
}

// wait waits for the process' end and returns what ended it: nil for a clean
// exit, ErrFailed with the status, or the cause of ctx's end.
func (p *process) wait() error {
	<-p.exited
	return p.err
}

// release closes our ends of a process that has exited, and returns when
// nothing more happens to its group. left says that the process ended by itself
// and others of the group still run.
func (p *process) release() (left bool) {
	if p.stopKill() {
		left = groupExists(p.cmd.Process)
	} else {
		<-p.killed
	}
	p.stdin.Close()
	if p.stdout != nil {
		p.stdout.Close()
	}
	return left
}

// lookup says at the start what every request would say else: that there is no
// such program.
func (c Config) lookup() error {
	if len(c.Command) == 0 {
		return errors.New("there is no command to run")
	}
	if _, err := exec.LookPath(c.Command[0]); err != nil && !errors.Is(err, exec.ErrDot) {
		return fmt.Errorf("cannot run the function %q: %w", strings.Join(c.Command, " "), err)
	}
	return nil
}

// flushLogs waits until the process' last lines are logged, but not for what
// holds its output open after its end.
func (p *process) flushLogs(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		p.logs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
