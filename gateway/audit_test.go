package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/events"
)

// collector is where events are delivered to.
type collector struct {
	mu    sync.Mutex
	lines []string
}

func (c *collector) Deliver(_ context.Context, b events.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, strings.Split(strings.TrimSuffix(string(b.Lines), "\n"), "\n")...)
	return nil
}

// outbox returns one in dir, and what waits for n events and takes them.
func outbox[E any](t *testing.T, dir, eventType string, change func(*events.Config)) (*events.Outbox, func(n int) []E) {
	t.Helper()
	to := &collector{}
	c := events.Config{Type: eventType, Dir: dir, To: to, BatchWait: time.Millisecond, Logf: t.Logf, Warnf: t.Logf}
	if change != nil {
		change(&c)
	}
	o, err := events.Open(c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { o.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return o, func(n int) []E {
		t.Helper()
		var taken []string
		require.Eventually(t, func() bool {
			to.mu.Lock()
			defer to.mu.Unlock()
			taken = append(taken, to.lines...)
			to.lines = nil
			return len(taken) >= n
		}, 20*time.Second, time.Millisecond, "there are no %d events", n)
		var all []E
		for _, line := range taken {
			var e E
			require.NoError(t, json.Unmarshal([]byte(line), &e), line)
			all = append(all, e)
		}
		require.Len(t, all, n)
		return all
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	box, take := outbox[types.APIAccessEvent](t, t.TempDir(), types.TypeAPIAccess, nil)
	a := newAPI(t, func(c *Config) { c.Auditing = &Auditing{Outbox: box, Verbs: []string{"PUT", "POST", "DELETE"}} })
	alice := &types.Actor{Sub: "fed:alice", Name: "Alice L.", Issuer: ownURL, FedIssuer: idpURL}
	token := "Bearer " + a.token(t, map[string]any{"name": alice.Name})
	a.grant(t, "Function:Create", "dev:*")
	admin := &types.Actor{Sub: "admin"}
	began := time.Now()
	for _, c := range []struct {
		method, target, authorization, body string
		want                                types.APIAccessEvent
	}{
		{"DELETE", "/system/functions?namespace=dev&token=hunter2", asAdmin, `{"functionName":"env"}`,
			types.APIAccessEvent{Actor: admin, Path: "/system/functions", Actions: []string{"Function:Delete"}, ResponseCode: 202, Namespace: "dev", CustomMessage: "function env.dev"}},
		{"POST", "http://other/system/secrets", asAdmin, `{"name":"s","namespace":"dev","value":"hunter2"}`,
			types.APIAccessEvent{Actor: admin, Path: "/system/secrets", Actions: []string{"Secret:Create"}, ResponseCode: 202, Namespace: "dev", CustomMessage: "secret s in dev"}},
		{"POST", "/system/functions", token, `{"service":"new","namespace":"dev"}`,
			types.APIAccessEvent{Actor: alice, Path: "/system/functions", Actions: []string{"Function:Create"}, ResponseCode: 202, Namespace: "dev", CustomMessage: "function new.dev"}},
		{"PUT", "/system/functions", token, `{"service":"env","namespace":"prod"}`,
			types.APIAccessEvent{Actor: alice, Path: "/system/functions", Actions: []string{"Function:Update"}, ResponseCode: 403, Namespace: "prod", CustomMessage: "function env.prod"}},
		{"POST", "/system/functions", token, `{"service":`,
			types.APIAccessEvent{Actor: alice, Path: "/system/functions", Actions: []string{"Function:Create"}, ResponseCode: 400}},
		{"POST", "/system/scale-function/env?x=%zz", token, ``,
			types.APIAccessEvent{Actor: alice, Path: "/system/scale-function/env", Actions: []string{"Function:Scale"}, ResponseCode: 400}},
		{"POST", "/system/telemetry", token, `{}`,
			types.APIAccessEvent{Actor: alice, Path: "/system/telemetry", Actions: []string{}, ResponseCode: 200, CustomMessage: "telemetry"}},
		{"POST", "/system/alert", asAdmin, `{"alerts":[{"status":"firing","labels":{"function_name":"env.dev"}},{"status":"firing","labels":{"function_name":"env.prod"}}]}`,
			types.APIAccessEvent{Actor: admin, Path: "/system/alert", Actions: []string{"Function:Scale"}, ResponseCode: 200, CustomMessage: "alerts of env.dev, env.prod"}},
		{"DELETE", "/system/nonsense", token, ``,
			types.APIAccessEvent{Actor: alice, Path: "/system/nonsense", Actions: []string{}, ResponseCode: 404}},
		{"PUT", "/system/info", token, ``,
			types.APIAccessEvent{Actor: alice, Path: "/system/info", Actions: []string{}, ResponseCode: 405}},
		{"DELETE", "/system/functions", "", `{"functionName":"env"}`,
			types.APIAccessEvent{Path: "/system/functions", Actions: []string{}, ResponseCode: 401}},
		{"DELETE", "/system/functions", "Bearer hunter2", ``,
			types.APIAccessEvent{Path: "/system/functions", Actions: []string{}, ResponseCode: 401}},
		{"POST", "/system/#x", asAdmin, ``,
			types.APIAccessEvent{Path: "/system/#x", Actions: []string{}, ResponseCode: 400}},
		{"POST", "/system/%2e%2e/\xff", asAdmin, ``,
			types.APIAccessEvent{Path: "/system/%2e%2e/\ufffd", Actions: []string{}, ResponseCode: 400}},
		{"POST", "/system/" + strings.Repeat("x", 30000), asAdmin, ``,
			types.APIAccessEvent{Actor: admin, Path: "/system/" + strings.Repeat("x", 1016) + "...", Actions: []string{}, ResponseCode: 404}},
	} {
		status, _ := a.send(t, c.method, c.target, c.authorization, c.body)
		require.Equal(t, c.want.ResponseCode, status, "%s %.50s", c.method, c.target)
		got := take(1)[0]
		require.WithinRange(t, got.Time, began.Add(-time.Second), time.Now())
		got.Time, c.want.Method = time.Time{}, c.method
		require.Equal(t, c.want, got)
	}
	for _, target := range []string{"/system/functions", "/system/nonsense", "/healthz"} {
		a.send(t, "GET", target, asAdmin, "")
		a.send(t, "post", target, asAdmin, "")
	}
	a.send(t, "POST", "/oauth/token", "", "")
	a.fail = errors.New("provider is down")
	status, _ := a.send(t, "DELETE", "/system/functions", asAdmin, `{"functionName":"env"}`)
	require.Equal(t, 502, status)
	require.Equal(t, 502, take(1)[0].ResponseCode, "and no others")
	require.NotContains(t, a.log.String(), "hunter2")
}

// TestAuditSeesForeignPages: whose password a page of another site has sent.
func TestAuditSeesForeignPages(t *testing.T) {
	t.Parallel()
	box, take := outbox[types.APIAccessEvent](t, t.TempDir(), types.TypeAPIAccess, nil)
	a := newAPI(t, func(c *Config) { c.Auditing = &Auditing{Outbox: box, Verbs: []string{"POST"}} })
	a.send(t, "POST", "/system/functions", asAdmin, "{}", "Origin: http://evil.test")
	got := take(1)[0]
	require.Equal(t, 403, got.ResponseCode)
	require.Equal(t, &types.Actor{Sub: "admin"}, got.Actor)
}

// panicking is a provider with a bug.
type panicking struct{ *recorder }

func (panicking) DeleteNamespace(context.Context, string) error { panic("bug") }

func TestAuditOfPanic(t *testing.T) {
	t.Parallel()
	box, take := outbox[types.APIAccessEvent](t, t.TempDir(), types.TypeAPIAccess, nil)
	a := newAPI(t, func(c *Config) {
		c.Auditing = &Auditing{Outbox: box, Verbs: []string{"DELETE"}}
		c.Provider = panicking{&recorder{}}
	})
	status, _ := a.send(t, "DELETE", "/system/namespace/dev", asAdmin, "")
	require.Equal(t, 500, status)
	got := take(1)[0]
	require.Equal(t, 500, got.ResponseCode)
	require.Equal(t, []string{"Namespace:Delete"}, got.Actions)
	require.Contains(t, a.log.String(), "DeleteNamespace", "the stack is the panic's")
}

// TestAuditMandatory: what cannot be recorded is not done.
func TestAuditMandatory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/spool"
	box, take := outbox[types.APIAccessEvent](t, dir, types.TypeAPIAccess, func(c *events.Config) { c.KeepAll = true })
	a := newAPI(t, func(c *Config) { c.Auditing = &Auditing{Outbox: box, Verbs: []string{"DELETE"}} })
	remove := func() (int, string) {
		return a.send(t, "DELETE", "/system/functions", asAdmin, `{"functionName":"env"}`)
	}
	require.NoError(t, os.Rename(dir, dir+"-away"))
	status, _ := remove()
	require.Equal(t, 202, status, "that it fails is not known before the first failure")
	require.Contains(t, a.log.String(), "its audit event could not be kept")
	a.take()
	status, answer := remove()
	require.Equal(t, 503, status)
	require.Contains(t, answer, "auditing_mandatory")
	require.Empty(t, a.take(), "nothing was done")
	status, _ = a.send(t, "GET", "/system/functions", asAdmin, "")
	require.Equal(t, 200, status, "what is not audited goes on")
	require.NoError(t, os.Rename(dir+"-away", dir))
	status, _ = remove()
	require.Equal(t, 202, status)
	require.Len(t, take(2), 2)
}
