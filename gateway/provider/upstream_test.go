package provider_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/auth"
	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/gateway/provider/upstream"
)

// TestUpstream runs the suite against a provider made of faas-provider's own
// types, basic authentication and log handler.
func TestUpstream(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) provider.Provider {
		p, err := upstream.New(upstream.Config{URL: startFaas(t), User: "admin", Password: "pw"})
		require.NoError(t, err)
		t.Cleanup(p.Close)
		return p
	})
}

// faas is a faas-provider that keeps everything in memory and runs nothing. It
// reads namespaces as faas-netes and faasd do: of lists in the query, elsewhere
// in the body.
type faas struct {
	mu         sync.Mutex
	functions  map[provider.Function]types.FunctionStatus
	secrets    map[provider.Function]types.Secret
	namespaces map[string]types.FunctionNamespace
}

func startFaas(t *testing.T) *url.URL {
	t.Helper()
	f := &faas{
		functions:  map[provider.Function]types.FunctionStatus{},
		secrets:    map[provider.Function]types.Secret{},
		namespaces: map[string]types.FunctionNamespace{"openfaas-fn": {Name: "openfaas-fn"}},
	}
	server := httptest.NewServer(f.handler(t))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	return u
}

// handler has the routes of faas-provider's Serve, which itself needs a router
// that is no dependency of ours.
func (f *faas) handler(t *testing.T) http.Handler {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-user"), []byte("admin"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-password"), []byte("pw"), 0o600))
	credentials, err := (&auth.ReadBasicAuthFromDisk{SecretMountPath: dir}).Read()
	require.NoError(t, err)
	mux := http.NewServeMux()
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /system/functions":              f.list,
		"POST /system/functions":             f.deploy,
		"PUT /system/functions":              f.update,
		"DELETE /system/functions":           f.delete,
		"GET /system/function/{name}":        f.status,
		"POST /system/scale-function/{name}": f.scale,
		"GET /system/info":                   f.info,
		"/system/secrets":                    f.mutateSecrets,
		"GET /system/logs":                   f.logs,
		"GET /system/namespaces":             f.listNamespaces,
		"/system/namespace/":                 f.mutateNamespace,
	} {
		mux.HandleFunc(pattern, auth.DecorateWithBasicAuth(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			handle(w, r)
		}, credentials))
	}
	return mux
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
	s, ok := f.functions[asked(r, r.PathValue("name"))]
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
	name := provider.Function{Namespace: s.Namespace, Name: r.PathValue("name")}
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
	n := types.FunctionNamespace{Name: filepath.Base(r.URL.Path)}
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
	name := asked(r, r.URL.Query().Get("name"))
	if _, ok := f.functions[name]; !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	f.mu.Unlock() // a log is followed for long
	defer f.mu.Lock()
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
