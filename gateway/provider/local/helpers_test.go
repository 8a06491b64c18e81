package local

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/watchdog"
)

// TestMain lets the test binary stand in for the gateway's, which is fwatchdog
// under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fwatchdog" {
		os.Exit(watchdog.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const patience = 30 * time.Second

// machine is a provider that runs, and can be started again on its state.
type machine struct {
	*Provider
	t     *testing.T
	state string
	dir   string // RunDir
	log   *lockedBuffer
	stop  func()
	url   string // forwards /<name>.<namespace>/… as the gateway does
}

// newMachine starts a provider on a state folder; "" = an empty one.
func newMachine(t *testing.T, state string, change ...func(*Config)) *machine {
	t.Helper()
	if state == "" {
		state = t.TempDir()
	}
	dir, err := os.MkdirTemp("", "local-") // short, for the sockets
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	executable, err := os.Executable()
	require.NoError(t, err)
	m := &machine{t: t, state: state, dir: dir, log: &lockedBuffer{}}
	c := Config{
		Executable: executable, StateDir: state, RunDir: dir, Path: os.Getenv("PATH"),
		Authority: "http://127.0.0.1:1", DefaultNamespace: "openfaas-fn",
		Log: zerolog.New(m.log), Output: func(provider.Function, []string) {},
	}
	for _, f := range change {
		f(&c)
	}
	m.Provider, err = Open(c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); m.Run(ctx) }()
	m.stop = func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(m.stop)
	require.Eventually(t, func() bool { return m.launch(func(context.Context) {}) }, patience, time.Millisecond)

	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	server := reverseproxy.NewServer(m.serve, silent{})
	go server.Serve(l)
	t.Cleanup(func() { l.Close() })
	m.url = "http://" + l.Addr().String()
	return m
}

func (m *machine) serve(ctx *fasthttp.RequestCtx) {
	name, namespace, _ := strings.Cut(strings.Split(string(ctx.Path()), "/")[1], ".")
	endpoint, err := m.Endpoint(context.Background(), provider.Function{Namespace: namespace, Name: name})
	var refusal *provider.Error
	switch {
	case errors.Is(err, provider.ErrNotFound):
		ctx.Error(err.Error(), http.StatusNotFound)
	case errors.As(err, &refusal):
		ctx.Error(refusal.Message, refusal.Status)
	case err != nil:
		ctx.Error(err.Error(), http.StatusInternalServerError)
	default:
		if err := endpoint.Upstream.Forward(ctx, reverseproxy.Options{}); err != nil {
			ctx.Error(err.Error(), http.StatusBadGateway)
		}
	}
}

// call returns what function name in the default namespace answers.
func (m *machine) call(name string) (status int, body string) {
	m.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Post(m.url+"/"+name+".openfaas-fn/", "text/plain", nil)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(res.Body)
	return res.StatusCode, b.String()
}

func (m *machine) status(name string) types.FunctionStatus {
	m.t.Helper()
	s, err := m.Status(m.t.Context(), fn(name), false)
	require.NoError(m.t, err)
	return s
}

func (m *machine) waitReplicas(name string, n uint64) {
	m.t.Helper()
	eventually(m.t, func() bool {
		s := m.status(name)
		return s.Replicas == n && s.AvailableReplicas == n
	}, name)
}

// empty waits until nothing is left in the run folder.
func (m *machine) empty() {
	m.t.Helper()
	eventually(m.t, func() bool {
		entries, err := os.ReadDir(m.dir)
		return err == nil && len(entries) == 0
	}, "folders are left in "+m.dir)
}

// processes returns the command lines of those that mention the run folder.
func (m *machine) processes() (all []string) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		if environ, _ := os.ReadFile(path); bytes.Contains(environ, []byte(m.dir+"/")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			all = append(all, string(cmdline))
		}
	}
	return all
}

func fn(name string) provider.Function {
	return provider.Function{Namespace: "openfaas-fn", Name: name}
}

// shell is a function that answers with what a shell command prints.
func shell(name, command string) types.FunctionDeployment {
	return types.FunctionDeployment{
		Service: name, Namespace: "openfaas-fn", Image: "x/" + name,
		EnvProcess: "sh -c '" + command + "'", EnvVars: map[string]string{"mode": "serializing", "GORACE": fastExit["GORACE"]},
	}
}

// fastExit keeps a watchdog that is tested for races from waiting at its end.
var fastExit = map[string]string{"GORACE": "halt_on_error=1 atexit_sleep_ms=0"}

func eventually(t *testing.T, ok func() bool, message string) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, message)
}

// refusal returns the status and message of a provider's own refusal.
func refusal(t *testing.T, err error) (int, string) {
	t.Helper()
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	return e.Status, e.Message
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type silent struct{}

func (silent) Printf(string, ...any) {}
