package gateway

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/gateway/provider"
)

// metrics are the gateway's, with upstream's names. Labels are taken from
// functions that exist and from our own error codes alone: a scan of random
// names creates no series.
type metrics struct {
	registry  *prometheus.Registry
	total     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	started   *prometheus.CounterVec
	exchanges *prometheus.CounterVec
	// authorizations are by action and outcome.
	authorizations *prometheus.CounterVec
	ended          sync.Map // provider.Function → *atomic.Uint64
}

func newMetrics(p provider.Provider, log zerolog.Logger) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_total",
			Help: "Function invocations that have ended.",
		}, []string{"function_name", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_functions_seconds",
			Help: "Seconds until a function's answer began.",
		}, []string{"function_name", "code"}),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_function_invocation_started",
			Help: "Function invocations that have begun.",
		}, []string{"function_name"}),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_token_exchange_total",
			Help: "Token exchanges by outcome: ok or the OAuth error code.",
		}, []string{"result"}),
		authorizations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_authorization_total",
			Help: "Requests to /system/ by the action wanted and its outcome: allowed, denied or unauthenticated.",
		}, []string{"action", "result"}),
	}
	m.registry.MustRegister(m.total, m.seconds, m.started, m.exchanges, m.authorizations,
		serviceCount{provider: p, log: log},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// invoked counts a call's begin, and its end when the result is called with
// the status answered.
func (m *metrics) invoked(f provider.Function) func(status int) {
	name, started := f.String(), time.Now()
	m.started.WithLabelValues(name).Inc()
	return func(status int) {
		code := strconv.Itoa(status)
		m.total.WithLabelValues(name, code).Inc()
		n, _ := m.ended.LoadOrStore(f, new(atomic.Uint64))
		n.(*atomic.Uint64).Add(1)
		m.seconds.WithLabelValues(name, code).Observe(time.Since(started).Seconds())
	}
}

// invocations returns how many calls of f have ended.
func (m *metrics) invocations(f provider.Function) float64 {
	if n, ok := m.ended.Load(f); ok {
		return float64(n.(*atomic.Uint64).Load())
	}
	return 0
}

func (m *metrics) authorized(action, result string) {
	m.authorizations.WithLabelValues(action, result).Inc()
}

func (m *metrics) exchanged(result string) { m.exchanges.WithLabelValues(result).Inc() }

// serviceCount asks the provider how many replicas there are, at each scrape.
type serviceCount struct {
	provider provider.Provider
	log      zerolog.Logger
}

var serviceCountDesc = prometheus.NewDesc("gateway_service_count", "Replicas of a function.", []string{"function_name"}, nil)

// Describe implements prometheus.Collector.
func (s serviceCount) Describe(ch chan<- *prometheus.Desc) { ch <- serviceCountDesc }

// Collect implements prometheus.Collector.
func (s serviceCount) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	functions, err := s.provider.List(ctx, "")
	if err != nil {
		s.log.Warn().Msgf("gateway_service_count: %v", err)
		return
	}
	for _, f := range functions {
		name := provider.Function{Namespace: f.Namespace, Name: f.Name}
		ch <- prometheus.MustNewConstMetric(serviceCountDesc, prometheus.GaugeValue, float64(f.Replicas), name.String())
	}
}

// MetricsHandler serves /metrics and /healthz, for the metrics port.
func (g *Gateway) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("OK\n"))
	})
	return mux
}
