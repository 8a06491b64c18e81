package watchdog

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// metrics are of requests to the function; health checks do not count.
type metrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	auth     map[string]prometheus.Counter // by authResult, or what a signature was worth
	failures *prometheus.CounterVec        // by failureCause

	observed sync.Map // outcomeLabels → *observers: those of total and duration
}

// outcomeLabels are the labels of total and duration.
type outcomeLabels struct {
	code   int
	method string
}

type observers struct {
	total    prometheus.Counter
	duration prometheus.Observer
}

func newMetrics() *metrics {
	labels := []string{"code", "method"}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "total HTTP requests processed"}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Seconds spent serving HTTP requests.",
			Buckets: prometheus.DefBuckets}, labels),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight", Help: "total HTTP requests in-flight"}),
		auth: make(map[string]prometheus.Counter),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehound_upstream_errors_total", Help: "Calls that the function did not answer, by cause."}, []string{"cause"}),
	}
	for _, cause := range []string{"unreachable", "timeout", "client_gone", "bad_request", "failed"} {
		m.failures.WithLabelValues(cause)
	}
	m.registry.MustRegister(m.total, m.duration, m.inFlight, m.failures,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds what is read from w when somebody asks for the metrics.
func (m *metrics) watch(w *Watchdog) {
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehound_build_info", Help: "1, with the program's version."}, []string{"version", "revision"})
	build.WithLabelValues(config.Version()).Set(1)
	m.registry.MustRegister(build)
	var results []string
	if w.keys != nil {
		results = append(results, "ok", "no_bearer", "invalid", "forbidden", "unavailable", "skipped")
	}
	if w.webhooks != nil {
		results = append(results, "ok", "no_signature", "invalid", "unavailable")
	}
	if len(results) > 0 {
		calls := prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehound_auth_total", Help: "Calls by what their function token, or their signature, was worth."}, []string{"result"})
		m.registry.MustRegister(calls)
		for _, result := range results {
			m.auth[result] = calls.WithLabelValues(result)
		}
	}
	if w.keys != nil {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehound_jwks_age_seconds", Help: "Seconds since the issuer's keys were last fetched; +Inf = never."},
			func() float64 {
				if at := w.keys.Fetched(); !at.IsZero() {
					return time.Since(at).Seconds()
				}
				return math.Inf(1)
			}))
	}
	if w.tracer != nil {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gatehound_spans_dropped_total", Help: "Spans that could not be exported."},
			func() float64 { return float64(w.tracer.dropped.Load()) }))
	}
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

// observe counts a request that is done. Methods are labelled as promhttp does,
// in lower case.
func (m *metrics) observe(method string, status int, took time.Duration) {
	if !knownMethod(method) {
		method = "unknown"
	}
	m.inFlight.Dec()
	labels := outcomeLabels{status, method}
	o, ok := m.observed.Load(labels)
	if !ok {
		code, method := strconv.Itoa(status), strings.ToLower(method)
		o, _ = m.observed.LoadOrStore(labels, &observers{m.total.WithLabelValues(code, method), m.duration.WithLabelValues(code, method)})
	}
	o.(*observers).total.Inc()
	o.(*observers).duration.Observe(took.Seconds())
}

// serve serves /metrics on the metrics port until stop is called.
func (m *metrics) serve(s config.Watchdog) (stop func(), err error) {
	if s.MetricsPort == 0 {
		return func() {}, nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(metricsHost(s), strconv.Itoa(s.MetricsPort)))
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics (metrics_port=0 turns them off): %w", err)
	}
	server := &fasthttp.Server{
		Handler:     m.answer,
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
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
	families, err := m.registry.Gather()
	if err != nil {
		ctx.Error(fmt.Sprintf("An error has occurred while serving metrics:\n\n%s\n", err), http.StatusInternalServerError)
		return
	}
	format := expfmt.Negotiate(http.Header{"Accept": {string(ctx.Request.Header.Peek("Accept"))}})
	ctx.SetContentType(string(format))
	out := io.Writer(ctx)
	if ctx.Request.Header.HasAcceptEncoding("gzip") {
		ctx.Response.Header.Set("Content-Encoding", "gzip")
		compressed := gzip.NewWriter(ctx)
		defer compressed.Close()
		out = compressed
	}
	encoder := expfmt.NewEncoder(out, format)
	for _, family := range families {
		encoder.Encode(family) // into memory: only a family of no metrics fails
	}
}
