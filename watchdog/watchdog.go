// Package watchdog is the function runtime: a server that stands before one
// function, answers health checks, lets in who may call it, and hands requests
// to one of package executor's modes. It owns the server, its life from start to
// drained, and what is told about requests: headers, metrics, access log. How
// tokens are verified is package auth's business, how a function runs executor's.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Config is what a watchdog needs.
type Config struct {
	// Settings are the environment's, see [config.ParseWatchdog].
	Settings config.Watchdog
	// Environ is the environment of the function's processes, "name=value".
	Environ []string
	// Handler or FastHandler is the function in mode inproc: exactly one.
	Handler     http.Handler
	FastHandler fasthttp.RequestHandler
	// Stdout and Stderr take the function's log lines, Stderr the watchdog's
	// own too; nil = the process' own.
	Stdout, Stderr io.Writer
	// TempDir is where the lock file is; "" = os.TempDir().
	TempDir string
	// NamespaceFile is read when Settings name no namespace;
	// "" = that of the mounted Kubernetes service account.
	NamespaceFile string
}

const serviceAccountNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// function is one mode of package executor.
type function interface {
	// Run keeps the function running until ctx ends, then ends it and returns
	// nil. When it returns earlier, the error says why.
	Run(ctx context.Context) error
	// Ready reports whether the function can answer by now.
	Ready() bool
	// Invoke answers ctx, or leaves it untouched and returns an error.
	Invoke(ctx *fasthttp.RequestCtx, call executor.Call) error
	// Kill ends every process at once.
	Kill()
}

// Watchdog serves one function. New makes it, Run runs it once.
type Watchdog struct {
	settings config.Watchdog
	logs     *logBuffer
	log      *log.Logger
	access   *zerolog.Logger // nil = access lines are text, see lines
	lines    accessLines
	lockPath string
	function function
	keys     *jwks.Remote   // nil without jwt_auth
	verifier *auth.Verifier // nil without jwt_auth
	identity identity
	webhooks *webhooks // nil without hmac_auth
	limit    *limit    // nil without max_inflight
	tracer   *tracer   // nil without an OTLP endpoint
	metrics  *metrics
	activity activity

	heard     <-chan struct{} // closed when signals are heard; nil = they are somebody else's
	accepting atomic.Bool
	life      context.Context // ends when nothing is to be served any more
	closed    chan struct{}   // closed by Close
	closeOnce sync.Once
}

// New returns a watchdog, or an error that names what c lacks.
func New(c Config) (*Watchdog, error) {
	s := c.Settings
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	logs := &logBuffer{}
	stdout, stderr := logs.stream(c.Stdout), logs.stream(c.Stderr)
	w := &Watchdog{
		settings: s,
		logs:     logs,
		lockPath: lockPath(c.TempDir),
		metrics:  newMetrics(),
		life:     context.Background(),
		closed:   make(chan struct{}),
	}
	w.log, w.access = newLoggers(stderr, s.LogJSON)
	w.lines.out = stderr
	w.limit = newLimit(s.MaxInflight, s.MaxInflightQueue, s.MaxInflightWait)
	w.tracer = newTracer(s, w.log.Printf)
	x := executor.Config{
		Command:     s.Process,
		Env:         c.Environ,
		Upstream:    s.Upstream,
		BufferBody:  s.BufferBody,
		StreamIdle:  s.StreamIdleTimeout,
		ContentType: s.ContentType,

		CGIHeaders:    s.CGIHeaders,
		CombineOutput: s.CombineOutput,
		ReadDebug:     s.ReadDebug,
		WriteDebug:    s.WriteDebug,

		Stdout:     stdout,
		Stderr:     stderr,
		PrefixLogs: s.PrefixLogs,
		MaxLine:    s.LogBufferSize,
		Logf:       w.log.Printf,
	}
	var err error
	switch {
	case s.Mode != config.InProc && (c.Handler != nil || c.FastHandler != nil):
		err = fmt.Errorf("mode %q: want inproc, since this program is the function", s.Mode)
	case s.Mode == config.HTTP:
		w.function, err = executor.NewHTTP(x)
	case s.Mode == config.Streaming:
		w.function = executor.NewStreaming(x)
	case s.Mode == config.Serializing:
		w.function = executor.NewSerializing(x)
	case s.Mode == config.Static:
		w.function, err = executor.NewStatic(x, s.StaticPath)
	case s.Mode != config.InProc:
		err = fmt.Errorf("mode %q: want http, streaming, serializing, static or inproc", s.Mode)
	case (c.Handler == nil) == (c.FastHandler == nil):
		err = errors.New(`mode "inproc" is for Go programs that import package watchdog, and needs one Handler or FastHandler`)
	case c.Handler != nil:
		w.function = executor.NewHandler(x, c.Handler)
	default:
		w.function = executor.NewFastHandler(x, c.FastHandler)
	}
	if err != nil {
		return nil, err
	}
	w.identity = identity{headers: s.JWTHeaders, hideToken: s.JWTHideToken}
	if s.JWTAuth {
		if err = w.protect(c); err != nil {
			return nil, err
		}
	}
	if s.HMACAuth != "" {
		if w.webhooks, err = newWebhooks(s, w.log.Printf); err != nil {
			return nil, err
		}
	}
	w.metrics.watch(w)
	return w, nil
}

// protect sets up the verification of function tokens.
func (w *Watchdog) protect(c Config) (err error) {
	namespace := w.settings.FunctionNamespace
	if namespace == "" {
		file := c.NamespaceFile
		if file == "" {
			file = serviceAccountNamespace
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("jwt_auth needs the function's namespace: OPENFAAS_NAMESPACE is not set, and %w", err)
		}
		if namespace = strings.TrimSpace(string(b)); namespace == "" {
			return fmt.Errorf("jwt_auth needs the function's namespace: OPENFAAS_NAMESPACE is not set, and %s is empty", file)
		}
	}
	if w.settings.FunctionName == "" {
		return errors.New("jwt_auth needs the function's name: OPENFAAS_NAME is not set")
	}
	s := w.settings
	w.keys, err = jwks.NewRemote(jwks.Config{
		Authority: s.JWTAuthority,
		File:      s.JWTKeysFile,
		Issuer:    s.JWTIssuer,
		Refresh:   s.JWTRefresh,
		Keep:      s.JWTKeepKeys,
		Logf:      w.log.Printf,
	})
	if err != nil {
		return fmt.Errorf("jwt_auth: %w", err)
	}
	claims := make([]string, len(s.JWTHeaders))
	for i, h := range s.JWTHeaders {
		claims[i] = h.Claim
	}
	w.verifier, err = auth.NewVerifier(auth.Config{
		Keys:      w.keys,
		Namespace: namespace,
		Name:      s.FunctionName,
		Claims:    claims,
		Leeway:    max(s.JWTLeeway, 1), // 0 would be the default
	})
	if err != nil {
		return fmt.Errorf("jwt_auth: %w", err)
	}
	return nil
}

// errClosed: Close was called before everything had come to its end.
var errClosed = errors.New("ended at once, without waiting for requests")

// Run serves until ctx ends and then shuts down: unready, up until the balancers
// have noticed (ShutdownMin without a request, HealthcheckInterval at most),
// listener closed, requests drained for at most WriteTimeout, function ended. It
// returns nil after such an end. An error is one of the start, or says why the
// function or the server ended by itself.
func (w *Watchdog) Run(ctx context.Context) error {
	s := w.settings
	defer w.logs.Flush()
	listener, err := reverseproxy.Listen(s.Network, s.Address, s.WriteTimeout)
	if err != nil {
		return err
	}
	defer listener.Close()
	listener.Logf = w.log.Printf
	stopMetrics, err := w.metrics.serve(s)
	if err != nil {
		return err
	}
	defer stopMetrics()

	if w.heard != nil {
		<-w.heard // who is told that this is ready may send them
	}
	if err := w.becomeReady(); err != nil {
		return err
	}
	defer w.becomeUnready()

	life, endLife := context.WithCancel(context.WithoutCancel(ctx))
	defer endLife()
	w.life = life
	if w.keys != nil {
		go w.keys.Run(life)
	}
	if w.webhooks != nil {
		go w.webhooks.run(life)
	}
	var functionErr error
	functionEnded := make(chan struct{})
	go func() {
		functionErr = w.function.Run(life)
		close(functionEnded)
	}()
	w.tracer.begin()
	server := reverseproxy.NewServer(w.serve, serverLog{w.log})
	server.ReadTimeout = s.ReadTimeout
	server.IdleTimeout = max(s.ReadTimeout, time.Minute)
	reverseproxy.OnExpect(server, w.expect)
	serverEnded := make(chan error, 1)
	go func() { serverEnded <- server.Serve(listener) }()
	runtime.Gosched() // to it: the log line can wait
	w.log.Printf("Serving mode %s on %s, function: %q, timeouts: read %s, write %s, exec %s, health %s",
		s.Mode, listener.Addr(), s.Process, s.ReadTimeout, s.WriteTimeout, s.ExecTimeout, s.HealthcheckInterval)

	select {
	case <-functionEnded:
		w.becomeUnready()
		w.drain(listener, time.Second) // callers are told
	case err = <-serverEnded:
		err = fmt.Errorf("cannot serve any longer: %w", err)
	case <-ctx.Done():
		w.becomeUnready()
		w.log.Printf("Shutting down: no new connections after %s without a request, or in %s", s.ShutdownMin, s.HealthcheckInterval)
		w.awaitQuiet(functionEnded)
		select {
		case <-functionEnded:
			w.drain(listener, time.Second)
		case <-w.closed:
		default:
			w.drain(listener, s.WriteTimeout)
		}
	case <-w.closed:
	}
	listener.Close()
	listener.Abort() // what did not drain in time
	endLife()
	select {
	case <-functionEnded:
	case <-w.closed:
		w.function.Kill()
		<-functionEnded
		err = errClosed
	}
	cutOff, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	listener.Wait(cutOff) // until those requests are logged
	w.tracer.stop(w.closed)
	return errors.Join(err, functionErr)
}

// Reload fetches the issuer's keys and reads the secrets of webhooks now: what
// has been withdrawn is refused from then on. It waits for the outcome, which it
// logs.
func (w *Watchdog) Reload() {
	if w.webhooks != nil {
		if err := w.webhooks.reload(); err != nil {
			w.log.Printf("Reload failed, the secrets of hmac_auth stay as they were: %s", err)
		} else {
			w.log.Print("Reloaded the secrets of hmac_auth")
		}
	}
	if w.keys != nil {
		err := w.keys.Refetch(context.Background())
		switch {
		case err == nil:
			w.log.Printf("Reloaded the keys of issuer %s", w.keys.Issuer())
		case w.keys.Ready():
			w.log.Printf("Reload failed, the keys stay as they were: %s", err)
		default: // also when the issuer has just withdrawn them all
			w.log.Printf("Reload brought no keys, and none are left: %s", err)
		}
	}
}

// Close ends Run at once: requests are cut off and the function is killed. It
// may be called again.
func (w *Watchdog) Close() { w.closeOnce.Do(func() { close(w.closed) }) }

// awaitQuiet waits until the balancers can have noticed that this watchdog is
// unready: until for ShutdownMin none of them has sent a request, at most for
// HealthcheckInterval. It ends early when the function does.
func (w *Watchdog) awaitQuiet(functionEnded <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-functionEnded:
		case <-w.closed:
		case <-ctx.Done():
		}
		cancel()
	}()
	w.activity.wait(ctx, w.settings.ShutdownMin, w.settings.HealthcheckInterval)
}

// drain closes the listener and waits for the requests that are under way, for
// at most limit.
func (w *Watchdog) drain(listener *reverseproxy.Listener, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	go func() {
		select {
		case <-w.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	if listener.Drain(ctx) != nil {
		w.log.Printf("Requests that still run are cut off after %s", limit)
	}
}

// lockPath returns the lock file's path; dir "" = os.TempDir().
func lockPath(dir string) string {
	if dir == "" {
		dir = os.TempDir()
	}
	return filepath.Join(dir, ".lock")
}

func (w *Watchdog) lockPresent() bool {
	_, err := os.Stat(w.lockPath)
	return err == nil
}

func (w *Watchdog) becomeReady() error {
	if !w.settings.SuppressLock {
		err := os.MkdirAll(filepath.Dir(w.lockPath), 0o777)
		if err == nil {
			err = writeLock(w.lockPath)
		}
		if err != nil {
			return fmt.Errorf("cannot write the lock file (suppress_lock=true does without): %w", err)
		}
	}
	w.accepting.Store(true)
	return nil
}

// writeLock makes an empty file at path. It replaces what is there and does not
// write through it: in a shared temporary folder that may be another user's
// link to some file of ours.
func writeLock(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".lock-")
	if err != nil {
		return err
	}
	if err = errors.Join(f.Chmod(0o660), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func (w *Watchdog) becomeUnready() {
	if w.accepting.Swap(false) && !w.settings.SuppressLock {
		if err := os.Remove(w.lockPath); err != nil {
			w.log.Printf("Cannot remove the lock file: %s", err)
		}
	}
}

// healthy is /_/health's answer, and the first condition of /_/ready's.
func (w *Watchdog) healthy() bool {
	return w.accepting.Load() && (w.settings.SuppressLock || w.lockPresent())
}

// metricsHost returns where to serve metrics: on the function's own host.
func metricsHost(s config.Watchdog) string {
	if s.Network != "tcp" {
		return "127.0.0.1"
	}
	host, _, _ := net.SplitHostPort(s.Address)
	return host
}
