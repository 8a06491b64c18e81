package executor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is a running command and the group it leads. It has no goroutine of its
// own unless somebody attends: most are gone within a few milliseconds.
type process struct {
	*child
	ctx    context.Context
	reap   sync.Once
	exited chan struct{} // closed when somebody has waited for it
	err    error         // what ended it, set before exited is closed

	logs      sync.WaitGroup
	keepAlive func() bool
	stopKill  func() bool
	killed    chan struct{}
}

// launch says how one process is to be run.
type launch struct {
	program   string        // the command's file
	env       []string      // each name once
	delay     time.Duration // between SIGTERM and SIGKILL
	input     []byte        // all of it, at most maxInput bytes; nil = it is written to stdin
	logStdout bool          // stdout goes to the log, and is not to be read
}

// start runs the command. When ctx ends, the process' group gets a SIGTERM, and
// what is left of it after l.delay, or when kill ends, a SIGKILL. The caller must
// read stdout, where Config.CombineOutput has stderr join it, attend, before the
// process has filled stderr's pipe, and release.
func (c Config) start(ctx, kill context.Context, l launch) (*process, error) {
	p := &process{ctx: ctx, exited: make(chan struct{}), killed: make(chan struct{})}
	var err error
	p.child, err = spawn(l.program, c.Command, l.env, l.input, c.CombineOutput && !l.logStdout)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause // it struck on the way
		}
		return nil, fmt.Errorf("cannot start %q: %w", c.Command[0], err)
	}
	if l.logStdout {
		stdout := p.stdout
		p.stdout = nil
		p.logs.Go(func() { c.copyLog(c.Stdout, "stdout", stdout) })
	}
	p.keepAlive = context.AfterFunc(kill, func() { killGroup(p.child) })
	p.stopKill = context.AfterFunc(ctx, func() { p.terminate(l.delay) })
	return p, nil
}

// terminate ends the whole group: children of the leader would outlive it, and
// hold the output open. The leader may have been waited for by the time of a
// signal, so in theory its number may belong to another group already; the
// kernel hands numbers out in turn, so that takes a whole round within
// microseconds.
func (p *process) terminate(delay time.Duration) {
	defer close(p.killed)
	select {
	case <-p.exited:
	default:
		terminateGroup(p.child)
		go p.wait()
		select {
		case <-p.exited:
		case <-time.After(delay):
			killGroup(p.child)
			<-p.exited
		}
	}
	killGroup(p.child)
	// A process that left the group may still hold the other end. Not at once:
	// what the function wrote is still to be read.
	if p.stdout != nil {
		p.stdout.SetReadDeadline(time.Now().Add(delay))
	}
}

// wait waits for the process' end and returns what ended it: nil for a clean
// exit, ErrFailed with the status, or the cause of ctx's end.
func (p *process) wait() error {
	p.reap.Do(func() {
		defer close(p.exited)
		if p.err = p.child.wait(); p.err != nil {
			p.err = fmt.Errorf("%w: %w", ErrFailed, p.err)
		}
		if cause := context.Cause(p.ctx); cause != nil {
			p.err = cause
		}
		p.keepAlive()
	})
	return p.err
}

// attend waits for the process and logs what it writes to stderr, in goroutines.
func (p *process) attend(c Config) {
	go p.wait()
	p.logStderr(c)
}

func (p *process) logStderr(c Config) {
	if stderr := p.takeStderr(); stderr != nil {
		p.logs.Go(func() { c.copyLog(c.Stderr, "stderr", stderr) })
	}
}

// release closes our ends of a process that has exited, and returns when
// nothing more happens to its group. left says that the process ended by itself
// and others of the group still run.
func (p *process) release() (left bool) {
	if p.stopKill() {
		left = groupExists(p.child)
	} else {
		<-p.killed
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	if p.stdout != nil {
		p.stdout.Close()
	}
	return left
}

// lookup returns the command's file, and says at the start what every request
// would say else: that there is no such program.
func (c Config) lookup() (program string, err error) {
	if len(c.Command) == 0 {
		return "", errors.New("there is no command to run")
	}
	if program, err = exec.LookPath(c.Command[0]); err != nil {
		return "", fmt.Errorf("cannot run the function %q: %w", strings.Join(c.Command, " "), err)
	}
	return program, nil
}

// environ returns Config.Env with each name once: of two, the last counts.
func (c Config) environ() []string {
	if len(c.Env) == 0 {
		return nil
	}
	return (&exec.Cmd{Env: c.Env}).Environ()
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
