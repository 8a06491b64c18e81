package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

// target is one watchdog, with jwt_auth or without.
type target struct {
	cmd    *exec.Cmd
	socket string
	client *http.Client

	calls   float64
	started float64 // CPU seconds when calls was 0
}

// launch starts program as a watchdog and waits until it is ready. Its log
// goes nowhere, since writing it is no part of the question.
func launch(program, dir string, env []string) (*target, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	t := &target{socket: filepath.Join(dir, "s")}
	t.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", t.socket)
	}}}
	t.cmd = exec.Command(program)
	t.cmd.Dir = dir
	t.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "listen=unix://" + t.socket, "metrics_port=0",
		"healthcheck_interval=0", "OPENFAAS_NAME=auth", "OPENFAAS_NAMESPACE=auth",
	}, env...)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		// In http mode with jwt_auth off, readiness comes before the upstream's.
		if t.get("/_/ready") == 200 && (t.get("/") == 200 || t.get("/") == 401) {
			t.client.CloseIdleConnections()
			return t, nil
		}
	}
	t.stop()
	return nil, fmt.Errorf("%s is not ready after 30s", program)
}

func (t *target) stop() {
	t.cmd.Process.Signal(syscall.SIGTERM)
	t.cmd.Wait()
}

// get returns a call's status, 0 for none.
func (t *target) get(path string) int {
	res, err := t.client.Get("http://function" + path)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// mustRefuse: what checks nothing is fast.
func (t *target) mustRefuse() error {
	defer t.client.CloseIdleConnections()
	if status := t.get("/"); status != 401 {
		return fmt.Errorf("with jwt_auth a call without a token is answered with %d", status)
	}
	return nil
}

// load has a process of its own make calls, and returns how many a second.
func (t *target) load(self, token string, round time.Duration, connections int) (float64, error) {
	cmd := exec.Command(self)
	cmd.Env = []string{roleVariable + "=load", socketVariable + "=" + t.socket, tokenVariable + "=" + token,
		roundVariable + "=" + round.String(), countVariable + "=" + fmt.Sprint(connections),
		"GORACE=atexit_sleep_ms=0"} // under the race detector each round would end in a second's sleep
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("load: %w: %s", err, stderr.Bytes())
	}
	var calls, seconds float64
	if _, err := fmt.Sscan(string(out), &calls, &seconds); err != nil {
		return 0, fmt.Errorf("load printed %q: %w", out, err)
	}
	t.calls += calls
	return calls / seconds, nil
}

// forget leaves what was before out of cpuPerCall.
func (t *target) forget() { t.calls, t.started = 0, t.cpu() }

// cpuPerCall returns the watchdog's CPU time of a call, in µs; unlike the
// rate, it does not depend on what else the machine does.
func (t *target) cpuPerCall() float64 { return (t.cpu() - t.started) / t.calls * 1e6 }

// cpu returns the CPU time of the process so far, in seconds.
func (t *target) cpu() float64 {
	used, _ := measure.CPU(t.cmd.Process.Pid)
	return used.Seconds()
}
