package gateway

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/gateway/history"
	"github.com/gatehound/gatehound/gateway/provider"
)

// hours are how functions were called in the last hour.
type hours struct {
	ours       *history.Recorder
	prometheus *history.Prometheus // nil = ours alone
	log        zerolog.Logger

	mu      sync.Mutex
	failing bool      // Prometheus did not answer when last asked
	until   time.Time // when to ask again, after that
}

func newHours(c Config, m *functionMetrics) *hours {
	h := &hours{ours: history.NewRecorder(history.Config{Read: m.counters, Bounds: prometheus.DefBuckets}), log: c.Log}
	if c.Prometheus != "" {
		h.prometheus = &history.Prometheus{Address: c.Prometheus, Client: prometheusClient()}
	}
	return h
}

// Hour tells how a function was called in the last hour: what Prometheus has of
// all gateways or, without one or while it does not answer, what we have seen.
// Whether the caller may know is not asked here.
func (g *Gateway) Hour(ctx context.Context, namespace, name string) history.Hour {
	f := provider.Function{Namespace: namespace, Name: name}
	if g.hours.ask() {
		hour, err := g.hours.prometheus.Hour(ctx, f.String())
		if g.hours.asked(ctx, err) {
			return hour
		}
	}
	return g.hours.ours.Hour(f.String())
}

// Hours is Hour for all functions in a namespace, by "name.namespace". Those
// that nobody has called may be missing, and how long calls took, too.
func (g *Gateway) Hours(ctx context.Context, namespace string) map[string]history.Hour {
	if g.hours.ask() {
		all, err := g.hours.prometheus.Hours(ctx, namespace)
		if g.hours.asked(ctx, err) {
			return all
		}
	}
	return g.hours.ours.Hours(namespace)
}

// ask reports whether Prometheus is to be asked: while it does not answer, few
// wait for it.
func (h *hours) ask() bool {
	if h.prometheus == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing || !time.Now().Before(h.until)
}

// asked notes how that went, and logs what is new. A caller who has gone says
// nothing of Prometheus.
func (h *hours) asked(ctx context.Context, err error) (ok bool) {
	if ctx.Err() != nil {
		return err == nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && !h.failing {
		h.log.Warn().Msgf("faas_prometheus_host: %v; the last hour is this gateway's until it answers", err)
	} else if err == nil && h.failing {
		h.log.Info().Msg("faas_prometheus_host: Prometheus tells the last hour again")
	}
	h.failing, h.until = err != nil, time.Now().Add(countsFor)
	return err == nil
}

// counters reads what was counted of all functions.
func (m *functionMetrics) counters() map[string]history.Counters {
	all := make(map[string]history.Counters)
	for key, counted := range m.calls.Range {
		c := counted.(*calls)
		all[key.(provider.Function).String()] = history.Counters{Set: c, Codes: make(map[int]uint64), Buckets: make([]uint64, len(prometheus.DefBuckets)+1)}
		each(c.seconds, func(read *dto.Metric) {
			into := all[key.(provider.Function).String()]
			for _, l := range read.GetLabel() {
				if code, err := strconv.Atoi(l.GetValue()); l.GetName() == "code" && err == nil {
					into.Codes[code] += read.GetHistogram().GetSampleCount()
				}
			}
			before := uint64(0)
			for i, b := range read.GetHistogram().GetBucket() { // each has all up to its bound
				into.Buckets[i] += b.GetCumulativeCount() - before
				before = b.GetCumulativeCount()
			}
			into.Buckets[len(into.Buckets)-1] += read.GetHistogram().GetSampleCount() - before
		})
	}
	return all
}

// each reads every metric of a collector.
func each(c prometheus.Collector, use func(*dto.Metric)) {
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collect(metrics)
	}()
	for metric := range metrics {
		var read dto.Metric
		if metric.Write(&read) == nil {
			use(&read)
		}
	}
}
