package test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

const hookSecret = "a secret of some length"

// delivery is a request to a webhook.
type delivery struct {
	id, kind, signature string
	body                []byte
}

// hook is a webhook that answers as it is told.
type hook struct {
	url, secretFile string

	mu      sync.Mutex
	status  func(n int) int // of the n-th delivery; 0 = it is taken, and the connection cut
	seen    map[string]delivery
	taken   map[string]delivery // each of them once
	altered string              // what was wrong with one
	n       int
}

func newHook(t *testing.T, dir string, status func(n int) int) *hook {
	t.Helper()
	h := &hook{secretFile: filepath.Join(dir, "webhook-secret.txt"), status: status, seen: map[string]delivery{}, taken: map[string]delivery{}}
	require.NoError(t, os.WriteFile(h.secretFile, []byte(hookSecret+"\n"), 0o600))
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.url = server.URL + "/events?token=hunter2"
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed
	}
	d := delivery{r.Header.Get("X-Openfaas-Delivery"), r.Header.Get("X-Openfaas-Event"), r.Header.Get("X-Openfaas-Signature-256"), body}
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.signature != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		h.altered = "signature of " + d.id
	}
	if before, again := h.seen[d.id]; again && (!bytes.Equal(before.body, body) || before.kind != d.kind) {
		h.altered = d.id + " has come with other events"
	}
	h.seen[d.id] = d
	h.n++
	status := h.status(h.n)
	if status == 0 || status < 300 {
		h.taken[d.id] = d
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
}

func (h *hook) answer(status func(n int) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.n = status, 0
}

// events returns those that were taken: of /system/ by what they are about, and of
// functions how many there are of each.
func (h *hook) events(t *testing.T) (access map[string]types.APIAccessEvent, usage map[string]int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Empty(t, h.altered)
	access, usage = map[string]types.APIAccessEvent{}, map[string]int{}
	for _, d := range h.taken {
		switch d.kind {
		case types.TypeAPIAccess:
			var all []types.APIAccessEvent
			require.NoError(t, json.Unmarshal(d.body, &all))
			for _, e := range all {
				require.NotContains(t, access, e.CustomMessage, "it is in two deliveries")
				access[e.CustomMessage] = e
			}
		case types.TypeFunctionUsage:
			var all []types.FunctionUsageEvent
			require.NoError(t, json.Unmarshal(d.body, &all))
			for _, e := range all {
				require.Equal(t, "dev", e.Namespace)
				require.Equal(t, int64(64<<20), e.MemoryBytes)
				require.Positive(t, e.Duration)
				usage[e.FunctionName]++
			}
		default:
			require.Fail(t, "an event of type "+d.kind)
		}
	}
	return access, usage
}

// newProvider is a faas-provider that has every function, with 64Mi each.
func newProvider(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/function/"):
			_, _ = io.WriteString(w, "answer")
		case r.Method == "GET":
			fmt.Fprintf(w, `{"name":%q,"namespace":"dev","replicas":1,"availableReplicas":1,"limits":{"memory":"64Mi"}}`, strings.TrimPrefix(r.URL.Path, "/system/function/"))
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// startAudited starts a gateway in dir in front of a provider.
func startAudited(t *testing.T, dir, behind string, env ...string) (*program, string) {
	t.Helper()
	p := start(t, dir, append([]string{"listen=127.0.0.1:0", "metrics_port=0", "functions_provider_url=" + behind, "function_namespace=dev"}, env...), "gateway")
	return p, p.stderr.find(t, p, `listening on (http://\S+),`)[1]
}

func adminOf(t *testing.T, dir string) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	return strings.TrimSpace(string(password))
}

// TestEventsSurviveKills kills a gateway that takes requests while 10,000 events
// wait, and again while it delivers them. Every event of a request that was
// answered must arrive, as it was.
func TestEventsSurviveKills(t *testing.T) {
	t.Parallel()
	total := int64(10_000)
	if raceEnabled {
		total = 2_000
	}
	dir := t.TempDir()
	h := newHook(t, dir, func(int) int { return http.StatusInternalServerError })
	behind := newProvider(t)
	env := []string{"auditing=true", "auditing_mandatory=true", "metering=true", "events_url=" + h.url, "events_secret_file=" + h.secretFile,
		"events_batch=100", "events_batch_wait=50ms", "listen=127.0.0.1:" + freeport.Take()}
	p, url := startAudited(t, dir, behind.URL, env...)
	admin := adminOf(t, dir)

	// Clients send until there is nobody who answers.
	const clients, functions = 8, 10
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: patience}
	defer client.CloseIdleConnections()
	request := func(method, target, body string) bool {
		req, err := http.NewRequest(method, url+target, strings.NewReader(body))
		if err != nil {
			return false
		}
		req.SetBasicAuth("admin", admin)
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return err == nil && res.StatusCode < 300
	}
	var number, answered atomic.Int64
	var called, sent [functions]atomic.Int64
	var changed sync.Map // the functions whose change was answered
	enough := make(chan struct{})
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for {
				n := number.Add(1)
				name := fmt.Sprintf("f-%d", n)
				if !request("PUT", "/system/functions", `{"service":"`+name+`","namespace":"dev"}`) {
					return
				}
				changed.Store("function "+name+".dev", true)
				sent[n%functions].Add(1)
				if !request("POST", fmt.Sprintf("/function/f-%d/x", n%functions), "moo") {
					return
				}
				called[n%functions].Add(1)
				if answered.Add(2) == total {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-p.exited:
		require.Fail(t, "it has ended", p.stderr)
	}
	require.NoError(t, p.cmd.Process.Kill())
	<-p.exited
	sending.Wait()
	require.Empty(t, h.taken)

	h.answer(func(n int) int { // takes most, and of some denies it
		return []int{200, 500, 0, 204}[n%4]
	})
	p, _ = startAudited(t, dir, behind.URL, env...)
	eventually(t, func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.taken) >= 5 }, "nothing is delivered")
	require.NoError(t, p.cmd.Process.Kill())
	<-p.exited

	h.answer(func(int) int { return 200 })
	p, _ = startAudited(t, dir, behind.URL, env...)
	spool := filepath.Join(dir, ".gatehound/events/*/*")
	eventually(t, func() bool { left, _ := filepath.Glob(spool); return len(left) == 0 }, "the spool is never empty")

	access, usage := h.events(t)
	answers := 0
	for what := range changed.Range {
		e, arrived := access[what.(string)]
		require.True(t, arrived, "the event of %s is lost", what)
		require.Equal(t, types.APIAccessEvent{Actor: &types.Actor{Sub: "admin"}, Path: "/system/functions", Method: "PUT", Actions: []string{"Function:Update"},
			ResponseCode: 202, CustomMessage: what.(string), Namespace: "dev", Time: e.Time}, e)
		answers++
	}
	for i := range functions {
		name := fmt.Sprintf("f-%d", i)
		arrived := int64(usage[name])
		require.GreaterOrEqual(t, arrived, called[i].Load(), "events of %s are lost", name)
		require.LessOrEqual(t, arrived, sent[i].Load(), "there are more events of %s than calls", name)
		answers += int(called[i].Load())
	}
	require.GreaterOrEqual(t, answers, int(total))
	t.Logf("%d requests answered; %d + %d events in %d deliveries", answers, len(access), sum(usage), len(h.taken))
	require.NotContains(t, p.stderr.String(), "hunter2")
	require.NotContains(t, p.stderr.String(), hookSecret)
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestEventsSlowWebhook: calls do not wait for a webhook that hangs.
func TestEventsSlowWebhook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release := make(chan struct{})
	var hanging atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		hanging.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte(hookSecret), 0o600))
	p, url := startAudited(t, dir, newProvider(t).URL, "auditing=true", "metering=true", "events_url="+slow.URL, "events_secret_file="+secret, "events_batch_wait=10ms", "events_timeout=1h")
	admin := adminOf(t, dir)
	for i := range 200 {
		began := time.Now()
		require.Equal(t, 200, do(t, "POST", url+"/function/env", "moo").status)
		req, err := http.NewRequestWithContext(context.Background(), "DELETE", url+"/system/functions", strings.NewReader(`{"functionName":"env"}`))
		require.NoError(t, err)
		req.SetBasicAuth("admin", admin)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, 202, res.StatusCode)
		require.Less(t, time.Since(began), patience/4, "request %d", i)
	}
	eventually(t, func() bool { return hanging.Load() == 2 }, "one delivery of each type is under way, and no more")
	close(release)
	spool := filepath.Join(dir, ".gatehound/events/*/*")
	eventually(t, func() bool { left, _ := filepath.Glob(spool); return len(left) == 0 }, "they are never delivered")
	require.NotContains(t, p.stderr.String(), "WRN")
}

// TestEventsToFiles has events as lines in a file, and on stdout.
func TestEventsToFiles(t *testing.T) {
	t.Parallel()
	behind := newProvider(t)
	for name, file := range map[string]string{"a file": "events.jsonl", "stdout": "-"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, url := startAudited(t, dir, behind.URL, "auditing=true", "auditing_http_verbs=get,DELETE", "metering=true", "metering_exclude_namespaces=free,free2", "events_file="+file)
			require.Equal(t, 401, get(t, url+"/system/functions?x=hunter2").status)
			require.Equal(t, 401, do(t, "DELETE", url+"/system/functions", "").status)
			require.Equal(t, 401, do(t, "PUT", url+"/system/functions", "").status)
			require.Equal(t, 200, get(t, url+"/function/env").status)
			get(t, url+"/function/env.free")
			require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
			require.Zero(t, p.wait(t))
			text := p.stdout.String()
			if file != "-" {
				require.Empty(t, text)
				data, err := os.ReadFile(filepath.Join(dir, file))
				require.NoError(t, err)
				text = string(data)
			}
			require.Len(t, lines(text), 3)
			require.Regexp(t, `(?m)^{"event":"api_access","path":"/system/functions","method":"GET","actions":\[\],"response_code":401,"time":"\S+Z"}$`, text)
			require.Regexp(t, `(?m)^{"event":"api_access","path":"/system/functions","method":"DELETE","actions":\[\],"response_code":401,"time":"\S+Z"}$`, text)
			require.Regexp(t, `(?m)^{"event":"function_usage","namespace":"dev","function_name":"env","started":"\S+Z","duration":\d+,"memory_bytes":67108864}$`, text)
		})
	}
}

// TestEventsReaderLeaves: a gateway outlives the reader of its stdout, and keeps
// what that one has not read.
func TestEventsReaderLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stderr := newOutput()
	cmd := exec.Command(binary("gateway"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, writer, stderr
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0", "metering=true", "events_file=-", "events_batch_wait=1ms", "function_namespace=dev",
		"functions_provider_url=" + newProvider(t).URL, "listen=127.0.0.1:0", "metrics_port=0"}
	require.NoError(t, cmd.Start())
	p := &program{cmd: cmd, stderr: stderr, stdout: newOutput(), exited: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-p.exited })
	require.NoError(t, errors.Join(writer.Close(), reader.Close()))
	url := stderr.find(t, p, `listening on (http://\S+),`)[1]
	require.Equal(t, 200, get(t, url+"/function/env").status)
	stderr.find(t, p, `function_usage events cannot be delivered, .* broken pipe`)
	require.Equal(t, 200, get(t, url+"/function/env").status)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Zero(t, p.wait(t))

	again, _ := startAudited(t, dir, newProvider(t).URL, "metering=true", "events_file=-")
	again.stdout.find(t, again, `(?s)"event":"function_usage".*"event":"function_usage"`)
}

func TestEventsStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	require.NoError(t, os.WriteFile(short, []byte("hunter2\n"), 0o600))
	blocked := filepath.Join(dir, "data")
	require.NoError(t, os.Mkdir(blocked, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(blocked, "events"), nil, 0o600))
	for _, c := range []struct {
		env  []string
		says string
	}{
		{[]string{"events_url=http://127.0.0.1:9", "events_secret_file=" + filepath.Join(dir, "missing")}, "events_secret_file: open "},
		{[]string{"events_url=http://127.0.0.1:9", "events_secret_file=" + short}, "holds 7 bytes, want a secret of at least 8"},
		{[]string{"events_url=https://127.0.0.1:9", "events_secret_file=" + short, "ca_bundle_path=" + short}, "ca_bundle_path: "},
		{[]string{"events_file=-", "data_dir=" + blocked}, "the spool of api_access events: mkdir "},
		{nil, `events_url="": want a webhook`},
	} {
		p := start(t, t.TempDir(), append(append([]string{"auditing=true"}, freePorts...), c.env...), "gateway")
		require.Equal(t, 1, p.wait(t), p.stderr)
		require.Contains(t, p.stderr.String(), c.says)
		require.NotContains(t, p.stderr.String(), "hunter2")
	}
}

// TestReadmeSignature runs the README's signature checks, in shell and in Go, on a
// delivery, by https with a CA of its own.
func TestReadmeSignature(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "webhook-secret.txt"), filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(secret, []byte(hookSecret+"\n"), 0o600))
	deliveries := make(chan delivery, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		deliveries <- delivery{signature: r.Header.Get("X-Openfaas-Signature-256"), body: body}
	}))
	defer server.Close()
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	_, url := startAudited(t, dir, newProvider(t).URL, "metering=true", "events_url="+server.URL, "events_secret_file="+secret, "ca_bundle_path="+ca, "events_batch_wait=1ms")
	require.Equal(t, 200, get(t, url+"/function/env").status)
	var d delivery
	select {
	case d = <-deliveries:
	case <-time.After(patience):
		require.Fail(t, "nothing is delivered")
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "body.json"), d.body, 0o600))

	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)### Events\n(.*?)\n### `).FindSubmatch(readme)[1]
	block := func(language string) string {
		blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(section, -1)
		return string(blocks[len(blocks)-1][1])
	}
	program := `package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
)

func main() {
	body, _ := os.ReadFile("body.json")
	secret := []byte(` + fmt.Sprintf("%q", hookSecret) + `)
	r := &http.Request{Header: http.Header{"X-Openfaas-Signature-256": {os.Getenv("SIGNATURE")}}}
	` + block("go") + `
	if !genuine {
		os.Exit(1)
	}
}
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600))
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "check"), filepath.Join(dir, "main.go"))
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, signature := range []string{d.signature, d.signature[:70] + "x", "sha256=", ""} {
		for language, cmd := range map[string]*exec.Cmd{"shell": exec.Command("sh", "-c", block("sh")), "Go": exec.Command(filepath.Join(dir, "check"))} {
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "SIGNATURE="+signature)
			out, err := cmd.CombinedOutput()
			require.Equal(t, signature == d.signature, err == nil, "%s with %q: %s", language, signature, out)
		}
	}
}
