package executor

import (
	"cmp"
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
// bytes of the output. It has no goroutine of its own: most are gone within a
// few milliseconds.
type process struct {
	cmd    *exec.Cmd
	ctx    context.Context
	stdin  *os.File // our end: closing it is the function's end of input; nil = it had its input at the start
	stdout *os.File // our end; nil = it goes to the log
	stderr *os.File // our end; nil = with stdout
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
	program   string // the command's file
	env       []string
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
	p.cmd = exec.Command(l.program, c.Command[1:]...)
	p.cmd.Args[0] = c.Command[0]
	p.cmd.Env = l.env
	p.cmd.SysProcAttr = groupAttr()

	var all [6]*os.File // the process' ends first
	var err1, err2, err3 error
	if l.input != nil {
		all[0], all[3], err1 = pipe(neither)
	} else {
		all[0], all[3], err1 = pipe(writeEnd)
	}
	all[4], all[1], err2 = pipe(readEnd)
	if l.logStdout || !c.CombineOutput {
		all[5], all[2], err3 = pipe(readEnd)
	}
	err := errors.Join(err1, err2, err3)
	if err == nil && l.input != nil {
		if len(l.input) > 0 {
			_, err = all[3].Write(l.input)
		}
		all[3].Close()
		all[3] = nil
	}
	if err == nil {
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = all[0], all[1], cmp.Or(all[2], all[1])
		err = p.cmd.Start()
	}
	p.stdin, p.stdout, p.stderr = all[3], all[4], all[5]
	closeFiles(all[:3])
	if err != nil {
		closeFiles(all[3:])
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
	p.keepAlive = context.AfterFunc(kill, func() { killGroup(p.cmd.Process) })
	p.stopKill = context.AfterFunc(ctx, func() { p.terminate(l.delay) })
	return p, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
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
		terminateGroup(p.cmd.Process)
		go p.wait()
		select {
		case <-p.exited:
		case <-time.After(delay):
			killGroup(p.cmd.Process)
			<-p.exited
		}
	}
	killGroup(p.cmd.Process)
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
		if p.err = p.cmd.Wait(); p.err != nil {
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
	if p.stderr != nil {
		p.logs.Go(func() { c.copyLog(c.Stderr, "stderr", p.stderr) })
	}
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
	program, err = exec.LookPath(c.Command[0])
	if errors.Is(err, exec.ErrDot) {
		return c.Command[0], nil // os/exec will say so
	}
	if err != nil {
		return "", fmt.Errorf("cannot run the function %q: %w", strings.Join(c.Command, " "), err)
	}
	return program, nil
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
