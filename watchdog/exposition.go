package watchdog

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// The metrics are counted and written here, not by Prometheus' own library: the
// packages that it needs took a third of the program's start, see
// benchmarks/README.md. Tests compare the two.

// counter is a number that many may change at once. Those that only grow are
// counters to Prometheus, the others gauges.
type counter struct{ n atomic.Int64 }

func (c *counter) Inc()           { c.n.Add(1) }
func (c *counter) Dec()           { c.n.Add(-1) }
func (c *counter) Value() float64 { return float64(c.n.Load()) }

// bounds are the upper ends of a histogram's buckets in seconds, as Prometheus'
// libraries have them unless told otherwise.
var bounds = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// histogram counts durations by their length.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64 // each without those before it
	sum     atomic.Uint64                  // the bits of a float64, in seconds
}

func (h *histogram) observe(took time.Duration) {
	seconds, i := took.Seconds(), 0
	for i < len(bounds) && seconds > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+seconds)) {
			return
		}
	}
}

// count returns how many were observed.
func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// exposition writes Prometheus' text format, version 0.0.4.
type exposition struct {
	text []byte
	name string // the family's
}

// family begins a metric; kind is its type. Its samples must follow.
func (e *exposition) family(name, kind, help string) {
	e.name = name
	e.text = append(e.text, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// gauge and counter write a metric that has one sample, without labels.
func (e *exposition) gauge(name, help string, value float64) {
	e.family(name, "gauge", help)
	e.sample("", value)
}

func (e *exposition) counter(name, help string, value float64) {
	e.family(name, "counter", help)
	e.sample("", value)
}

// counters writes a metric that has one counter for each value of a label.
func (e *exposition) counters(name, help, label string, by map[string]*counter) {
	e.family(name, "counter", help)
	for _, value := range slices.Sorted(maps.Keys(by)) {
		e.sample("", by[value].Value(), label, value)
	}
}

// sample writes one value of the family. Labels are names and values in turn.
func (e *exposition) sample(suffix string, value float64, labels ...string) {
	e.text = append(e.text, e.name...)
	e.text = append(e.text, suffix...)
	for i := 0; i < len(labels); i += 2 {
		e.text = append(e.text, "{,"[min(i, 1)])
		e.text = append(e.text, labels[i]+`="`...)
		for _, c := range []byte(labels[i+1]) {
			switch c {
			case '\\', '"':
				e.text = append(e.text, '\\', c)
			case '\n':
				e.text = append(e.text, `\n`...)
			default:
				e.text = append(e.text, c)
			}
		}
		e.text = append(e.text, '"')
	}
	if len(labels) > 0 {
		e.text = append(e.text, '}')
	}
	e.text = append(append(e.text, ' '), number(value)...)
	e.text = append(e.text, '\n')
}

// histogram writes h's samples. What is observed meanwhile may be missing in
// the sum, but the buckets agree with the count.
func (e *exposition) histogram(h *histogram, labels ...string) {
	labels = append(labels, "le", "")
	le := &labels[len(labels)-1]
	n := uint64(0)
	for i, bound := range bounds {
		n += h.buckets[i].Load()
		*le = number(bound)
		e.sample("_bucket", float64(n), labels...)
	}
	n += h.buckets[len(bounds)].Load()
	*le = number(math.Inf(1))
	e.sample("_bucket", float64(n), labels...)
	labels = labels[:len(labels)-2]
	e.sample("_sum", math.Float64frombits(h.sum.Load()), labels...)
	e.sample("_count", float64(n), labels...)
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
