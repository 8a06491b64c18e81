package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// startFront starts a gateway in front of g, which is a faas-provider to it.
func startFront(t *testing.T, g *gatewayUp, env ...string) *gatewayUp {
	t.Helper()
	return startInFront(t, g.url, append(env, "secret_mount_path="+filepath.Join(g.dir, ".gatehound", "secrets"))...)
}

// startInFront starts a gateway in front of the faas-provider at url.
func startInFront(t *testing.T, url string, env ...string) *gatewayUp {
	t.Helper()
	dir := t.TempDir()
	p := start(t, dir, append([]string{"listen=127.0.0.1:0", "metrics_port=0", "functions_provider_url=" + url}, env...), "gateway")
	return &gatewayUp{program: p, dir: dir, url: p.stderr.find(t, p, `listening on (http://\S+),`)[1]}
}

// startWithHop starts a gateway whose function "hop" is serveFunction, and one in
// front of it, and returns both by the names of their providers.
func startWithHop(t *testing.T, environment string, env ...string) map[string]*gatewayUp {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), fmt.Appendf(nil, `
functions:
  hop:
    fprocess: %q
    environment: {mode: http, %s: "1"%s}
`, os.Args[0], functionVariable, environment), 0o600))
	local := startUp(t, dir, env, "-f", "stack.yml")
	return map[string]*gatewayUp{"local": local, "upstream": startFront(t, local, env...)}
}

// TestClientGone: the function learns it when its caller goes away, before the
// answer has begun and after.
func TestClientGone(t *testing.T) {
	t.Parallel()
	for name, g := range startWithHop(t, "") {
		for _, header := range []string{"", "1"} {
			base := g.url + "/function/hop"
			id := "?id=" + name + header
			ctx, leave := context.WithCancel(t.Context())
			called := make(chan struct{})
			go func() {
				defer close(called)
				req, _ := http.NewRequestWithContext(ctx, "GET", base+"/linger"+id+"&header="+header, nil)
				if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
					<-ctx.Done()
					res.Body.Close()
				}
			}()
			require.Equal(t, 200, get(t, base+"/gone"+id).status, "it has begun")
			leave()
			require.Equal(t, 200, get(t, base+"/gone"+id).status, "it has noticed")
			<-called
		}
	}
}

// TestTimeoutsSayWhich: of the limits on the way, the answer names the one that
// struck.
func TestTimeoutsSayWhich(t *testing.T) {
	t.Parallel()
	for name, g := range startWithHop(t, ", exec_timeout: 200ms") {
		a := get(t, g.url+"/function/hop/gone?id="+name)
		require.Equal(t, 504, a.status, name)
		require.Equal(t, "of-watchdog", a.header.Get("X-OpenFaaS-Internal"), "queue workers try such again")
		require.Regexp(t, `^(0\.[2-9]|[1-9])`, a.header.Get("X-Duration-Seconds"))
	}
	for name, g := range startWithHop(t, "", "upstream_timeout=1s") {
		a := get(t, g.url+"/function/hop/gone?id="+name)
		require.Equal(t, 504, a.status, name)
		require.Contains(t, a.body, "within the upstream_timeout of 1s")
		require.Empty(t, a.header.Get("X-OpenFaaS-Internal"))
	}
}

// asleep is a faas-provider with functions that are at zero replicas until
// somebody scales them, and "never" for good.
type asleep struct {
	*httptest.Server

	mu     sync.Mutex
	scaled []string
	awake  bool
	calls  int
}

func newAsleep(t *testing.T) *asleep {
	a := &asleep{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		name := filepath.Base(r.URL.Path)
		switch {
		case strings.HasPrefix(r.URL.Path, "/system/function/") && name != "nope":
			s := types.FunctionStatus{Name: name, Labels: &map[string]string{"com.openfaas.scale.min": "2"}}
			if name != "never" && a.awake {
				s.Replicas, s.AvailableReplicas = 2, 2
			}
			_ = json.NewEncoder(w).Encode(s)
		case strings.HasPrefix(r.URL.Path, "/system/scale-function/"):
			var q types.ScaleServiceRequest
			_ = json.NewDecoder(r.Body).Decode(&q)
			a.scaled = append(a.scaled, fmt.Sprint(name, " ", q.Replicas))
			time.AfterFunc(300*time.Millisecond, func() { a.mu.Lock(); defer a.mu.Unlock(); a.awake = true })
			w.WriteHeader(http.StatusAccepted)
		case strings.HasPrefix(r.URL.Path, "/function/") && a.awake:
			a.calls++
			w.Header().Set("X-Authorization", r.Header.Get("Authorization"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// TestScaleFromZeroUpstream: calls wait for a function that another provider
// starts, which is asked for once.
func TestScaleFromZeroUpstream(t *testing.T) {
	t.Parallel()
	a := newAsleep(t)
	port := freeport.Take()
	g := startInFront(t, a.URL, "scale_from_zero=true", "upstream_timeout=20s", "metrics_port="+port)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			res, err := http.Post(g.url+"/function/sleepy", "text/plain", strings.NewReader("wake up"))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != 200 || res.Header.Get("X-Authorization") != "" {
				t.Error(res.Status, res.Header)
			}
		})
	}
	calls.Wait()
	require.Equal(t, []string{"sleepy 2"}, a.scaled)
	require.Equal(t, 20, a.calls)
	require.Equal(t, 404, get(t, g.url+"/function/nope").status)
	metrics := get(t, "http://127.0.0.1:"+port+"/metrics").body
	require.Contains(t, metrics, `gateway_function_invocation_total{code="200",function_name="sleepy.openfaas-fn"} 20`)
	require.NotContains(t, metrics, "nope")

	g = startInFront(t, a.URL, "scale_from_zero=1", "upstream_timeout=1s")
	answer := get(t, g.url+"/function/never")
	require.Equal(t, 503, answer.status)
	require.Equal(t, "function never.openfaas-fn had no replica available within 1s (scale_from_zero; the limit is upstream_timeout): its status and its logs say why\n", answer.body)
	require.Equal(t, "1", answer.header.Get("Retry-After"))
}

// TestStaysAtZero: with scale_from_zero=false nothing starts by itself.
func TestStaysAtZero(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", []string{"scale_from_zero=false"})
	as := g.admin(t)
	require.Equal(t, 202, do(t, "POST", g.url+"/system/scale-function/env", `{"serviceName":"env","replicas":0}`, as).status)
	a := get(t, g.url+"/function/env")
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, "scale_from_zero=false")
}

// TestCallHeadersUpstream: two gateways on the way are one call, with both in
// X-Forwarded-For.
func TestCallHeadersUpstream(t *testing.T) {
	t.Parallel()
	g := startFront(t, startUp(t, "", nil))
	a := get(t, g.url+"/function/env", "X-Call-Id: mine", "X-Forwarded-For: 203.0.113.9")
	require.Equal(t, []string{"mine"}, a.header.Values("X-Call-Id"))
	require.Len(t, a.header.Values("X-Start-Time"), 1)
	require.NotEmpty(t, a.header.Get("X-Duration-Seconds"))
	for _, line := range []string{
		"Http_X_Call_Id=mine",
		"Http_X_Forwarded_For=203.0.113.9, 127.0.0.1, 127.0.0.1",
		"Http_X_Forwarded_Host=" + strings.TrimPrefix(g.url, "http://"),
		"Http_X_Forwarded_Proto=http",
	} {
		require.Contains(t, a.body, line+"\n")
	}
	require.NotContains(t, a.body, "Http_Authorization")
}

// TestDeletedFunctionMetrics deletes a function and deploys it again.
func TestDeletedFunctionMetrics(t *testing.T) {
	t.Parallel()
	ports := map[bool]string{true: freeport.Take(), false: freeport.Take()}
	behind := startUp(t, "", []string{"metrics_port=" + ports[false]})
	front := startFront(t, behind, "metrics_port="+ports[true])
	as := behind.admin(t)
	accepted := func(method, body string) {
		t.Helper()
		a := do(t, method, front.url+"/system/functions", body, as)
		require.Equal(t, 202, a.status, a.body)
	}
	const deployment = `{"service":"brief","image":"x","envProcess":"cat","envVars":{"mode":"serializing"}}`
	const counted = `gateway_function_invocation_total{code="200",function_name="brief.openfaas-fn"} `
	accepted("POST", deployment)
	get(t, front.url+"/function/brief")
	get(t, front.url+"/function/brief")
	for _, port := range ports {
		require.Contains(t, get(t, "http://127.0.0.1:"+port+"/metrics").body, counted+"2\n")
	}
	accepted("DELETE", `{"functionName":"brief"}`)
	for _, port := range ports {
		require.NotContains(t, get(t, "http://127.0.0.1:"+port+"/metrics").body, "brief")
	}
	require.Equal(t, 404, get(t, front.url+"/function/brief").status)
	accepted("POST", deployment)
	require.Equal(t, 200, get(t, front.url+"/function/brief").status)
	for _, port := range ports {
		require.Contains(t, get(t, "http://127.0.0.1:"+port+"/metrics").body, counted+"1\n")
	}
}
