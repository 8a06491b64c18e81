//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/benchmarks/measure"
	"github.com/gatehound/gatehound/test/freeport"
)

// subject is a program that is measured. It is started for each measurement
// anew, alone but for the function, with its log in a file, as people run it.
type subject struct {
	cmd              *exec.Cmd
	dir              string
	network, address string
	path             string   // of the function
	metrics          string   // address of its metrics; "" = they are not read
	token            string   // goes with every call, also where nobody checks it
	checks           bool     // calls without it are refused
	behind           *subject // what it is the proxy of, stopped with it; nil = nothing
	ended            chan struct{}
}

// patience is longer than any start or stop takes.
const patience = 20 * time.Second

// start starts program in the folder dir, which is made.
func start(dir, program string, args, env []string) (*subject, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &subject{cmd: exec.Command(program, args...), dir: dir, network: "tcp", path: "/", ended: make(chan struct{})}
	s.cmd.Dir = dir
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}, env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// stop ends the program and what it started, and removes its folder.
func (s *subject) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(5 * time.Second):
	}
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.ended
	os.RemoveAll(s.dir)
	if s.behind != nil {
		s.behind.stop()
	}
}

func (s *subject) client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, s.network, s.address)
		},
	}}
}

// call makes one call of the function and returns its status.
func (s *subject) call(ctx context.Context, c *http.Client, token string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://function"+s.path, nil)
	if err != nil {
		return 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// ready waits until the function answers, and makes sure that it does so with
// a token alone where it should: what checks nothing is fast.
func (s *subject) ready(ctx context.Context) error {
	c := s.client()
	defer c.CloseIdleConnections()
	err := until(ctx, func() error {
		status, err := s.call(ctx, c, s.token)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w; its log: %s", filepath.Base(s.cmd.Path), err, s.log())
	}
	if !s.checks {
		return nil
	}
	for _, token := range []string{"", s.token[:len(s.token)-8] + "AAAAAAAA"} {
		if status, err := s.call(ctx, c, token); err != nil || status != http.StatusUnauthorized {
			return fmt.Errorf("%s answers a call without a good token with %d, %w", filepath.Base(s.cmd.Path), status, err)
		}
	}
	return nil
}

// until tries f until it succeeds.
func until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// log returns the end of what the program has logged.
func (s *subject) log() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(b[max(0, len(b)-1000):])
}

// request is one request to the subject, as bytes.
func (s *subject) request(method, path, token, body string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: function\r\n", method, path)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	if method != "GET" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return append(b.Bytes(), "\r\n"+body...)
}

// load is one small call over and over.
func (s *subject) load(connections int, duration time.Duration) load {
	return load{
		network: s.network, address: s.address, connections: connections, duration: duration,
		requests: [][]byte{s.request("GET", s.path, s.token, "")}, want: "OK",
	}
}

// memory returns VmRSS or VmHWM, in bytes.
func (s *subject) memory(field string) (float64, error) {
	kib, err := measure.Status(s.cmd.Process.Pid, field)
	return float64(kib) * 1024, err
}

// cpu returns the CPU time that the program has used so far, in all its processes:
// those in its group that run the same file.
func (s *subject) cpu() (total time.Duration, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return 0, err
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		if target, _ := os.Readlink(file); target != program {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if group, _ := syscall.Getpgid(pid); group == s.cmd.Process.Pid {
			used, err := measure.CPU(pid)
			if err != nil {
				return 0, err
			}
			total += used
		}
	}
	return total, nil
}

// freeAddress returns an address of 127.0.0.1 that nobody listens on.
func freeAddress() string { return "127.0.0.1:" + freeport.Take() }
