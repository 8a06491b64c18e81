package gateway

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/gateway/program"
	"github.com/gatehound/gatehound/gateway/provider"
)

// metrics are the gateway's, with upstream's names. Labels are taken from
// functions that exist and from our own error codes alone: a scan of random
// names creates no series.
type metrics struct {
	registry  *prometheus.Registry
	exchanges *prometheus.CounterVec
	// authorizations are by action and outcome.
	authorizations *prometheus.CounterVec
	functions      *functionMetrics
}

func newMetrics(p provider.Provider, log zerolog.Logger) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_token_exchange_total",
			Help: "Token exchanges by outcome: ok or the OAuth error code.",
		}, []string{"result"}),
		authorizations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_authorization_total",
			Help: "Requests to /system/ by the action wanted and its outcome: allowed, denied or unauthenticated.",
		}, []string{"action", "result"}),
		functions: &functionMetrics{provider: p, log: log},
	}
	m.registry.MustRegister(m.exchanges, m.authorizations, m.functions,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) authorized(action, result string) {
	m.authorizations.WithLabelValues(action, result).Inc()
}

func (m *metrics) exchanged(result string) { m.exchanges.WithLabelValues(result).Inc() }

// MetricsHandler serves /metrics and /healthz, for the metrics port.
func (g *Gateway) MetricsHandler() http.Handler {
	return program.MetricsHandler(g.metrics.registry)
}
