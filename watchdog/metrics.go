package watchdog

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// metrics are of requests to the function; health checks do not count.
type metrics struct {
	watchdog *Watchdog // nil = its own series are left out
	inFlight counter
	auth     map[string]*counter // by authResult, or what a signature was worth
	failures map[string]*counter // by failureCause

	observed  atomic.Pointer[map[outcomeLabels]*histogram] // replaced, not changed, under observing
	observing sync.Mutex

	scraping, scrapes counter
}

// outcomeLabels are the labels of requests and of their durations.
type outcomeLabels struct {
	code   int
	method string
}

func newMetrics() *metrics {
	m := &metrics{auth: make(map[string]*counter), failures: make(map[string]*counter)}
	m.observed.Store(&map[outcomeLabels]*histogram{})
	for _, cause := range []string{"unreachable", "timeout", "client_gone", "bad_request", "failed"} {
		m.failures[cause] = &counter{}
	}
	return m
}

// watch adds what is read from w when somebody asks for the metrics.
func (m *metrics) watch(w *Watchdog) {
	m.watchdog = w
	var results []string
	if w.keys != nil {
		results = append(results, "ok", "no_bearer", "invalid", "forbidden", "unavailable", "skipped")
	}
	if w.webhooks != nil {
		results = append(results, "ok", "no_signature", "invalid", "unavailable")
	}
	for _, result := range results {
		m.auth[result] = &counter{}
	}
}

// expose returns everything in Prometheus' text format.
func (m *metrics) expose() []byte {
	e := &exposition{}
	observed := *m.observed.Load()
	labels := slices.SortedFunc(maps.Keys(observed), func(a, b outcomeLabels) int {
		return cmp.Or(cmp.Compare(a.code, b.code), strings.Compare(a.method, b.method))
	})
	e.family("http_requests_total", "counter", "total HTTP requests processed")
	for _, l := range labels {
		e.sample("", float64(observed[l].count()), l.pairs()...)
	}
	e.family("http_request_duration_seconds", "histogram", "Seconds spent serving HTTP requests.")
	for _, l := range labels {
		e.histogram(observed[l], l.pairs()...)
	}
	e.gauge("http_requests_in_flight", "total HTTP requests in-flight", m.inFlight.Value())
	e.counters("gatehound_upstream_errors_total", "Calls that the function did not answer, by cause.", "cause", m.failures)
	if len(m.auth) > 0 {
		e.counters("gatehound_auth_total", "Calls by what their function token, or their signature, was worth.", "result", m.auth)
	}
	if w := m.watchdog; w != nil {
		version, revision := config.Version()
		e.family("gatehound_build_info", "gauge", "1, with the program's version.")
		e.sample("", 1, "revision", revision, "version", version)
		if w.keys != nil {
			age := math.Inf(1)
			if at := w.keys.Fetched(); !at.IsZero() {
				age = time.Since(at).Seconds()
			}
			e.gauge("gatehound_jwks_age_seconds", "Seconds since the issuer's keys were last fetched; +Inf = never.", age)
		}
		if w.tracer != nil {
			e.counter("gatehound_spans_dropped_total", "Spans that could not be exported.", float64(w.tracer.dropped.Load()))
		}
	}
	e.runtime()
	e.process()
	e.gauge("promhttp_metric_handler_requests_in_flight", "Scrapes being answered.", m.scraping.Value())
	e.family("promhttp_metric_handler_requests_total", "counter", "Scrapes answered, by status.")
	e.sample("", m.scrapes.Value(), "code", "200")
	e.sample("", 0, "code", "500") // it cannot fail, but dashboards ask for these
	e.sample("", 0, "code", "503")
	return e.text
}

// pairs are l's labels as sample wants them: methods in lower case, as promhttp
// has them.
func (l outcomeLabels) pairs() []string {
	return []string{"code", strconv.Itoa(l.code), "method", strings.ToLower(l.method)}
}

// authResult labels what the verifier said.
func authResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, auth.ErrNoBearer):
		return "no_bearer"
	case errors.Is(err, auth.ErrForbidden):
		return "forbidden"
	case errors.Is(err, auth.ErrUnavailable):
		return "unavailable"
	default:
		return "invalid"
	}
}

// failureCause labels an error of an invocation that became status.
func failureCause(err error, status int) string {
	switch {
	case status == http.StatusGatewayTimeout:
		return "timeout"
	case status == statusClientGone:
		return "client_gone"
	case status < 500:
		return "bad_request"
	case errors.Is(err, reverseproxy.ErrUnreachable):
		return "unreachable"
	default:
		return "failed"
	}
}

// knownMethod reports whether method is one of HTTP's own. Others are all
// labelled alike: a client must not create series.
func knownMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return true
	}
	return false
}

// observe counts a request that is done.
func (m *metrics) observe(method string, status int, took time.Duration) {
	if !knownMethod(method) {
		method = "unknown"
	}
	m.inFlight.Dec()
	labels := outcomeLabels{status, method}
	h, ok := (*m.observed.Load())[labels]
	if !ok {
		h = m.newOutcome(labels)
	}
	h.observe(took)
}

// newOutcome returns the histogram of labels that were not seen before.
func (m *metrics) newOutcome(labels outcomeLabels) *histogram {
	m.observing.Lock()
	defer m.observing.Unlock()
	observed := *m.observed.Load()
	if h, ok := observed[labels]; ok {
		return h
	}
	observed = maps.Clone(observed)
	observed[labels] = &histogram{}
	m.observed.Store(&observed)
	return observed[labels]
}

// serve serves /metrics on the metrics port until stop is called.
func (m *metrics) serve(s config.Watchdog) (stop func(), err error) {
	if s.MetricsPort == 0 {
		return func() {}, nil
	}
	// It waits until there are descriptors again, where fasthttp would give up.
	ln, err := reverseproxy.Listen("tcp", net.JoinHostPort(metricsHost(s), strconv.Itoa(s.MetricsPort)), 30*time.Second)
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics (metrics_port=0 turns them off): %w", err)
	}
	server := &fasthttp.Server{
		Handler:               m.answer,
		ReadTimeout:           10 * time.Second,
		MaxRequestBodySize:    1, // nobody has to send one
		NoDefaultServerHeader: true,
		CloseOnShutdown:       true,
		SecureErrorLogMessage: true,
		Logger:                log.New(io.Discard, "", 0),
	}
	go server.Serve(ln)
	return func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel() // do not wait for who is being answered
		server.ShutdownWithContext(ended)
	}, nil
}

// answer does what promhttp's handler does, without package net/http's server.
func (m *metrics) answer(ctx *fasthttp.RequestCtx) {
	if string(ctx.Path()) != "/metrics" {
		ctx.Error("404 page not found\n", http.StatusNotFound)
		return
	}
	if !ctx.IsGet() && !ctx.IsHead() {
		ctx.Error("Method Not Allowed\n", http.StatusMethodNotAllowed)
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		return
	}
	m.scraping.Inc()
	defer m.scraping.Dec()
	text := m.expose()
	m.scrapes.Inc()
	ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
	if !ctx.Request.Header.HasAcceptEncoding("gzip") {
		ctx.SetBody(text)
		return
	}
	ctx.Response.Header.Set("Content-Encoding", "gzip")
	compressed := gzip.NewWriter(ctx)
	compressed.Write(text)
	compressed.Close()
}
