package watchdog

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gatehound/gatehound/config"
)

// metrics are of requests to the function; health checks do not count.
type metrics struct {
	registry *prometheus.Registry
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
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
	}
	m.registry.MustRegister(m.total, m.duration, m.inFlight,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts a request that is done. Methods are labelled as promhttp does,
// in lower case, and made-up ones alike: a client must not create series.
func (m *metrics) observe(method string, status int, took time.Duration) {
	label := "unknown"
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		label = strings.ToLower(method)
	}
	code := strconv.Itoa(status)
	m.inFlight.Dec()
	m.total.WithLabelValues(code, label).Inc()
	m.duration.WithLabelValues(code, label).Observe(took.Seconds())
}

// serve serves /metrics on the metrics port; the caller closes the server.
func (m *metrics) serve(s config.Watchdog) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	if s.MetricsPort == 0 {
		return server, nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(metricsHost(s), strconv.Itoa(s.MetricsPort)))
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics (metrics_port=0 turns them off): %w", err)
	}
	go server.Serve(ln)
	return server, nil
}
