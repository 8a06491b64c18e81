package kubernetes_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store"
	"github.com/gatehound/gatehound/test/freeport"
)

// realConfig says how to reach the API server that the tests are to use. They
// are asked for by GATEHOUND_KUBERNETES=1, and are never skipped then.
func realConfig(t *testing.T) *rest.Config {
	t.Helper()
	if os.Getenv("GATEHOUND_KUBERNETES") == "" {
		t.Skip("NOT TESTED AGAINST A REAL API SERVER: set GATEHOUND_KUBERNETES=1, and KUBECONFIG to one with the definitions of crds")
	}
	path := os.Getenv("KUBECONFIG")
	require.NotEmpty(t, path, "GATEHOUND_KUBERNETES is set: set KUBECONFIG too")
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	config.QPS, config.Burst = 1000, 1000
	return config
}

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// realCluster is an API server, of which the store has a namespace to itself,
// and a way that can be cut.
type realCluster struct {
	cluster
	proxy *proxy
}

func newReal(t *testing.T, config *rest.Config) *realCluster {
	admin, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	c := &realCluster{proxy: newProxy(t, config)}
	namespace, err := admin.Resource(namespaces).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "gatehound-test-"},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	c.admin, c.namespace = admin, namespace.GetName()
	t.Cleanup(func() {
		ctx := context.Background()
		for _, kind := range []string{"JwtIssuer", "Policy", "Role"} {
			_ = admin.Resource(gvr(kind)).Namespace(c.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}
		_ = admin.Resource(namespaces).Delete(ctx, c.namespace, metav1.DeleteOptions{})
	})
	return c
}

func (c *realCluster) cut(*testing.T)     { c.proxy.cut() }
func (c *realCluster) restore(*testing.T) { c.proxy.restore() }

func TestReal(t *testing.T) {
	t.Parallel()
	config := realConfig(t)
	conformance(t, func(t *testing.T) backend {
		c := newReal(t, config)
		c.open(t, c.proxy.client)
		eventually(t, "the store has loaded", func() bool { return c.Current() != nil })
		return c
	})
}

func TestRealStartWithoutServer(t *testing.T) {
	t.Parallel()
	c := newReal(t, realConfig(t))
	c.put(t, "Role", "r", roleSpec)
	c.put(t, "Policy", "p", policySpec("dev:one"))
	c.cut(t)
	c.open(t, c.proxy.client)
	eventually(t, "the loss is noticed", c.lost)
	require.Nil(t, c.Current())
	c.restore(t)
	eventuallyInvokes(t, c, "alice", "dev:one")
}

// What is there when a watch is told that its version is too old is listed.
func TestRealExpired(t *testing.T) {
	t.Parallel()
	c := newReal(t, realConfig(t))
	c.open(t, c.proxy.client)
	c.put(t, "Role", "r", roleSpec)
	c.put(t, "Policy", "p", policySpec("dev:one"))
	eventuallyInvokes(t, c, "alice", "dev:one")
	c.proxy.gone.Store(true)
	c.cut(t)
	c.put(t, "Policy", "p", policySpec("dev:two"))
	c.restore(t)
	eventuallyInvokes(t, c, "alice", "dev:two")
	require.Positive(t, c.proxy.answered.Load(), "a watch was answered 410")
}

// A cluster without the definitions: any other group is as good.
func TestRealLogsWhatIsMissing(t *testing.T) {
	t.Parallel()
	config := rest.CopyConfig(realConfig(t))
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.Path = strings.Replace(r.URL.Path, "iam.openfaas.com", "none.gatehound.test", 1)
			return next.RoundTrip(r)
		})
	})
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	c := &cluster{namespace: "openfaas"}
	c.open(t, client)
	eventually(t, "the definition is named", func() bool {
		return c.log.count("the cluster does not have the CustomResourceDefinition roles.iam.openfaas.com: run kubectl apply") == 1
	})
}

// What the API server refuses, the folder's store refuses, and so the folder's
// examples are good in a cluster. The store alone refuses what no schema can say.
func TestRealDefinitionsAgree(t *testing.T) {
	t.Parallel()
	c := newReal(t, realConfig(t))
	files, err := filepath.Glob("../testdata/*.y*ml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var examples []string
	for _, path := range append(files, "../../../../gateway/quickstart/iam.yaml") {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		examples = append(examples, strings.Split(string(data), "\n---\n")...)
	}
	for _, example := range examples {
		require.NoError(t, c.accepts(t, example), example)
		require.True(t, weAccept(example), example)
	}

	const both, ours, theirs = "both", "the store alone", "the API server alone"
	policy := func(statement string) string { return manifest("Policy", "p", "{statement: ["+statement+"]}") }
	issuer := func(spec string) string { return manifest("JwtIssuer", "i", spec) }
	role := func(spec string) string { return manifest("Role", "r", spec) }
	for m, refusedBy := range map[string]string{
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: 1h30m, issInternal: "http://idp:8080/x"}`): "",
		issuer(`{iss: "HTTPS://[::1]:8443/realms/a@b", aud: [a, b]}`):                                  "",
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: "", issInternal: ""}`):                     "",
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: +.5h}`):                                    "",
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: 2d}`):                                      both,
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: 999ms}`):                                   both,
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: -1h}`):                                     both,
		issuer(`{iss: "https://idp", aud: [a], tokenExpiry: 2h, expiry: 2h}`):                          both,
		issuer(`{iss: "https://idp", aud: [a], issinternal: "http://x"}`):                              both,
		issuer(`{iss: "https://idp", aud: []}`):                                                        both,
		issuer(`{iss: "https://idp", aud: [""]}`):                                                      both,
		issuer(`{iss: "https://idp", aud: a}`):                                                         both,
		issuer(`{iss: "https://idp"}`):                                                                 both,
		issuer(`{aud: [a]}`):                                                                           both,
		issuer(`{iss: "idp", aud: [a]}`):                                                               both,
		issuer(`{iss: "ftp://idp", aud: [a]}`):                                                         both,
		issuer(`{iss: "https://", aud: [a]}`):                                                          both,
		issuer(`{iss: "https://:443", aud: [a]}`):                                                      both,
		issuer(`{iss: "https://u:p@idp", aud: [a]}`):                                                   both,
		issuer(`{iss: "https://idp?x", aud: [a]}`):                                                     both,
		issuer(`{iss: "https://idp#x", aud: [a]}`):                                                     both,
		issuer(`{iss: "https://i dp", aud: [a]}`):                                                      ours,
		issuer(`{iss: "https://idp", aud: [a], issInternal: "idp"}`):                                   both,

		policy(`{effect: Allow, action: ["*"], resource: ["*", "dev:*", "*:a", "de-*:a_b!"]}`):                    "",
		policy(`{sid: s, effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {"jwt:a": b}}}`):   "",
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringLike: {"jwt:a": [b, 1, true]}}}`): "",
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringLike: {"jwt:a": []}}}`):           "",
		policy(`{effect: Deny, action: [x], resource: ["*"]}`):                                                    both,
		policy(`{effect: allow, action: [x], resource: ["*"]}`):                                                   both,
		policy(`{action: [x], resource: ["*"]}`):                                                                  both,
		policy(`{effect: Allow, resource: ["*"]}`):                                                                both,
		policy(`{effect: Allow, action: [], resource: ["*"]}`):                                                    both,
		policy(`{effect: Allow, action: "x", resource: ["*"]}`):                                                   both,
		policy(`{effect: Allow, action: [x]}`):                                                                    both,
		policy(`{effect: Allow, action: [x], resource: []}`):                                                      both,
		policy(`{effect: Allow, action: [x], resource: ["dev"]}`):                                                 both,
		policy(`{effect: Allow, action: [x], resource: ["dev:"]}`):                                                both,
		policy(`{effect: Allow, action: [x], resource: ["dev:a:b"]}`):                                             both,
		policy(`{effect: Allow, action: [x], resource: ["dev:ä"]}`):                                               both,
		policy(`{effect: Allow, action: [x], resource: ["**"]}`):                                                  both,
		policy(`{effect: Allow, action: [x], resource: ["*"], conditions: {StringEqual: {"jwt:a": b}}}`):          both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {}}`):                                    both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {}}}`):                     both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: x}}`):                      both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {"jwt:a": {b: c}}}}`):      both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {"jwt:a": {}}}}`):          both,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {"jwt:a": [[b]]}}}`):       ours,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {"jwt:a": [1.5]}}}`):       ours,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEquals!: {"jwt:a": b}}}`):         ours,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: {StringEqual: {a: b}}}`):                 ours,
		policy(`{effect: Allow, action: [x], resource: ["*"], condition: null}`):                                  ours,
		manifest("Policy", "p", `{statement: []}`):                                                                both,
		manifest("Policy", "p", `{}`):                                                                             both,
		manifest("Policy", "p", `{statement: [{effect: Allow, action: [x], resource: ["*"]}], statements: []}`):   both,

		role(`{policy: [p], principal: {"jwt:sub": a}}`):                                                             "",
		role(`{policy: [p], principal: {"jwt:sub": [a, "b"]}, condition: {"ForAnyValue:StringLike": {"jwt:g": g}}}`): "",
		role(`{policy: [p], condition: {StringEqual: {"jwt:email_verified": true}}}`):                                "",
		role(`{policy: [p]}`):                                                                    both,
		role(`{principal: {"jwt:sub": a}}`):                                                      both,
		role(`{policy: [], principal: {"jwt:sub": a}}`):                                          both,
		role(`{policy: p, principal: {"jwt:sub": a}}`):                                           both,
		role(`{policy: [p], principal: {}}`):                                                     both,
		role(`{policy: [p], principal: a}`):                                                      both,
		role(`{policy: [p], principal: {"jwt:sub": {}}}`):                                        both,
		role(`{policy: [p], principle: {"jwt:sub": a}}`):                                         both,
		role(`{policy: [p], principle: {"jwt:sub": a}, condition: {StringEqual: {"jwt:a": b}}}`): both,
		role(`{policy: [p], principal: {"jwt:sub": a}, Condition: {StringEqual: {"jwt:a": b}}}`): both,
		role(`{policy: [p], principal: {"jwt:sub": null}}`):                                      ours,
		role(`{policy: [p], principal: {"jwt:sub": a}, condition: null}`):                        ours,
		role(`{policy: [p], principal: null, condition: {StringEqual: {"jwt:a": b}}}`):           ours,
		// What the folder takes for text the API server does not, where there is
		// only text to be expected.
		role(`{policy: [7], principal: {"jwt:sub": a}}`): theirs,
	} {
		err := c.accepts(t, m)
		got := ""
		switch {
		case err != nil && weAccept(m):
			got = theirs
		case err != nil:
			got = both
		case !weAccept(m):
			got = ours
		}
		if got != refusedBy {
			t.Errorf("refused by %q, want %q: %v\n%s", got, refusedBy, err, m)
		}
	}
}

// accepts asks the API server to take an object, and to forget it again.
func (c *realCluster) accepts(t *testing.T, manifest string) error {
	u := object(t, manifest)
	u.SetNamespace(c.namespace)
	_, err := c.admin.Resource(gvr(u.GetKind())).Namespace(c.namespace).Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// weAccept reports whether a set of this object alone has it.
func weAccept(manifest string) bool {
	objects, problems := store.Object("test", []byte(manifest))
	_, faults := iam.Compile(objects)
	for _, p := range append(problems, faults...) {
		if p.Ignored {
			return false
		}
	}
	return true
}

// proxy forwards to the API server, until it is cut.
type proxy struct {
	client  dynamic.Interface // goes through the proxy
	address string
	target  string
	// gone has watches of a version answered 410, and answered counts them.
	gone     atomic.Bool
	answered atomic.Int32

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func newProxy(t *testing.T, config *rest.Config) *proxy {
	server, err := url.Parse(config.Host)
	require.NoError(t, err)
	p := &proxy{target: server.Host, address: "127.0.0.1:" + freeport.Take(), conns: map[net.Conn]bool{}}
	p.restore()
	t.Cleanup(p.cut)

	through := rest.CopyConfig(config)
	through.Host = "https://" + p.address
	through.ServerName = server.Hostname()
	through.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			q := r.URL.Query()
			if q.Get("watch") != "true" || q.Get("resourceVersion") == "" || !p.gone.Load() || p.answered.Load() >= 3 {
				return next.RoundTrip(r)
			}
			p.answered.Add(1)
			const body = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}`
			return &http.Response{
				StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
				Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
			}, nil
		})
	})
	p.client, err = dynamic.NewForConfig(through)
	require.NoError(t, err)
	return p
}

func (p *proxy) restore() {
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		panic(fmt.Sprintf("the proxy's port was taken meanwhile: %v", err))
	}
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", p.target)
			if err != nil {
				from.Close()
				continue
			}
			p.mu.Lock()
			p.conns[from], p.conns[to] = true, true
			p.mu.Unlock()
			go func() { _, _ = io.Copy(to, from); to.Close() }()
			go func() { _, _ = io.Copy(from, to); from.Close() }()
		}
	}()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close()
	for conn := range p.conns {
		conn.Close()
	}
	clear(p.conns)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
