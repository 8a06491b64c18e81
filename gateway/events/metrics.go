package events

import "github.com/prometheus/client_golang/prometheus"

// metrics are an outbox's. Its type is a constant label of each.
type metrics struct {
	all                                          []prometheus.Collector
	queued, delivered, dropped, damaged, retried prometheus.Counter
}

func newMetrics(eventType string, size func() float64) *metrics {
	labels := prometheus.Labels{"type": eventType}
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_events_total",
		Help: "Events that were queued, delivered, dropped (no room), damaged (on disk), or retried, once for each failed delivery that they were in.",

		ConstLabels: labels,
	}, []string{"outcome"})
	spool := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "gateway_events_spool_bytes",
		Help:        "Bytes of events that wait for delivery.",
		ConstLabels: labels,
	}, size)
	return &metrics{
		all:       []prometheus.Collector{outcomes, spool},
		queued:    outcomes.WithLabelValues("queued"),
		delivered: outcomes.WithLabelValues("delivered"),
		dropped:   outcomes.WithLabelValues("dropped"),
		damaged:   outcomes.WithLabelValues("damaged"),
		retried:   outcomes.WithLabelValues("retried"),
	}
}

// Describe implements prometheus.Collector.
func (o *Outbox) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range o.metrics.all {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (o *Outbox) Collect(ch chan<- prometheus.Metric) {
	for _, c := range o.metrics.all {
		c.Collect(ch)
	}
}
