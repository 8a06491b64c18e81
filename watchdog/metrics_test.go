package watchdog

import (
	"compress/gzip"
	"errors"
	"fmt"
	"github.com/gatehound/gatehound/config"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

func scrape(t *testing.T, port int) string {
	t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
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
	port := freePort(t)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev",
		fmt.Sprintf("metrics_port=%d", port))
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
	port := freePort(t)
	p := start(t, httpEnv(t, 0, fmt.Sprintf("metrics_port=%d", port))...)
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

// TestMetricsServer compares with promhttp's handler what a scraper gets.
func TestMetricsServer(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.registry.Unregister(collectors.NewGoCollector()) // those two differ at each call
	m.registry.Unregister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.inFlight.Inc()
	m.observe("GET", 200, time.Second)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	reference := httptest.NewServer(mux)
	defer reference.Close()
	port := freePort(t)
	stop, err := m.serve(config.Watchdog{Network: "tcp", Address: "127.0.0.1:0", MetricsPort: port})
	require.NoError(t, err)
	defer stop()

	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.5"
	for _, c := range []struct{ method, path, accept, encoding string }{
		{"GET", "/metrics", "", ""},
		{"GET", "/metrics", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "gzip"},
		{"GET", "/metrics", protobuf, "gzip"},
		{"GET", "/metrics", protobuf, "gzip;q=0, identity"},
		{"GET", "/metrics", "application/openmetrics-text;version=1.0.0", "br"},
		{"HEAD", "/metrics", "", ""},
		{"POST", "/metrics", "", ""},
		{"GET", "/other", "", ""},
	} {
		get := func(base string) (int, []string, string) {
			req, err := http.NewRequest(c.method, base+c.path, nil)
			require.NoError(t, err)
			req.Header.Set("Accept", c.accept)
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
			return res.StatusCode, []string{res.Header.Get("Content-Type"), encoding, res.Header.Get("Allow")}, string(b)
		}
		status, header, body := get(fmt.Sprintf("http://127.0.0.1:%d", port))
		wantStatus, wantHeader, wantBody := get(reference.URL)
		require.Equal(t, wantStatus, status, c)
		require.Equal(t, wantBody, body, c)
		if status == 200 || status == 405 {
			require.Equal(t, wantHeader[1:], header[1:], c)
		}
		if status == 200 {
			require.Equal(t, wantHeader[0], header[0], c)
		}
	}
}
