package watchdog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/test/freeport"
)

func scrape(t *testing.T, port string) string {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	res, err := client.Get("http://127.0.0.1:" + port + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(b)
}

func TestAuthMetrics(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.down.Store(true)
	port := freeport.Take()
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev",
		"metrics_port="+port)
	good := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour)
	p.get("/", good)
	text := scrape(t, port)
	require.Contains(t, text, "gatehound_jwks_age_seconds +Inf\n")
	require.Contains(t, text, `gatehound_auth_total{result="unavailable"} 1`+"\n")
	require.Contains(t, text, `gatehound_auth_total{result="ok"} 0`+"\n")
	i.down.Store(false)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	p.get("/", good)
	p.get("/", good)
	p.get("/")
	p.get("/", "Authorization: Bearer nonsense")
	p.get("/", "Authorization: Bearer "+i.token(t, "dev:other", time.Hour))
	text = scrape(t, port)
	for result, n := range map[string]int{"ok": 2, "no_bearer": 1, "invalid": 1, "forbidden": 1, "unavailable": 1} {
		require.Contains(t, text, fmt.Sprintf("gatehound_auth_total{result=%q} %d\n", result, n))
	}
	age := regexp.MustCompile(`(?m)^gatehound_jwks_age_seconds (\S+)$`).FindStringSubmatch(text)
	require.NotNil(t, age)
	seconds, err := strconv.ParseFloat(age[1], 64)
	require.NoError(t, err)
	require.Greater(t, seconds, 0.0)
	require.Less(t, seconds, 60.0)
	require.Regexp(t, `(?m)^gatehound_build_info\{revision="[^"]+",version="[^"]+"\} 1$`, text)
	require.NotContains(t, text, "nonsense")
}

func TestFailureMetrics(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	p := start(t, httpEnv(t, 0, "metrics_port="+port)...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	require.NotContains(t, scrape(t, port), "gatehound_auth_total", "without jwt_auth")
	p.get("/slow", "X-Timeout: 10ms")
	p.raw("CONNECT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	io.WriteString(conn, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
	p.eventually(func() bool { return strings.Contains(p.stdout.String(), "slow call began") }, "a call in flight")
	conn.Close()
	p.logged("GET /hang - 499 ")
	text := scrape(t, port)
	for cause, n := range map[string]int{"timeout": 1, "client_gone": 1, "bad_request": 1, "unreachable": 0, "failed": 0} {
		require.Contains(t, text, fmt.Sprintf("gatehound_upstream_errors_total{cause=%q} %d\n", cause, n))
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		nil: "ok", auth.ErrNoBearer: "no_bearer", auth.ErrForbidden: "forbidden", auth.ErrUnavailable: "unavailable",
		fmt.Errorf("%w: x", auth.ErrInvalidToken): "invalid", errors.New("x"): "invalid",
	} {
		require.Equal(t, want, authResult(err))
	}
	for err, want := range map[error]string{
		executor.ErrTimeout: "timeout", reverseproxy.ErrTimeout: "timeout", reverseproxy.ErrClientGone: "client_gone",
		reverseproxy.ErrBadBody: "bad_request", reverseproxy.ErrBodyTooLarge: "bad_request",
		reverseproxy.ErrUnreachable: "unreachable", executor.ErrFailed: "failed", errors.New("x"): "failed",
	} {
		status, _ := executor.Status(err)
		require.Equal(t, want, failureCause(err, status), err)
	}
}

// reference is what Prometheus' own library makes of the same observations.
type reference struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newReference() *reference {
	labels := []string{"code", "method"}
	r := &reference{
		registry: prometheus.NewRegistry(),
		total:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "http_requests_total", Help: "total HTTP requests processed"}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Seconds spent serving HTTP requests."}, labels),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "http_requests_in_flight", Help: "total HTTP requests in-flight"}),
	}
	r.registry.MustRegister(r.total, r.duration, r.inFlight)
	return r
}

func (r *reference) observe(method string, status int, took time.Duration) {
	r.total.WithLabelValues(strconv.Itoa(status), method).Inc()
	r.duration.WithLabelValues(strconv.Itoa(status), method).Observe(took.Seconds())
}

func parseMetrics(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err, "%s", text)
	return families
}

// TestExposition compares with Prometheus' library, line by line, what is shown
// of calls, and checks that its parser reads all of it.
func TestExposition(t *testing.T) {
	t.Parallel()
	m, r := newMetrics(), newReference()
	took := []time.Duration{0, 1, time.Microsecond, 4999999, 5 * time.Millisecond, 5000001, 123456789, time.Second,
		10 * time.Second, 10*time.Second + 1, time.Hour, 1000 * time.Hour}
	for _, c := range []struct{ method, label string }{{"GET", "get"}, {"POST", "post"}, {"HEAD", "head"}, {"PROPFIND", "unknown"}, {"get", "unknown"}} {
		for _, status := range []int{200, 404, 499, 999, 100, 7, 12345} {
			for _, d := range took {
				m.inFlight.Inc()
				m.observe(c.method, status, d)
				r.observe(c.label, status, d)
				took = append(took[1:], took[0]) // sums of another order
			}
		}
	}
	for range 3 {
		m.inFlight.Inc()
		r.inFlight.Inc()
	}
	families, err := r.registry.Gather()
	require.NoError(t, err)
	want := &bytes.Buffer{}
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(want, f)
		require.NoError(t, err)
	}
	lines := func(text string) (l []string) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, "http_request") {
				l = append(l, line)
			}
		}
		slices.Sort(l) // codes are sorted as numbers here, as text there
		return l
	}
	text := m.expose()
	require.Equal(t, lines(want.String()), lines(string(text)))
	require.Len(t, parseMetrics(t, text)["http_requests_total"].Metric, 4*7)

	e := &exposition{}
	e.family("x", "gauge", "Any.")
	odd := "a\\b\"c\nd{e}=é,"
	e.sample("", math.NaN(), "one", odd, "two", "")
	one := parseMetrics(t, e.text)["x"].Metric[0]
	require.Equal(t, odd, one.Label[0].GetValue())
	require.Equal(t, "", one.Label[1].GetValue())
	require.True(t, math.IsNaN(one.Gauge.GetValue()))
}

// TestUpstreamsSeries checks that whatever Prometheus' library tells of Go and
// of the process, as upstream's watchdog does, is there by the same names.
func TestUpstreamsSeries(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m := newMetrics()
	ours := parseMetrics(t, m.expose())
	theirs, err := registry.Gather()
	require.NoError(t, err)
	require.Greater(t, len(theirs), 30)
	constant := 0
	for _, f := range theirs {
		name := f.GetName()
		got := ours[name]
		require.NotNil(t, got, name)
		require.Equal(t, f.GetType(), got.GetType(), name)
		require.Len(t, got.Metric, len(f.Metric), name)
		for i, metric := range f.Metric {
			for j, l := range metric.Label {
				require.Equal(t, l.String(), got.Metric[i].Label[j].String(), name)
			}
			require.Len(t, got.Metric[i].GetSummary().GetQuantile(), len(metric.GetSummary().GetQuantile()), name)
		}
		a, b := f.Metric[0].GetGauge().GetValue(), got.Metric[0].GetGauge().GetValue()
		switch name {
		case "go_gc_gogc_percent", "go_gc_gomemlimit_bytes", "go_sched_gomaxprocs_threads", "process_max_fds",
			"process_start_time_seconds", "process_virtual_memory_max_bytes":
			constant++
			require.Equal(t, a, b, name)
		case "go_memstats_heap_sys_bytes", "go_memstats_sys_bytes", "process_resident_memory_bytes", "process_virtual_memory_bytes":
			require.InEpsilon(t, a, b, 0.5, name) // other tests run meanwhile
		case "go_memstats_mallocs_total", "go_memstats_alloc_bytes_total", "process_cpu_seconds_total", "process_network_receive_bytes_total":
			a, b = f.Metric[0].GetCounter().GetValue(), got.Metric[0].GetCounter().GetValue()
			require.InDelta(t, a, b, 0.5*a+1, name)
		}
	}
	if runtime.GOOS == "linux" {
		require.Equal(t, 6, constant)
	}
	require.Equal(t, 20.0, gogc("20"))
	require.Equal(t, 100.0, gogc(""))
	require.Equal(t, 100.0, gogc("much"))
	require.Equal(t, float64(math.MaxUint64), gogc("off"))
	require.Equal(t, float64(math.MaxUint64), gogc("-1"))
}

// TestObserveTogether has calls end and scrapes come at the same time.
func TestObserveTogether(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	const each = 300
	var calls sync.WaitGroup
	for n := range 8 {
		calls.Go(func() {
			for i := range each {
				m.inFlight.Inc()
				m.observe([]string{"GET", "POST"}[n%2], 200+i%30, time.Second)
				if i%50 == 0 {
					for _, h := range parseMetrics(t, m.expose())["http_request_duration_seconds"].GetMetric() {
						b := h.Histogram.Bucket
						require.Equal(t, h.Histogram.GetSampleCount(), b[len(b)-1].GetCumulativeCount())
					}
				}
			}
		})
	}
	calls.Wait()
	families := parseMetrics(t, m.expose())
	var n, sum float64
	for _, h := range families["http_request_duration_seconds"].Metric {
		n += float64(h.Histogram.GetSampleCount())
		sum += h.Histogram.GetSampleSum()
	}
	require.Equal(t, 8.0*each, n)
	require.Equal(t, 8.0*each, sum)
	require.Zero(t, families["http_requests_in_flight"].Metric[0].Gauge.GetValue())
}

// TestMetricsServer compares with promhttp's handler what a scraper gets.
func TestMetricsServer(t *testing.T) {
	t.Parallel()
	m, r := newMetrics(), newReference()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}))
	reference := httptest.NewServer(mux)
	defer reference.Close()
	port := freeport.Take()
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	stop, err := m.serve(config.Watchdog{Network: "tcp", Address: "127.0.0.1:0", MetricsPort: number})
	require.NoError(t, err)
	defer stop()

	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.5"
	for _, c := range []struct{ method, path, accept, encoding string }{
		{"GET", "/metrics", "", ""},
		{"GET", "/metrics", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "gzip"},
		{"GET", "/metrics", protobuf, "gzip"}, // answered by text
		{"GET", "/metrics", protobuf, "gzip;q=0, identity"},
		{"GET", "/metrics", "application/openmetrics-text;version=1.0.0", "br"},
		{"HEAD", "/metrics", "", ""},
		{"POST", "/metrics", "", ""},
		{"GET", "/other", "", ""},
	} {
		get := func(base, accept string) (int, []string, []byte) {
			req, err := http.NewRequest(c.method, base+c.path, nil)
			require.NoError(t, err)
			req.Header.Set("Accept", accept)
			req.Header.Set("Accept-Encoding", c.encoding)
			res, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			defer res.Body.Close()
			encoding, body := res.Header.Get("Content-Encoding"), io.Reader(res.Body)
			if encoding == "gzip" && c.method != "HEAD" {
				body, err = gzip.NewReader(body)
				require.NoError(t, err)
			}
			b, err := io.ReadAll(body)
			require.NoError(t, err)
			return res.StatusCode, []string{res.Header.Get("Content-Type"), encoding, res.Header.Get("Allow")}, b
		}
		status, header, body := get("http://127.0.0.1:"+port, c.accept)
		wantStatus, wantHeader, wantBody := get(reference.URL, strings.TrimPrefix(c.accept, protobuf))
		require.Equal(t, wantStatus, status, c)
		if status == 200 || status == 405 {
			require.Equal(t, wantHeader[1:], header[1:], c)
		}
		if status != 200 {
			require.Equal(t, string(wantBody), string(body), c)
		} else {
			require.Equal(t, wantHeader[0], header[0], c)
			if c.method == "GET" {
				require.Contains(t, parseMetrics(t, body), "go_memstats_mallocs_total", c)
			}
		}
	}
	scrapes := parseMetrics(t, m.expose())["promhttp_metric_handler_requests_total"].Metric
	require.Equal(t, 6.0, scrapes[0].Counter.GetValue())
}
