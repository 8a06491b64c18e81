package federated

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/gatehound/gatehound/gateway/program"
)

// metrics have labels of our own words alone: a scan of random paths creates no
// series.
type metrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "federated_gateway_requests_total",
			Help: "Requests by route and by what became of them: forwarded, refused, unauthenticated, no_keys, denied or failed.",
		}, []string{"route", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "federated_gateway_request_seconds",
			Help: "Seconds until the answer to a request began.",
		}, []string{"route"}),
	}
	m.registry.MustRegister(m.total, m.seconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) served(c *call, took time.Duration) {
	if c.result == health {
		return
	}
	m.total.WithLabelValues(string(c.route), string(c.result)).Inc()
	if c.result == forwarded {
		m.seconds.WithLabelValues(string(c.route)).Observe(took.Seconds())
	}
}

// MetricsHandler serves /metrics and /healthz, for the metrics port. That tells
// that the program is alive, also while it is unready.
func (g *Gateway) MetricsHandler() http.Handler {
	return program.MetricsHandler(g.metrics.registry)
}
