package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// replica is one watchdog process, started again when it dies.
type replica struct {
	function *function
	name     string // the instance in logs
	dir      string // its own folder
	upstream *reverseproxy.Upstream
	retired  chan struct{} // closed when it should end
	pid      atomic.Int64  // of the watchdog; 0 = none runs

	ready  bool  // of function.mu
	failed error // of function.mu: how it ended, while it waits to be started again
}

func newReplica(f *function, number string) *replica {
	return &replica{
		function: f,
		name:     f.name.Name + "-" + filepath.Base(f.dir) + "-" + number,
		dir:      filepath.Join(f.dir, number),
		upstream: reverseproxy.New(reverseproxy.Config{Network: "unix", Address: f.socket(number)}),
		retired:  make(chan struct{}),
	}
}

const (
	// stopGrace is how long a watchdog may take to stop its function after
	// SIGTERM when the gateway ends, which has drained the calls by then.
	stopGrace = 10 * time.Second
	// linger is how long a retired replica serves on: a call that has been given
	// its endpoint just before is still to connect.
	linger = 100 * time.Millisecond
	// firstPause is between a replica's end and its next start; it doubles up to
	// lastPause. After healthyAfter without an end it begins anew.
	firstPause, lastPause, healthyAfter = time.Second, time.Minute, time.Minute
	// outputGrace is how long a process that outlives its watchdog is listened to.
	outputGrace = time.Second
)

// retire has the replica end when its calls are done.
func (r *replica) retire() { time.AfterFunc(linger, func() { close(r.retired) }) }

// run keeps the watchdog running until ctx ends or the replica is retired, with
// a growing pause between starts that fail.
func (r *replica) run(ctx context.Context) {
	defer os.RemoveAll(r.dir)
	defer r.upstream.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gatewayEnds := ctx.Done()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		select {
		case <-r.retired:
		case <-gatewayEnds:
		}
	}()

	pause := firstPause
	for {
		started := time.Now()
		err := r.runOnce(ctx, stop)
		select {
		case <-stop:
			return
		default:
		}
		if time.Since(started) > healthyAfter {
			pause = firstPause
		}
		ended := fmt.Sprintf("watchdog ended (%v), starting it again in %s", err, pause)
		r.function.log.Error().Str("instance", r.name).Msg(ended)
		r.function.output.add(r.name, ended)
		r.set(false, err)
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
		r.set(false, nil)
	}
}

// set notes what callers may expect of the replica, and tells who waits.
func (r *replica) set(ready bool, failed error) {
	f := r.function
	f.mu.Lock()
	defer f.mu.Unlock()
	r.ready, r.failed = ready, failed
	f.notify()
}

// runOnce starts the watchdog and waits for its end, for which stop asks.
func (r *replica) runOnce(ctx context.Context, stop <-chan struct{}) error {
	f := r.function
	if err := f.writeSecrets(f.deployment.Secrets...); err != nil {
		return err
	}
	// As new: a socket that a killed function has left would be in the way.
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "tmp"), 0o700); err != nil {
		return err
	}
	group, err := f.provider.limiter.group(r.name, f.memory, f.log, f.name.String())
	if err != nil {
		return err
	}
	defer group.remove()

	// The kernel sends the parent-death signal when the starting thread ends,
	// so that thread has to live as long as the child: golang/go#27505.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(f.provider.config.Executable)
	cmd.Args = []string{"fwatchdog"}
	cmd.Dir = cmp.Or(f.workDir, r.dir)
	cmd.Env = f.environment(r.dir, f.secretsDir())
	cmd.SysProcAttr = detached()
	group.join(cmd)
	cmd.WaitDelay = outputGrace
	output := &lineWriter{emit: func(lines []string) {
		f.output.add(r.name, lines...)
		f.provider.config.Output(f.name, lines)
	}}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	r.pid.Store(int64(cmd.Process.Pid))
	exited := make(chan struct{})
	go r.end(ctx, cmd.Process, stop, exited)
	watching, stopWatching := context.WithCancel(ctx)
	go r.watchReadiness(watching)

	err = cmd.Wait()
	r.pid.Store(0)
	close(exited)
	stopWatching()
	output.Close()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return errors.New("exit status 0")
	}
	return err
}

// end asks a watchdog to end when it should, and kills it when it does not.
func (r *replica) end(ctx context.Context, watchdog *os.Process, stop, exited <-chan struct{}) {
	select {
	case <-exited:
		return
	case <-stop:
	}
	_ = watchdog.Signal(syscall.SIGTERM)
	select {
	case <-exited:
		return
	case <-time.After(r.function.drain):
	case <-ctx.Done():
		select {
		case <-exited:
			return
		case <-time.After(stopGrace):
		}
	}
	r.function.log.Warn().Str("instance", r.name).Msg("does not end, and is killed")
	_ = watchdog.Kill()
}

// watchReadiness asks the watchdog until it is ready once.
func (r *replica) watchReadiness(ctx context.Context) {
	client := http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, socketName))
			},
		},
	}
	// A quarter of the time so far: a cold start is not to wait much longer than
	// it takes.
	for pause := 2 * time.Millisecond; ; pause = min(pause+pause/4, time.Second) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://watchdog/_/ready", nil)
		if err != nil {
			return
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				r.becomeReady(ctx)
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// becomeReady lets calls in, unless ctx says that the process has ended.
func (r *replica) becomeReady(ctx context.Context) {
	f := r.function
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() == nil {
		r.ready = true
		f.notify()
	}
}
