package test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// prometheus is a real one, running.
type prometheus struct {
	*program
	port string
}

// scrapes are the README's configurations: one for gateways by address, and one for
// the pods of a cluster.
func scrapes(t *testing.T) (gateways, pods string) {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```yaml\n(scrape_configs:\n.*?)```.*?```yaml\n(scrape_configs:\n.*?)```").FindStringSubmatch(string(readme))
	require.NotNil(t, found, "the README does not say how to scrape")
	return found[1], found[2]
}

// startPrometheus starts one that scrapes the gateways with these metrics ports as
// the README says it, but five times a second, and the pod with this one.
func startPrometheus(t *testing.T, pod string, gateways ...string) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	require.NoError(t, err, "GATEHOUND_PROMETHEUS is set: install Debian's prometheus, as .ci/prometheus does")
	byAddress, pods := scrapes(t)
	dir := t.TempDir()
	config := strings.ReplaceAll(byAddress, "127.0.0.1:8082", "127.0.0.1:"+strings.Join(gateways, ", 127.0.0.1:"))
	require.NotEqual(t, byAddress, config)
	// In the place of an API server's pods two, of which one does not want to be
	// scraped: Debian's Prometheus has been built without Kubernetes.
	discovered := regexp.MustCompile(`(?m)^ +kubernetes_sd_configs:\n(?: +- role.*\n)(?: {8,}.*\n)*`).FindString(pods)
	require.NotEmpty(t, discovered)
	config += strings.TrimPrefix(strings.ReplaceAll(pods, discovered, fmt.Sprintf(`
    static_configs:
      - targets: [127.0.0.1:8080]
        labels: {__meta_kubernetes_pod_annotation_prometheus_io_scrape: "true", __meta_kubernetes_pod_annotation_prometheus_io_port: "%s"}
      - targets: [127.0.0.1:1]
`, pod)), "scrape_configs:\n")
	config = regexp.MustCompile(`scrape_interval: \S+`).ReplaceAllString(config, "scrape_interval: 200ms")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	p := &prometheus{port: freeport.Take()}
	p.program = start(t, dir, nil, path, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:"+p.port)
	t.Cleanup(func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }) // else it would not end
	return p
}

// value asks for a number; what there is none of is -1.
func (p *prometheus) value(t *testing.T, query string) float64 {
	t.Helper()
	res, err := http.Get("http://127.0.0.1:" + p.port + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return -1 // it has not begun to listen
	}
	defer res.Body.Close()
	var a struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if json.NewDecoder(res.Body).Decode(&a) != nil || len(a.Data.Result) == 0 {
		return -1
	}
	require.Len(t, a.Data.Result, 1, query)
	n, err := strconv.ParseFloat(a.Data.Result[0].Value[1].(string), 64)
	require.NoError(t, err)
	return n
}

// scraped is a gateway with one function, whose figures come from a Prometheus.
type scraped struct {
	*gatewayUp
	function string
	admin    string
	browser  *browser
}

// startScraped starts one that asks the Prometheus at a port, in dir.
func startScraped(t *testing.T, dir, function, prometheus, metrics string) *scraped {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), fmt.Appendf(nil, `
functions:
  %s:
    fprocess: %q
    environment: {mode: http, %s: "1"}
`, function, os.Args[0], functionVariable), 0o600))
	g := startUp(t, dir, []string{"faas_prometheus_host=127.0.0.1", "faas_prometheus_port=" + prometheus, "metrics_port=" + metrics}, "-f", "stack.yml")
	s := &scraped{g, function, g.admin(t), newBrowser(t, g.url)}
	s.browser.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {g.password(t)}})
	return s
}

// call has the function answer with a code, after a time, n times.
func (s *scraped) call(t *testing.T, n, code int, after time.Duration) {
	t.Helper()
	for range n {
		require.Equal(t, code, get(t, fmt.Sprintf("%s/function/%s/status?code=%d&after=%s", s.url, s.function, code, after)).status)
	}
}

// invocations are those that the API tells.
func (s *scraped) invocations(t *testing.T) float64 {
	t.Helper()
	a := get(t, s.url+"/system/functions", s.admin)
	require.Equal(t, 200, a.status, a.body)
	var all []types.FunctionStatus
	require.NoError(t, json.Unmarshal([]byte(a.body), &all))
	require.Len(t, all, 1)
	return all[0].InvocationCount
}

// figures are what a function's page says of the last hour.
type figures struct {
	everywhere     bool
	calls, errors  map[string]float64       // by code, with its text
	latency        map[string]time.Duration // by quantile
	summary, share string
}

func (s *scraped) figures(t *testing.T) figures {
	t.Helper()
	page, at := s.browser.open(t, "/ui/functions/openfaas-fn/"+s.function)
	require.Equal(t, "/ui/functions/openfaas-fn/"+s.function, at)
	require.Equal(t, 200, page.status, page.body)
	f := figures{everywhere: strings.Contains(page.body, "Calls through all gateways, as Prometheus has counted them."),
		calls: map[string]float64{}, errors: map[string]float64{}, latency: map[string]time.Duration{}}
	require.NotEqual(t, f.everywhere, strings.Contains(page.body, "Calls through this gateway, which has just started."))
	for _, figure := range strings.Split(page.body, `<figure class="chart">`)[1:] {
		summary := regexp.MustCompile(`class="summary">([^<]*)<`).FindStringSubmatch(figure)
		for _, item := range regexp.MustCompile(`</svg>([^<]*) <b>([^<]*)</b></li>`).FindAllStringSubmatch(figure, -1) {
			name, total := html.UnescapeString(item[1]), html.UnescapeString(item[2])
			n, err := strconv.ParseFloat(total, 64)
			switch {
			case strings.Contains(figure, ">Calls per minute<"):
				require.NoError(t, err)
				f.calls[name], f.summary = n, summary[1]
			case strings.Contains(figure, ">Errors per minute<"):
				require.NoError(t, err)
				f.errors[name], f.share = n, summary[1]
			default:
				f.latency[name], err = time.ParseDuration(strings.ReplaceAll(total, " ", ""))
				require.NoError(t, err)
			}
		}
	}
	return f
}

// eventuallyFigures waits for figures, and shows the last ones if they do not come.
func (s *scraped) eventuallyFigures(t *testing.T, ok func(figures) bool) (f figures) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if f = s.figures(t); ok(f) {
			return f
		}
		require.False(t, time.Now().After(deadline), "%+v", f)
	}
}

// TestRealPrometheus has a Prometheus scrape two gateways as the README says it,
// and looks whether they say the truth of each other's calls: after a restart, and
// while it cannot be asked.
func TestRealPrometheus(t *testing.T) {
	t.Parallel()
	if os.Getenv("GATEHOUND_PROMETHEUS") == "" {
		t.Skip("NOT TESTED WITH A REAL PROMETHEUS: set GATEHOUND_PROMETHEUS=1, as .ci/prometheus does")
	}
	one, other, pod := freeport.Take(), freeport.Take(), freeport.Take()
	p := startPrometheus(t, pod, one, other)
	dir := t.TempDir()
	g, g2 := startScraped(t, dir, "answers", p.port, one), startScraped(t, t.TempDir(), "answers", p.port, other)
	unknown := startScraped(t, t.TempDir(), "unknown", p.port, "0")
	w := start(t, t.TempDir(), []string{"listen=127.0.0.1:0", "metrics_port=" + pod, "healthcheck_interval=0", "mode=streaming", "fprocess=cat"}, "fwatchdog")
	direct := "http://" + w.stderr.find(t, w, `Serving mode streaming on (\S+),`)[1]
	eventually(t, func() bool { return p.value(t, "sum(up)") == 3 }, "what is there is not scraped")
	require.Equal(t, 3.0, p.value(t, "count(up)"), "a pod is scraped that has not asked for it")

	// Most codes have had all their calls at the first scrape: rate() would miss them.
	g.call(t, 20, 200, 0)
	g.call(t, 5, 404, 0)
	g.call(t, 1, 500, 0)
	g.call(t, 4, 200, 300*time.Millisecond)
	require.Equal(t, 404, get(t, g.url+"/function/nobody").status)
	g2.call(t, 2, 200, 0)
	g2.call(t, 1, 503, 0)
	const ok, unavailable = "200 OK", "503 Service Unavailable"
	errors := map[string]float64{"404 Not Found": 5, "500 Internal Server Error": 1, unavailable: 1}
	for _, s := range []*scraped{g, g2} {
		eventually(t, func() bool { return s.invocations(t) == 33 }, "the calls are not counted")
		f := s.eventuallyFigures(t, func(f figures) bool { return f.calls[ok] == 26 && f.calls[unavailable] == 1 })
		require.True(t, f.everywhere)
		require.Equal(t, errors, f.errors)
		require.Len(t, f.calls, 4)
		require.Equal(t, "33 calls, 0.55 a minute on average", f.summary)
		require.Equal(t, "7 errors, 21.2% of calls", f.share)
		// 29 of 33 took next to nothing, and four 300 ms: in the bucket from 250 to 500,
		// unless this machine is slow.
		require.Less(t, f.latency["p50"], 250*time.Millisecond)
		require.Greater(t, f.latency["p95"], 250*time.Millisecond)
		eventually(t, func() bool {
			list, _ := s.browser.open(t, "/ui/")
			return strings.Contains(list.body, "33 calls in the last hour, 7 errors")
		}, "the list has other figures")
	}
	require.Equal(t, 200, get(t, direct).status)
	eventually(t, func() bool {
		return p.value(t, `http_requests_total{job="openfaas-pods",code="200",method="get"}`) == 1
	}, "fwatchdog's calls are not scraped")
	require.Equal(t, -1.0, p.value(t, `gateway_function_invocation_total{function_name=~"nobody.*"}`))

	// It knows of no calls of a gateway that it does not scrape.
	unknown.call(t, 1, 200, 0)
	eventually(t, func() bool { return unknown.invocations(t) == 0 }, "own calls are shown as Prometheus'")
	f := unknown.eventuallyFigures(t, func(f figures) bool { return f.everywhere })
	require.Empty(t, f.calls)

	// What a gateway has counted itself ends with it; Prometheus' figures do not.
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, g.wait(t))
	g = startScraped(t, dir, "answers", p.port, one)
	f = g.eventuallyFigures(t, func(f figures) bool { return f.everywhere })
	require.Equal(t, errors, f.errors)
	require.Equal(t, 26.0, f.calls[ok])
	g.call(t, 2, 200, 0)
	g.call(t, 1, 418, 0)
	g.eventuallyFigures(t, func(f figures) bool {
		return f.calls["418 I'm a teapot"] == 1 && f.calls["404 Not Found"] == 5 && f.calls[ok] > 2
	})
	eventually(t, func() bool { return g.invocations(t) == 6 }, "the sum is not that of the counters that there are")

	// It does not answer, answers again, and has gone.
	ours := func() {
		t.Helper()
		f := g.eventuallyFigures(t, func(f figures) bool { return !f.everywhere && f.calls[ok] == 2 })
		require.Len(t, f.calls, 2)
		eventually(t, func() bool { return g.invocations(t) == 3 }, "the own calls are not shown")
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	ours()
	quickest := time.Hour
	for range 3 {
		begin := time.Now()
		g.figures(t)
		quickest = min(quickest, time.Since(begin))
	}
	require.Less(t, quickest, time.Second, "everybody waits for a Prometheus that does not answer")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	g.eventuallyFigures(t, func(f figures) bool { return f.everywhere && f.calls["404 Not Found"] == 5 })
	eventually(t, func() bool { return g.invocations(t) == 6 }, "Prometheus' counts do not come back")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.wait(t))
	ours()
	for _, said := range []string{"context deadline exceeded", "connection refused"} {
		for _, instead := range []string{"the last hour is this gateway's", "invocations are those of this gateway"} {
			g.stderr.find(t, g.program, "faas_prometheus_host: 127.0.0.1:"+p.port+": .*"+said+".*; "+instead+" until it answers")
		}
	}
	require.NotContains(t, g.stderr.String(), "query=")
}

// TestNoPrometheus has something else answer in its place.
func TestNoPrometheus(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>Welcome</title>")
	}))
	t.Cleanup(web.Close)
	u, err := url.Parse(web.URL)
	require.NoError(t, err)
	g := startScraped(t, t.TempDir(), "answers", u.Port(), "0")
	g.call(t, 2, 404, 0)
	f := g.eventuallyFigures(t, func(f figures) bool { return f.calls["404 Not Found"] == 2 })
	require.False(t, f.everywhere)
	require.Equal(t, 2.0, g.invocations(t))
	g.stderr.find(t, g.program, "the answer is bad JSON")
}

// TestRealMetrics has promtool judge what all programs expose.
func TestRealMetrics(t *testing.T) {
	t.Parallel()
	if os.Getenv("GATEHOUND_PROMETHEUS") == "" {
		t.Skip("METRICS ARE NOT CHECKED BY PROMETHEUS' promtool: set GATEHOUND_PROMETHEUS=1, as .ci/prometheus does")
	}
	ports := map[string]string{"gateway": freeport.Take(), "fwatchdog": freeport.Take(), "federated-gateway": freeport.Take()}
	g := startUp(t, "", []string{"metrics_port=" + ports["gateway"], "metering=true", "events_file=events"})
	require.Equal(t, 200, get(t, g.url+"/function/env").status)
	require.Equal(t, 401, get(t, g.url+"/system/functions").status)
	g.functionToken(t)

	w := start(t, t.TempDir(), []string{"listen=127.0.0.1:0", "metrics_port=" + ports["fwatchdog"], "mode=streaming", "fprocess=cat", "jwt_auth=true", "jwt_auth_authority=" + g.url, "OPENFAAS_NAME=cat", "OPENFAAS_NAMESPACE=dev", "healthcheck_interval=0",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + g.url}, "fwatchdog")
	require.Equal(t, 401, get(t, "http://"+w.stderr.find(t, w, `Serving mode streaming on (\S+),`)[1]).status)

	federated := filepath.Join(t.TempDir(), "federated-gateway")
	out, err := exec.Command("go", "build", "-o", federated, "../gateway/cmd/federated-gateway").CombinedOutput()
	require.NoError(t, err, "%s", out)
	f := start(t, t.TempDir(), []string{"listen=127.0.0.1:0", "metrics_port=" + ports["federated-gateway"], "gateway_url=" + g.url,
		"issuer=" + g.url + "/dev-idp", "audience=cluster", "secret_mount_path=" + filepath.Join(g.dir, ".gatehound/secrets")}, federated)
	require.Equal(t, 401, get(t, f.stderr.find(t, f, `listening on (http://\S+),`)[1]+"/system/functions").status)

	upstream := "gateway_function_invocation_started counter metrics should have \"_total\" suffix\n" +
		"gateway_service_count non-histogram and non-summary metrics should not have \"_count\" suffix\n"
	for name, want := range map[string][]string{
		"gateway":           {"gateway_function_invocation_total", "gateway_authorization_total", "gateway_token_exchange_total", "gateway_events_total"},
		"fwatchdog":         {"http_requests_total", "gatehound_auth_total", "gatehound_jwks_age_seconds", "gatehound_spans_dropped_total"},
		"federated-gateway": {"federated_gateway_requests_total"},
	} {
		exposed := get(t, "http://127.0.0.1:"+ports[name]+"/metrics").body
		for _, metric := range want {
			require.Contains(t, exposed, "\n# TYPE "+metric+" ", name)
			require.Regexp(t, `(?m)^`+metric+`[ {]`, exposed, name)
		}
		cmd := exec.Command("promtool", "check", "metrics")
		cmd.Stdin = strings.NewReader(exposed)
		out, _ := cmd.CombinedOutput() // its exit code is 3 for upstream's names
		require.Empty(t, strings.TrimPrefix(string(out), upstream), name)
	}
}
