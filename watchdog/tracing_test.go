package watchdog

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/test/freeport"
)

// collector is an OTLP/HTTP collector that reads requests loosely, so that it
// sees what is sent and not what we think we send.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
	spans   []map[string]any
	service string
	status  int
	hang    chan struct{}
}

func newCollector(t *testing.T) *collector {
	c := &collector{status: 200}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.hang != nil {
			select {
			case <-c.hang:
			case <-r.Context().Done():
			}
		}
		var export struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes []map[string]any }
				ScopeSpans []struct{ Spans []map[string]any }
			}
		}
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := json.Unmarshal(b, &export); err != nil || r.URL.Path != "/v1/traces" || r.Method != "POST" {
			w.WriteHeader(400)
			return
		}
		c.headers = append(c.headers, r.Header)
		for _, rs := range export.ResourceSpans {
			c.service = attributes(rs.Resource.Attributes)["service.name"]
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(c.status)
		io.WriteString(w, "{}")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) all() []map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]map[string]any(nil), c.spans...)
}

func attributes(list any) map[string]string {
	b, _ := json.Marshal(list)
	var attrs []struct {
		Key   string
		Value map[string]string
	}
	json.Unmarshal(b, &attrs)
	m := map[string]string{}
	for _, a := range attrs {
		for kind, v := range a.Value {
			if kind == "intValue" {
				v = "int " + v
			}
			m[a.Key] = v
		}
	}
	return m
}

const (
	parentTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID    = "00f067aa0ba902b7"
)

func TestTracing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"http", "fork"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			env := []string{"fprocess=env"}
			prefix := "Http_Traceparent="
			if mode == "http" {
				env, prefix = httpEnv(t, 0), "Traceparent: "
			}
			p := start(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key=se%20cret",
				"OPENFAAS_NAME=env", "max_inflight=1000")...)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
			sees := func(headers ...string) (traceparent, all string) {
				t.Helper()
				all = strings.ReplaceAll(p.get("/headers?token=geheim", headers...).body, "\r", "")
				require.LessOrEqual(t, strings.Count(all, prefix), 1)
				_, rest, _ := strings.Cut(all, prefix)
				traceparent, _, _ = strings.Cut(rest, "\n")
				return traceparent, all
			}

			child, all := sees("TraceParent: 00-"+parentTrace+"-"+parentID+"-01", "tracestate: a=1")
			require.Regexp(t, "^00-"+parentTrace+"-[0-9a-f]{16}-01$", child)
			require.NotContains(t, child, parentID)
			require.Contains(t, strings.ToLower(all), "tracestate")
			root, _ := sees()
			require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", root)
			replaced, _ := sees("traceparent: 00-nonsense-01")
			require.Regexp(t, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$", replaced)
			require.NotEqual(t, root[3:35], replaced[3:35])
			unsampled := "00-" + parentTrace + "-" + parentID + "-00"
			kept, _ := sees("traceparent: " + unsampled)
			require.Equal(t, unsampled, kept)
			p.do("BREW", "/headers", "")

			p.eventually(func() bool { return len(c.all()) >= 4 }, "spans")
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, 0, p.exit())
			spans := c.all()
			require.Len(t, spans, 4, "no health checks, nothing unsampled")
			require.Equal(t, "env", c.service)
			require.Equal(t, "se cret", c.headers[0].Get("Api-Key"))
			require.Equal(t, "application/json", c.headers[0].Get("Content-Type"))
			for i, want := range []string{child, root, replaced} {
				s := spans[i]
				require.Equal(t, want[3:35], s["traceId"])
				require.Equal(t, want[36:52], s["spanId"])
				require.Equal(t, "GET", s["name"])
				require.Equal(t, 2.0, s["kind"])
				require.Equal(t, map[string]string{"http.request.method": "GET", "url.path": "/headers",
					"http.response.status_code": "int 200", "faas.name": "env"}, attributes(s["attributes"]))
				require.Regexp(t, `^\d{19}$`, s["startTimeUnixNano"])
				require.Greater(t, s["endTimeUnixNano"], s["startTimeUnixNano"])
			}
			require.Equal(t, parentID, spans[0]["parentSpanId"])
			require.Equal(t, "a=1", spans[0]["traceState"])
			require.Nil(t, spans[1]["parentSpanId"])
			require.Equal(t, "HTTP", spans[3]["name"])
			require.Equal(t, "_OTHER", attributes(spans[3]["attributes"])["http.request.method"])
			b, _ := json.Marshal(spans)
			require.NotContains(t, string(b), "geheim")
			require.NotContains(t, p.stderr.String(), "se cret")
		})
	}
}

func TestNoTracing(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0)...)
	all := p.get("/headers", "tRaceparent: any thing", "Tracestate: b=2").body
	require.Contains(t, all, "Traceparent: any thing\r\n")
	require.Contains(t, all, "Tracestate: b=2\r\n")
	require.NotContains(t, p.get("/headers").body, "Traceparent")
}

// Spans of the last calls are sent before the end; refused calls have none, and
// a failed call is marked.
func TestSpansAtTheEnd(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	p := start(t, "fprocess=sh -c 'exit 1'", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_SERVICE_NAME=other", "mode=serializing")
	require.Equal(t, 500, p.get("/").status)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	spans := c.all()
	require.Len(t, spans, 1)
	require.Equal(t, map[string]any{"code": 2.0}, spans[0]["status"])
	require.Equal(t, "other", c.service)

	i := newIssuer(t)
	p = start(t, "fprocess=cat", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "jwt_auth=1", "jwt_auth_authority="+i.URL,
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
	p.eventually(func() bool { return p.get("/").status == 401 }, "keys")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.Len(t, c.all(), 1)
}

// A collector that hangs or fails costs spans, not time, and they are counted.
func TestTracingWithoutCollector(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.hang = make(chan struct{})
	settings, err := config.ParseWatchdog([]string{"fprocess=cat", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL})
	require.NoError(t, err)
	tr := newTracer(settings, t.Logf)
	tr.begin()
	const n = 3*spanQueue + spanBatch
	began := time.Now()
	for range n {
		tr.end(&span{trace: randomHex(16), id: randomHex(8)}, "GET", "/", 200)
	}
	require.Less(t, time.Since(began), spanTimeout, "nobody waits for the collector")
	require.GreaterOrEqual(t, int(tr.dropped.Load()), n-spanQueue-2*spanBatch)
	close(c.hang)
	tr.stop(nil)
	require.Equal(t, n, int(tr.dropped.Load())+len(c.all()))

	port := freeport.Take()
	p := start(t, "fprocess=cat", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/v1/traces?key=geheim", "metrics_port="+port)
	require.Equal(t, 200, p.get("/").status)
	p.logged("Traces are dropped: the collector at http://127.0.0.1:1/v1/traces: dial ")
	require.NotContains(t, p.stderr.String(), "geheim")
	p.eventually(func() bool { return strings.Contains(scrape(t, port), "gatehound_spans_dropped_total 1\n") }, "the count")

	p = start(t, "fprocess=cat", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.URL+"?key=geheim")
	require.Equal(t, 200, p.get("/").status)
	p.logged("Traces are dropped: the collector at " + c.URL + " answered ")
}

func TestParseTraceparent(t *testing.T) {
	t.Parallel()
	for v, ok := range map[string]bool{
		"00-" + parentTrace + "-" + parentID + "-01":                  true,
		"00-" + parentTrace + "-" + parentID + "-00":                  true,
		"cc-" + parentTrace + "-" + parentID + "-01-what":             true,
		"cc-" + parentTrace + "-" + parentID + "-01what":              false,
		"00-" + parentTrace + "-" + parentID + "-01-what":             false,
		"ff-" + parentTrace + "-" + parentID + "-01":                  false,
		"00-" + strings.ToUpper(parentTrace) + "-" + parentID + "-01": false,
		"00-" + strings.Repeat("0", 32) + "-" + parentID + "-01":      false,
		"00-" + parentTrace + "-0000000000000000-01":                  false,
		"00-" + parentTrace + "-" + parentID + "-0":                   false,
		"00-" + parentTrace + "-" + parentID + "-0x":                  false,
		"00-" + parentTrace + "_" + parentID + "-01":                  false,
		"": false,
	} {
		_, _, _, got := parseTraceparent(v)
		require.Equal(t, ok, got, v)
	}
}

func FuzzParseTraceparent(f *testing.F) {
	f.Add("00-" + parentTrace + "-" + parentID + "-01")
	f.Add("cc-" + parentTrace + "-" + parentID + "-ff-x")
	f.Fuzz(func(t *testing.T, v string) {
		trace, parent, flags, ok := parseTraceparent(v)
		if !ok {
			return
		}
		a, err := hex.DecodeString(trace)
		require.NoError(t, err)
		b, err := hex.DecodeString(parent)
		require.NoError(t, err)
		require.Equal(t, []int{16, 8}, []int{len(a), len(b)})
		require.LessOrEqual(t, flags, byte(3))
	})
}

// OTLP's own modules would bring gRPC into every function's image.
func TestNoGRPC(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "./cmd/fwatchdog").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "net/http")
	require.NotContains(t, string(out), "grpc")
}
