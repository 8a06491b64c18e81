package gateway

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/gateway/provider"
)

// functionMetrics are the metrics of functions. Each function has a set of its
// own, which leaves whole when the function is deleted: a call that is then under
// way is counted in a set that nobody sees any more, and brings nothing back.
type functionMetrics struct {
	provider provider.Provider
	log      zerolog.Logger
	calls    sync.Map // provider.Function → *calls
}

// calls are what was counted of one function.
type calls struct {
	started prometheus.Counter
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	ended   atomic.Uint64
	// usual is the status that was answered last: looking up its series by label
	// each time costs more than counting.
	usual atomic.Pointer[outcome]
}

// outcome are the series of one status.
type outcome struct {
	status  int
	total   prometheus.Counter
	seconds prometheus.Observer
}

func newCalls(f provider.Function) *calls {
	labels := prometheus.Labels{"function_name": f.String()}
	return &calls{
		started: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "gateway_function_invocation_started",
			Help:        "Function invocations that have begun.",
			ConstLabels: labels,
		}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "gateway_function_invocation_total",
			Help:        "Function invocations that have ended.",
			ConstLabels: labels,
		}, []string{"code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "gateway_functions_seconds",
			Help:        "Seconds until a function's answer began.",
			ConstLabels: labels,
		}, []string{"code"}),
	}
}

// call is one that has begun.
type call struct {
	of    *calls
	begin time.Time
}

// invoked counts a call's begin.
func (m *functionMetrics) invoked(f provider.Function) call {
	counted, ok := m.calls.Load(f)
	if !ok {
		counted, _ = m.calls.LoadOrStore(f, newCalls(f))
	}
	c := call{counted.(*calls), time.Now()}
	c.of.started.Inc()
	return c
}

// end counts a call's end by the status answered.
func (c call) end(status int) {
	o := c.of.usual.Load()
	if o == nil || o.status != status {
		code := strconv.Itoa(status)
		o = &outcome{status, c.of.total.WithLabelValues(code), c.of.seconds.WithLabelValues(code)}
		c.of.usual.Store(o)
	}
	o.total.Inc()
	c.of.ended.Add(1)
	o.seconds.Observe(time.Since(c.begin).Seconds())
}

// invocations returns how many calls of f have ended.
func (m *functionMetrics) invocations(f provider.Function) float64 {
	if c, ok := m.calls.Load(f); ok {
		return float64(c.(*calls).ended.Load())
	}
	return 0
}

// forget ends the series of a function that is deleted. Another of its name
// begins at zero.
func (m *functionMetrics) forget(f provider.Function) { m.calls.Delete(f) }

// Describe implements prometheus.Collector. It says nothing, as the functions are
// not known beforehand.
func (m *functionMetrics) Describe(chan<- *prometheus.Desc) {}

var serviceCountDesc = prometheus.NewDesc("gateway_service_count", "Replicas of a function.", []string{"function_name"}, nil)

// Collect implements prometheus.Collector. It asks the provider for the replicas
// at each scrape, and so learns which functions others have deleted.
func (m *functionMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	functions, err := m.provider.List(ctx, "")
	if err != nil {
		m.log.Warn().Msgf("gateway_service_count: %v", err)
	}
	listed := make(map[provider.Function]bool)
	for _, f := range functions {
		name := provider.Function{Namespace: f.Namespace, Name: f.Name}
		listed[name] = true
		ch <- prometheus.MustNewConstMetric(serviceCountDesc, prometheus.GaugeValue, float64(f.Replicas), name.String())
	}
	for key, counted := range m.calls.Range {
		if err == nil && !listed[key.(provider.Function)] && m.isGone(ctx, key.(provider.Function)) {
			m.calls.CompareAndDelete(key, counted)
			continue
		}
		c := counted.(*calls)
		c.started.Collect(ch)
		c.total.Collect(ch)
		c.seconds.Collect(ch)
	}
}

// isGone reports whether there is no f. That a list is without it is not enough:
// a provider may not list every namespace, and counters must not start anew each
// time.
func (m *functionMetrics) isGone(ctx context.Context, f provider.Function) bool {
	_, err := m.provider.Status(ctx, f, false)
	return errors.Is(err, provider.ErrNotFound)
}
