package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

// recorder is a provider with one function and one secret in dev and in prod,
// that changes nothing and remembers what it was asked.
type recorder struct {
	mu    sync.Mutex
	asked []string
	fail  error
	lines chan logs.Message // what is followed
	ended chan error        // Logs has returned
}

func (p *recorder) note(format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, fmt.Sprintf(format, args...))
	return p.fail
}

// take returns what was asked since the last take.
func (p *recorder) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := strings.Join(p.asked, "; ")
	p.asked = nil
	return asked
}

func (p *recorder) Ready(provider.Function) (provider.Endpoint, bool) {
	return provider.Endpoint{}, false
}

func (p *recorder) Endpoint(context.Context, provider.Function) (provider.Endpoint, error) {
	return provider.Endpoint{}, provider.ErrNotFound
}

func (p *recorder) List(_ context.Context, namespace string) ([]types.FunctionStatus, error) {
	return []types.FunctionStatus{{Name: "cows", Namespace: namespace}, {Name: "env", Namespace: namespace}}, p.note("List %s", namespace)
}

func (p *recorder) Status(_ context.Context, f provider.Function, usage bool) (types.FunctionStatus, error) {
	if f.Name != "env" && f.Name != "cows" {
		return types.FunctionStatus{}, provider.ErrNotFound
	}
	return types.FunctionStatus{Name: f.Name, Namespace: f.Namespace, Replicas: 1}, p.note("Status %s %t", f, usage)
}

func (p *recorder) Deploy(_ context.Context, d types.FunctionDeployment) error {
	return p.note("Deploy %s.%s %s", d.Service, d.Namespace, d.Image)
}

func (p *recorder) Update(_ context.Context, d types.FunctionDeployment) error {
	return p.note("Update %s.%s %s", d.Service, d.Namespace, d.Image)
}

func (p *recorder) Delete(_ context.Context, f provider.Function) error {
	return p.note("Delete %s", f)
}

func (p *recorder) Scale(_ context.Context, f provider.Function, replicas uint64) error {
	return p.note("Scale %s %d", f, replicas)
}

func (p *recorder) Secrets(_ context.Context, namespace string) ([]types.Secret, error) {
	return []types.Secret{{Name: "env", Value: "leak"}, {Name: "other"}}, p.note("Secrets %s", namespace)
}

func (p *recorder) CreateSecret(_ context.Context, s types.Secret) error {
	return p.note("CreateSecret %s.%s %s", s.Name, s.Namespace, s.Value)
}

func (p *recorder) UpdateSecret(_ context.Context, s types.Secret) error {
	return p.note("UpdateSecret %s.%s %s", s.Name, s.Namespace, s.Value)
}

func (p *recorder) DeleteSecret(_ context.Context, namespace, name string) error {
	return p.note("DeleteSecret %s.%s", name, namespace)
}

func (p *recorder) Namespaces(context.Context) ([]string, error) {
	return []string{"dev", "openfaas-fn", "prod"}, p.note("Namespaces")
}

func (p *recorder) Namespace(_ context.Context, name string) (types.FunctionNamespace, error) {
	return types.FunctionNamespace{Name: name}, p.note("Namespace %s", name)
}

func (p *recorder) CreateNamespace(_ context.Context, n types.FunctionNamespace) error {
	return p.note("CreateNamespace %s", n.Name)
}

func (p *recorder) UpdateNamespace(_ context.Context, n types.FunctionNamespace) error {
	return p.note("UpdateNamespace %s", n.Name)
}

func (p *recorder) DeleteNamespace(_ context.Context, name string) error {
	return p.note("DeleteNamespace %s", name)
}

func (p *recorder) Logs(ctx context.Context, r logs.Request, emit func(logs.Message) error) (err error) {
	if !r.Follow {
		_ = emit(logs.Message{Name: r.Name, Namespace: r.Namespace, Text: "hello"})
		return p.note("Logs %s.%s %d", r.Name, r.Namespace, r.Tail)
	}
	defer func() { p.ended <- err }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-p.lines:
			if err := emit(m); err != nil {
				return err
			}
		}
	}
}

func (p *recorder) Info(context.Context) (types.ProviderInfo, error) {
	return types.ProviderInfo{Name: "recorder", Orchestration: "none"}, p.note("Info")
}

const (
	ownURL = "http://gateway.test"
	idpURL = "http://idp.test"
)

// api is a gateway in front of a recorder, with a policy for each test to set.
type api struct {
	*recorder
	gateway *Gateway
	log     *syncBuffer
	url     string
	issuer  *issuer.Issuer
	objects atomic.Pointer[iam.Set]
	stop    func()
}

// syncBuffer takes the log.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newAPI(t *testing.T, change func(*Config)) *api {
	t.Helper()
	a := &api{recorder: &recorder{lines: make(chan logs.Message), ended: make(chan error, 1)}, log: &syncBuffer{}}
	a.grant(t)
	key, err := issuer.Generate()
	require.NoError(t, err)
	a.issuer, err = issuer.New(ownURL, key)
	require.NoError(t, err)
	exchanger, err := exchange.New(exchange.Config{Issuer: a.issuer, Objects: a.objects.Load})
	require.NoError(t, err)
	c := Config{
		Provider: a.recorder, Issuer: a.issuer, Exchange: exchanger, DefaultNamespace: "openfaas-fn",
		Admin: basicauth.New("admin", "pw"), Log: zerolog.New(a.log), UpstreamTimeout: 20 * time.Second, DrainTimeout: 20 * time.Second,
	}
	if change != nil {
		change(&c)
	}
	l := listenTCP(t)
	a.url = "http://" + l.Addr().String()
	a.gateway = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.gateway.Serve(ctx, l) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(a.stop)
	return a
}

// grant makes the policy "p" of these statements: action, resource, ...
func (a *api) grant(t *testing.T, actionsAndResources ...string) {
	t.Helper()
	p := iam.Policy{Metadata: iam.Metadata{Name: "p"}}
	for i := 0; i < len(actionsAndResources); i += 2 {
		p.Spec.Statement = append(p.Spec.Statement, iam.Statement{
			Effect: "Allow", Action: actionsAndResources[i : i+1], Resource: []iam.Resource{iam.Resource(actionsAndResources[i+1])}})
	}
	if len(p.Spec.Statement) == 0 {
		p.Spec.Statement = []iam.Statement{{Effect: "Allow", Action: []string{"Function:Invoke"}, Resource: []iam.Resource{"*"}}}
	}
	set, problems := iam.Compile(iam.Objects{
		Issuers: []iam.JwtIssuer{{Metadata: iam.Metadata{Name: "idp"}, Spec: iam.JwtIssuerSpec{Iss: idpURL, Aud: []string{"gw"}}}}, Policies: []iam.Policy{p}})
	require.Empty(t, problems)
	a.objects.Store(set)
}

// token signs an API token, changed; nil takes a claim out.
func (a *api) token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": ownURL, "aud": ownURL, "sub": "fed:alice", "fed:iss": idpURL, "policy": []string{"p"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	token, err := a.issuer.Sign(claims)
	require.NoError(t, err)
	return token
}

const asAdmin = "Basic YWRtaW46cHc="

// send sends one request byte for byte and returns the status and the body.
func (a *api) send(t *testing.T, method, target, authorization, body string, headers ...string) (int, string) {
	t.Helper()
	res, text := a.sendRaw(t, method, target, authorization, body, headers...)
	return res.StatusCode, text
}

func (a *api) sendRaw(t *testing.T, method, target, authorization, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	head := method + " " + target + " HTTP/1.1\r\nConnection: close\r\n"
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Host:") }) {
		head += "Host: gateway.test\r\n"
	}
	if authorization != "" {
		head += "Authorization: " + authorization + "\r\n"
	}
	for _, h := range headers {
		head += h + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(text)
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for _, c := range []struct {
		method, target, body string
		status               int
		asked, answer        string
	}{
		{"GET", "/system/info", "", 200, "Info", `"provider":{"provider":"recorder","version":{"sha":"","release":""},"orchestration":"none"}`},
		{"GET", "/system/functions", "", 200, "List openfaas-fn", `"name":"env"`},
		{"GET", "/system/functions?namespace=dev", "", 200, "List dev", `"namespace":"dev"`},
		{"POST", "/system/functions", `{"service":"new","namespace":"dev","image":"i","future":{"a":1}}`, 202, "Deploy new.dev i", ""},
		{"POST", "/system/functions?namespace=dev", `{"service":"new","image":"i"}`, 202, "Deploy new.dev i", ""},
		{"POST", "/system/functions", `{"service":"new","image":"i"}`, 202, "Deploy new.openfaas-fn i", ""},
		{"PUT", "/system/functions", `{"service":"env","namespace":"dev","image":"i"}`, 202, "Update env.dev i", ""},
		{"DELETE", "/system/functions", `{"functionName":"env","namespace":"dev"}`, 202, "Delete env.dev", ""},
		{"DELETE", "/system/functions?namespace=dev", `{"functionName":"env"}`, 202, "Delete env.dev", ""},
		{"GET", "/system/function/env?namespace=dev&usage=1", "", 200, "Status env.dev true", `"name":"env"`},
		{"GET", "/system/function/env.dev", "", 200, "Status env.dev false", `"name":"env"`},
		{"GET", "/system/function/nope", "", 404, "", "function nope.openfaas-fn not found"},
		{"POST", "/system/scale-function/env", `{"serviceName":"env","replicas":0,"namespace":"dev"}`, 202, "Scale env.dev 0", ""},
		{"POST", "/system/scale-function/env", `{"namespace":"dev"}`, 400, "", "replicas is missing"},
		{"POST", "/system/scale-function/env", `{"replicas":-1}`, 400, "", "replicas"},
		{"GET", "/system/secrets?namespace=dev", "", 200, "Secrets dev", `[{"name":"env","namespace":"dev"},{"name":"other","namespace":"dev"}]`},
		{"POST", "/system/secrets", `{"name":"s","namespace":"dev","value":"hunter2"}`, 202, "CreateSecret s.dev hunter2", ""},
		{"POST", "/system/secrets", `{"name":"tls.crt","namespace":"dev","rawValue":"AAE="}`, 202, "CreateSecret tls.crt.dev ", ""},
		{"POST", "/system/secrets", `{"name":"../s","namespace":"dev","value":"hunter2"}`, 400, "", "secret name"},
		{"PUT", "/system/secrets", `{"name":"s","namespace":"dev","value":"hunter2"}`, 202, "UpdateSecret s.dev hunter2", ""},
		{"DELETE", "/system/secrets", `{"name":"s","namespace":"dev"}`, 202, "DeleteSecret s.dev", ""},
		{"GET", "/system/logs?name=env&namespace=dev&tail=3&since=2026-01-02T03:04:05Z&follow=false", "", 200, "Status env.dev false; Logs env.dev 3", `"text":"hello"`},
		{"HEAD", "/system/logs?name=env&namespace=dev&follow=true", "", 200, "Status env.dev false", ""},
		{"GET", "/system/logs?name=nope", "", 404, "", "not found"},
		{"GET", "/system/logs?name=env&tail=x", "", 400, "", "tail"},
		{"GET", "/system/logs?name=env&since=now", "", 400, "", "since"},
		{"GET", "/system/logs", "", 400, "", `function name ""`},
		{"GET", "/system/namespaces", "", 200, "Namespaces", `["dev","openfaas-fn","prod"]`},
		{"GET", "/system/namespace/dev", "", 200, "Namespace dev", `"name":"dev"`},
		{"POST", "/system/namespace/dev", `{"labels":{"openfaas":"1"}}`, 202, "CreateNamespace dev", ""},
		{"POST", "/system/namespace/", `{"name":"dev"}`, 202, "CreateNamespace dev", ""},
		{"POST", "/system/namespace/", `{}`, 400, "", `namespace ""`},
		{"PUT", "/system/namespace/dev", `{"name":"dev"}`, 202, "UpdateNamespace dev", ""},
		{"DELETE", "/system/namespace/dev", `{"name":"dev"}`, 202, "DeleteNamespace dev", ""},
		{"DELETE", "/system/namespace/dev", "", 202, "DeleteNamespace dev", ""},
		{"POST", "/system/telemetry", `{"any":"thing"}`, 200, "", ""},
		{"POST", "/system/alert", `{"alerts":[{"status":"firing","labels":{"function_name":"env.dev"}},{"status":"resolved","labels":{"function_name":"env.dev"}},{"status":"firing","labels":{"function_name":"gone.dev"}}]}`,
			200, "Status env.dev false; Scale env.dev 5", "OK"},
		{"POST", "/system/alert", `{"alerts":[{"status":"maybe","labels":{"function_name":"env.dev"}}]}`, 400, "", "want firing or resolved"},
		{"POST", "/system/alert", `{"alerts":[{"status":"firing","labels":{}}]}`, 400, "", "function_name"},
		{"POST", "/system/alert", `{}`, 200, "", "OK"},
		{"PATCH", "/system/functions", "", 405, "", "try GET or POST or PUT or DELETE"},
		{"GET", "/system/nonsense", "", 404, "", "no such page"},
		{"GET", "/system/", "", 404, "", "no such page"},
	} {
		status, answer := a.send(t, c.method, c.target, asAdmin, c.body)
		require.Equal(t, c.status, status, "%s %s: %s", c.method, c.target, answer)
		require.Equal(t, c.asked, a.take(), "%s %s", c.method, c.target)
		require.Contains(t, answer, c.answer, "%s %s", c.method, c.target)
	}
	log := a.log.String()
	require.Contains(t, log, `"subject":"admin","action":"Secret:Create","resource":"secret s in dev","status":202,"message":"POST allowed"`)
	require.NotContains(t, log, "hunter2")
	require.NotContains(t, log, asAdmin[6:])
}

func TestProviderErrors(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for _, c := range []struct {
		err    error
		status int
		answer string
	}{
		{provider.ErrNotFound, 404, "function new.dev not found\n"},
		{&provider.Error{Status: 409, Message: "busy"}, 409, "busy\n"},
		{&provider.Error{Status: 503, Message: "later"}, 503, "later\n"},
		{&provider.Error{Status: 507, Message: "function new.dev cannot be kept: disk full"}, 507, "function new.dev cannot be kept: disk full\n"},
		{fmt.Errorf("functions provider: %w", context.DeadlineExceeded), 504, "upstream_timeout of 20s"},
		{fmt.Errorf("dial tcp 10.0.0.1: refused"), 502, "the functions provider cannot be reached\n"},
	} {
		a.mu.Lock()
		a.fail = c.err
		a.mu.Unlock()
		status, answer := a.send(t, "POST", "/system/functions", asAdmin, `{"service":"new","namespace":"dev"}`)
		require.Equal(t, c.status, status)
		require.Contains(t, answer, c.answer)
		require.NotContains(t, answer, "10.0.0.1")
	}
	require.Regexp(t, `"level":"error","request_id":"[^"]+","message":"function new.dev cannot be kept: disk full"`, a.log.String())
}

func TestFollowLogs(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.grant(t, "Function:Logs", "dev:env")
	follow := func(life time.Duration) (*http.Response, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/system/logs?name=env&namespace=dev&follow=1", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+a.token(t, map[string]any{"exp": time.Now().Add(life).Unix()}))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode, "the header does not wait for a line")
		require.Equal(t, "application/x-ndjson", res.Header.Get("Content-Type"))
		return res, cancel
	}
	res, leave := follow(time.Hour)
	lines := json.NewDecoder(res.Body)
	for i := range 3 {
		a.lines <- logs.Message{Text: fmt.Sprint(i)}
		var m logs.Message
		require.NoError(t, lines.Decode(&m), "each line comes at once")
		require.Equal(t, fmt.Sprint(i), m.Text)
	}
	leave()
	require.ErrorIs(t, <-a.ended, context.Canceled, "a client that leaves in silence is noticed")

	res, leave = follow(2 * time.Second)
	require.ErrorIs(t, <-a.ended, context.Canceled, "nobody looks on when the token has ended")
	_, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	leave()

	res, leave = follow(time.Hour)
	defer leave()
	go a.stop() // which waits for calls, and not for this one
	require.ErrorIs(t, <-a.ended, context.Canceled)
	_, err = io.ReadAll(res.Body)
	require.NoError(t, err, "the stream ends in order")
}

// TestFollowLogsAndSend: a client that sends on while it follows, and leaves in
// silence, is noticed: else each leaves a connection behind for good.
func TestFollowLogsAndSend(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.grant(t, "Function:Logs", "dev:env")
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	token := a.token(t, map[string]any{"exp": time.Now().Add(time.Hour).Unix()})
	_, err = fmt.Fprintf(conn, "GET /system/logs?name=env&namespace=dev&follow=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	require.NoError(t, err)
	_, err = bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET /")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	select {
	case err := <-a.ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(5 * time.Second):
		t.Fatal("nobody has noticed")
	}
}

func TestReplicasWanted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas         uint64
		labels           string // min max factor
		firing, resolved uint64
	}{
		{1, "", 5, 1},
		{19, "", 20, 1},
		{20, "", 20, 1},
		{25, "", 25, 1}, // somebody wanted more: an alert does not scale down
		{0, "", 0, 0},
		{1, "1 10 10", 2, 1},
		{2, "2 5 50", 5, 2},
		{2, "1 3 1", 3, 1},
		{1, "4 10 100", 10, 4},
		{3, "1 10 0", 3, 3},
		{1, "9 3 100", 9, 9},
		{1, "x -1 1000000000000000000000", 5, 1},
		{1, "1 10 500", 10, 1},
	} {
		s := types.FunctionStatus{Replicas: c.replicas}
		if words := strings.Fields(c.labels); len(words) == 3 {
			s.Labels = &map[string]string{"com.openfaas.scale.min": words[0], "com.openfaas.scale.max": words[1], "com.openfaas.scale.factor": words[2]}
		}
		require.Equal(t, c.firing, replicasWanted(s, true), "%d, %s: firing", c.replicas, c.labels)
		require.Equal(t, c.resolved, replicasWanted(s, false), "%d, %s: resolved", c.replicas, c.labels)
	}
}
