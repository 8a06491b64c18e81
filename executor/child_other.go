//go:build !linux

package executor

import (
	"errors"
	"os"
	"os/exec"
)

// maxInput is how much of a body may be written to a pipe that nobody reads yet.
const maxInput = 0

// child is a started process and our ends of its pipes.
type child struct {
	pid int
	cmd *exec.Cmd

	stdin  *os.File // closing it is the end of input; nil = the input was given
	stdout *os.File
	stderr *os.File // nil = it joins stdout, or somebody has taken it
}

// spawn starts a process that leads its own group. An input that is not nil is
// all of it, at most maxInput bytes.
func spawn(program string, argv, env []string, input []byte, combine bool) (*child, error) {
	c := &child{cmd: &exec.Cmd{Path: program, Args: argv, Env: env, SysProcAttr: groupAttr()}}
	var err1, err2, err3 error
	var in, out, log *os.File
	in, c.stdin, err1 = os.Pipe()
	c.stdout, out, err2 = os.Pipe()
	if combine {
		log = out
	} else {
		c.stderr, log, err3 = os.Pipe()
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = in, out, log
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = c.cmd.Start()
	}
	for _, f := range []*os.File{in, out, log} {
		f.Close() // twice or nil is harmless
	}
	if err != nil {
		for _, f := range []*os.File{c.stdin, c.stdout, c.stderr} {
			f.Close()
		}
		return nil, err
	}
	if input != nil {
		c.stdin.Close()
		c.stdin = nil
	}
	c.pid = c.cmd.Process.Pid
	return c, nil
}

// takeStderr returns the file, or nil when there is none or it has been taken.
func (c *child) takeStderr() *os.File {
	f := c.stderr
	c.stderr = nil
	return f
}

// closeStderr leaves it to who takes it.
func (c *child) closeStderr() bool { return false }

// wait waits for the process' end, and returns an error unless its status is 0.
// It must be called once.
func (c *child) wait() error { return c.cmd.Wait() }
