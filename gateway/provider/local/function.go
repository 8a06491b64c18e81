package local

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// function is one function's watchdog process, started again when it dies.
type function struct {
	name       provider.Function
	deployment types.FunctionDeployment
	created    time.Time
	config     Config
	dir        string // its own folder
	socket     string // where its watchdog listens
	upstream   *reverseproxy.Upstream
	ready      atomic.Bool
	log        zerolog.Logger
}

func newFunction(c Config, d types.FunctionDeployment, dir string) *function {
	socket := filepath.Join(dir, "watchdog.sock")
	name := provider.Function{Namespace: d.Namespace, Name: d.Service}
	return &function{
		name:       name,
		deployment: d,
		created:    time.Now(),
		config:     c,
		dir:        dir,
		socket:     socket,
		upstream:   reverseproxy.New(reverseproxy.Config{Network: "unix", Address: socket}),
		log:        c.Log.With().Str("function", name.String()).Logger(),
	}
}

// stopGrace is how long a watchdog may take to stop its function after
// SIGTERM. The gateway has drained the calls by then.
const stopGrace = 10 * time.Second

// run keeps the watchdog running until ctx ends, with a growing pause between
// starts that fail.
func (f *function) run(ctx context.Context) {
	defer f.upstream.Close()
	pause := time.Second
	for {
		started := time.Now()
		err := f.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > time.Minute {
			pause = time.Second
		}
		f.log.Error().Msgf("watchdog ended (%v), starting it again in %s", err, pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Minute)
	}
}

// runOnce starts the watchdog and waits for its end.
func (f *function) runOnce(ctx context.Context) error {
	// The kernel sends the parent-death signal when the starting thread ends,
	// so that thread has to live as long as the child: golang/go#27505.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, f.config.Executable)
	cmd.Args = []string{"fwatchdog"}
	cmd.Dir = cmp.Or(f.config.WorkDir, f.dir)
	cmd.Env = f.environment()
	cmd.SysProcAttr = detached()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	output := &lineWriter{emit: func(line string) { f.config.Output(f.name, line) }}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	go f.watchReadiness(watching)
	err := cmd.Wait()
	stop()
	f.ready.Store(false)
	output.flush()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// environment is what the function and its watchdog see. It is built from
// nothing: the gateway's own settings and secrets are not the functions'.
func (f *function) environment() []string {
	values := make(map[string]string)
	for _, name := range []string{"HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			values[name] = v
		}
	}
	values["PATH"] = f.config.Path
	if f.deployment.EnvVars["jwt_auth_jwks_file"] == "" {
		values["jwt_auth_authority"] = f.config.Authority
	}
	if f.deployment.EnvVars["mode"] == "http" {
		values["upstream_url"] = "unix://" + filepath.Join(f.dir, "function.sock")
	}
	maps.Copy(values, f.deployment.EnvVars)
	if f.deployment.EnvProcess != "" {
		values["fprocess"] = f.deployment.EnvProcess
	}

	// What the stack file cannot change: who the function is, where it is
	// reached, and that no load balancer has to notice its end.
	values["OPENFAAS_NAME"] = f.name.Name
	values["OPENFAAS_NAMESPACE"] = f.name.Namespace
	values["TMPDIR"] = filepath.Join(f.dir, "tmp")
	values["listen"] = "unix://" + f.socket
	values["metrics_port"] = "0"
	values["healthcheck_interval"] = "0s"

	environ := make([]string, 0, len(values))
	for name, value := range values {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// watchReadiness asks the watchdog until it is ready once.
func (f *function) watchReadiness(ctx context.Context) {
	client := http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", f.socket)
			},
		},
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://watchdog/_/ready", nil)
		if err != nil {
			return
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				f.ready.Store(true)
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

func (f *function) status() types.FunctionStatus {
	status := types.FunctionStatus{
		Name:        f.name.Name,
		Namespace:   f.name.Namespace,
		Image:       f.deployment.Image,
		EnvProcess:  f.deployment.EnvProcess,
		EnvVars:     f.deployment.EnvVars,
		Labels:      f.deployment.Labels,
		Annotations: f.deployment.Annotations,
		Limits:      f.deployment.Limits,
		Requests:    f.deployment.Requests,
		Replicas:    1,
		CreatedAt:   f.created,
	}
	if f.ready.Load() {
		status.AvailableReplicas = 1
	}
	return status
}

// lineWriter passes on what a watchdog prints, line by line.
type lineWriter struct {
	emit func(line string)
	line []byte
}

// maxLine splits lines that never end; the watchdog's own limit is the same.
const maxLine = 64 << 10

// Write implements io.Writer. os/exec calls it from one goroutine, since
// stdout and stderr are the same writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		w.line = append(w.line, line...)
		if found || len(w.line) >= maxLine {
			w.flush()
		}
		p = rest
	}
	return n, nil
}

func (w *lineWriter) flush() {
	if line := strings.TrimRight(string(w.line), "\r"); line != "" {
		w.emit(line)
	}
	w.line = w.line[:0]
}
