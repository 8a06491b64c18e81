package provider_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrap "github.com/openfaas/faas-provider"
	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/proxy"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/gateway/provider/upstream"
	"github.com/gatehound/gatehound/test/freeport"
)

// TestUpstream runs the suite against a provider process: faas-provider's own
// server, routes, basic authentication, log handler and function proxy.
func TestUpstream(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) provider.Provider {
		p, err := upstream.New(upstream.Config{URL: startFaas(t), User: "admin", Password: "pw"})
		require.NoError(t, err)
		t.Cleanup(p.Close)
		return p
	})
}

// startFaas starts the provider: this program under another name, since
// faas-provider has one router a process.
func startFaas(t *testing.T) *url.URL {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-user"), []byte("admin"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-password"), []byte("pw"), 0o600))
	port := freeport.Take()
	executable, err := os.Executable()
	require.NoError(t, err)
	cmd := &exec.Cmd{Path: executable, Args: []string{faasName, dir, port}, Env: append(os.Environ(), "GORACE=atexit_sleep_ms=0")}
	stdin, err := cmd.StdinPipe() // it ends with us, however that is
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
	})
	u := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if res, err := http.Get(u.String() + "/healthz"); err == nil {
			res.Body.Close()
			return u
		}
		select {
		case <-ended:
			require.Fail(t, "the provider ended")
		case <-time.After(5 * time.Millisecond):
		}
	}
	require.Fail(t, "the provider never listened")
	return nil
}

// faasName is what this program is called as the provider.
const faasName = "faas-provider"

// faas is a faas-provider that keeps everything in memory; its functions are
// this process, which answers with what it was sent. It reads namespaces as
// faas-netes and faasd do: of lists in the query, elsewhere in the body.
type faas struct {
	functionServer *url.URL

	mu         sync.Mutex
	functions  map[provider.Function]types.FunctionStatus
	secrets    map[provider.Function]types.Secret
	namespaces map[string]types.FunctionNamespace
}

// serveFaas serves until stdin ends. dir has the credentials.
func serveFaas(dir, port string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	at, _ := url.Parse(echo.URL)
	f := &faas{
		functionServer: at,
		functions:      map[provider.Function]types.FunctionStatus{},
		secrets:        map[provider.Function]types.Secret{},
		namespaces:     map[string]types.FunctionNamespace{"openfaas-fn": {Name: "openfaas-fn"}},
	}
	tcpPort, _ := strconv.Atoi(port)
	config := types.FaaSConfig{TCPPort: &tcpPort, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		EnableBasicAuth: true, SecretMountPath: dir}
	bootstrap.Serve(context.Background(), &types.FaaSHandlers{
		FunctionLister:  f.locked(f.list),
		DeployFunction:  f.locked(f.deploy),
		UpdateFunction:  f.locked(f.update),
		DeleteFunction:  f.locked(f.delete),
		FunctionStatus:  f.locked(f.status),
		ScaleFunction:   f.locked(f.scale),
		Info:            f.info,
		Secrets:         f.locked(f.mutateSecrets),
		Logs:            f.logs,
		ListNamespaces:  f.locked(f.listNamespaces),
		MutateNamespace: f.locked(f.mutateNamespace),
		FunctionProxy:   proxy.NewHandlerFunc(config, f, false),
		Health:          func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, dir) },
	}, &config)
}

func (f *faas) locked(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		handle(w, r)
	}
}

// Resolve implements proxy.BaseURLResolver.
func (f *faas) Resolve(function string) (url.URL, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name, namespace, _ := strings.Cut(function, ".")
	if f.functions[provider.Function{Namespace: namespace, Name: name}].AvailableReplicas == 0 {
		return url.URL{}, fmt.Errorf("no replica of %s", function)
	}
	return *f.functionServer, nil
}

func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func decode(r *http.Request, v any) { _ = json.NewDecoder(r.Body).Decode(v) }

func asked(r *http.Request, name string) provider.Function {
	return provider.Function{Namespace: r.URL.Query().Get("namespace"), Name: name}
}

func (f *faas) list(w http.ResponseWriter, r *http.Request) {
	all := []types.FunctionStatus{}
	for name, s := range f.functions {
		if name.Namespace == asked(r, "").Namespace {
			all = append(all, s)
		}
	}
	answer(w, all)
}

func (f *faas) status(w http.ResponseWriter, r *http.Request) {
	s, ok := f.functions[asked(r, path.Base(r.URL.Path))]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	answer(w, s)
}

func (f *faas) put(w http.ResponseWriter, d types.FunctionDeployment) {
	f.functions[provider.Function{Namespace: d.Namespace, Name: d.Service}] = types.FunctionStatus{
		Name: d.Service, Namespace: d.Namespace, Image: d.Image, EnvProcess: d.EnvProcess, EnvVars: d.EnvVars,
		Labels: d.Labels, Annotations: d.Annotations, Limits: d.Limits, Requests: d.Requests,
		Replicas: 1, AvailableReplicas: 1, CreatedAt: time.Now(),
	}
	w.WriteHeader(http.StatusAccepted)
}

func (f *faas) deploy(w http.ResponseWriter, r *http.Request) {
	var d types.FunctionDeployment
	decode(r, &d)
	f.put(w, d)
}

func (f *faas) update(w http.ResponseWriter, r *http.Request) {
	var d types.FunctionDeployment
	decode(r, &d)
	if _, ok := f.functions[provider.Function{Namespace: d.Namespace, Name: d.Service}]; !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	f.put(w, d)
}

func (f *faas) delete(w http.ResponseWriter, r *http.Request) {
	var d types.DeleteFunctionRequest
	decode(r, &d)
	name := provider.Function{Namespace: d.Namespace, Name: d.FunctionName}
	if _, ok := f.functions[name]; !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	delete(f.functions, name)
	w.WriteHeader(http.StatusAccepted)
}

func (f *faas) scale(w http.ResponseWriter, r *http.Request) {
	var s types.ScaleServiceRequest
	decode(r, &s)
	name := provider.Function{Namespace: s.Namespace, Name: path.Base(r.URL.Path)}
	function, ok := f.functions[name]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	function.Replicas, function.AvailableReplicas = s.Replicas, s.Replicas
	f.functions[name] = function
	w.WriteHeader(http.StatusAccepted)
}

func (f *faas) mutateSecrets(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		all := []types.Secret{}
		for name, s := range f.secrets {
			if name.Namespace == asked(r, "").Namespace {
				all = append(all, s) // with the value, which a provider should not tell
			}
		}
		answer(w, all)
		return
	}
	var s types.Secret
	decode(r, &s)
	name := provider.Function{Namespace: s.Namespace, Name: s.Name}
	_, exists := f.secrets[name]
	switch {
	case r.Method == http.MethodPost && exists:
		http.Error(w, "secret already exists", http.StatusConflict)
	case r.Method != http.MethodPost && !exists:
		http.Error(w, "not found", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		delete(f.secrets, name)
	default:
		f.secrets[name] = s
		w.WriteHeader(http.StatusCreated)
	}
}

func (f *faas) listNamespaces(w http.ResponseWriter, _ *http.Request) {
	all := []string{}
	for name := range f.namespaces {
		all = append(all, name)
	}
	answer(w, all)
}

func (f *faas) mutateNamespace(w http.ResponseWriter, r *http.Request) {
	n := types.FunctionNamespace{Name: path.Base(r.URL.Path)}
	if r.Method != http.MethodGet {
		n.Name = ""
		decode(r, &n)
	}
	old, exists := f.namespaces[n.Name]
	switch {
	case r.Method == http.MethodPost && exists:
		http.Error(w, "namespace already exists", http.StatusConflict)
	case r.Method != http.MethodPost && !exists:
		http.Error(w, "not found", http.StatusNotFound)
	case r.Method == http.MethodGet:
		answer(w, old)
	case r.Method == http.MethodDelete && n.Labels["openfaas"] != "1":
		http.Error(w, "not OpenFaaS' namespace", http.StatusBadRequest)
	case r.Method == http.MethodDelete:
		delete(f.namespaces, n.Name)
	default:
		f.namespaces[n.Name] = n
		w.WriteHeader(http.StatusAccepted)
	}
}

func (f *faas) info(w http.ResponseWriter, _ *http.Request) {
	answer(w, types.ProviderInfo{Name: "memory", Orchestration: "none", Version: &types.VersionInfo{Release: "1"}})
}

func (f *faas) logs(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	_, ok := f.functions[asked(r, r.URL.Query().Get("name"))]
	f.mu.Unlock() // a log is followed for long
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	logs.NewLogHandlerFunc(sayHello{}, time.Minute)(w, r)
}

// sayHello is a log of one line.
type sayHello struct{}

func (sayHello) Query(ctx context.Context, r logs.Request) (<-chan logs.Message, error) {
	lines := make(chan logs.Message, 1)
	lines <- logs.Message{Name: r.Name, Namespace: r.Namespace, Timestamp: time.Now(), Text: "hello"}
	if !r.Follow {
		close(lines)
		return lines, nil
	}
	context.AfterFunc(ctx, func() { close(lines) })
	return lines, nil
}
