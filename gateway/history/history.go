// Package history knows how functions were called in the last hour, minute by
// minute: what a Recorder saw of our own counters, or what a Prometheus has of
// all gateways'. It draws nothing, and asks nobody whether they may know.
package history

import (
	"math"
	"slices"
	"time"
)

// Minutes is how many minutes an hour has, the one under way included.
const Minutes = 60

// Hour is what was counted of one function's calls. Whatever is by minute is
// oldest first, and the last one is the minute under way.
type Hour struct {
	// Codes holds the calls that ended with a status code, by minute. A code
	// that was not answered is not in it.
	Codes map[int][]float64
	// Bounds are the upper bounds of the buckets in which calls are counted by
	// how long they took, in seconds, rising; nil = that is not known.
	Bounds []float64
	// Buckets holds the calls in each bucket, by minute; the bucket after the
	// last bound has all that took longer. A minute without calls may be nil.
	Buckets [][]float64
	// Since is when counting began; zero = more than an hour ago, or not known.
	Since time.Time
	// Everywhere says that all gateways' calls are counted, not ours alone.
	Everywhere bool
}

// Calls returns the calls by minute, whatever their code.
func (h Hour) Calls() []float64 {
	calls := make([]float64, Minutes)
	for _, counted := range h.Codes {
		for i, n := range counted {
			calls[i] += n
		}
	}
	return calls
}

// Quantile returns, by minute, the seconds within which the share q of calls
// was answered; NaN where there were none. It is as exact as the buckets are:
// within one, calls are taken to be spread evenly, and those beyond the last
// bound to have taken just that, as Prometheus' histogram_quantile has it.
func (h Hour) Quantile(q float64) []float64 {
	seconds := make([]float64, Minutes)
	for i := range seconds {
		seconds[i] = math.NaN()
		if i < len(h.Buckets) {
			seconds[i] = quantile(q, h.Bounds, h.Buckets[i])
		}
	}
	return seconds
}

// Overall is Quantile for the whole hour.
func (h Hour) Overall(q float64) float64 {
	all := make([]float64, len(h.Bounds)+1)
	for _, minute := range h.Buckets {
		for i, n := range minute {
			all[i] += n
		}
	}
	return quantile(q, h.Bounds, all)
}

func quantile(q float64, bounds, buckets []float64) float64 {
	var calls float64
	for _, n := range buckets {
		calls += n
	}
	if calls <= 0 || len(bounds) == 0 {
		return math.NaN()
	}
	rank, below, lower := q*calls, 0.0, 0.0
	for i, upper := range bounds {
		if n := buckets[i]; n > 0 && below+n >= rank {
			return lower + (upper-lower)*(rank-below)/n
		}
		below += buckets[i]
		lower = upper
	}
	return bounds[len(bounds)-1]
}

// SortedCodes returns the codes that were answered, in order.
func (h Hour) SortedCodes() []int {
	codes := make([]int, 0, len(h.Codes))
	for code := range h.Codes {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return codes
}
