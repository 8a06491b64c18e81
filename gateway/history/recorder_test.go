package history

import (
	"context"
	"maps"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var bounds = []float64{0.1, 1, 10}

// counted are counters that a test turns.
type counted struct {
	mu  sync.Mutex
	all map[string]Counters
}

func (c *counted) call(name string, code int, bucket int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.all[name]
	next := Counters{Set: have.Set, Codes: map[int]uint64{}, Buckets: make([]uint64, len(bounds)+1)}
	if !ok {
		next.Set = new(int)
	}
	for code, n := range have.Codes {
		next.Codes[code] = n
	}
	copy(next.Buckets, have.Buckets)
	next.Codes[code]++
	next.Buckets[bucket]++
	c.all[name] = next
}

func (c *counted) read() map[string]Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.all)
}

// at returns the calls of one minute, counted back from the one under way.
func at(h Hour, code, ago int) float64 {
	if h.Codes[code] == nil {
		return 0
	}
	return h.Codes[code][Minutes-1-ago]
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // begins at a full minute
		c := &counted{all: map[string]Counters{}}
		r := NewRecorder(Config{Bounds: bounds, Read: c.read})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)

		require.Empty(t, r.Hour("a.ns").Codes)
		require.False(t, r.Hour("a.ns").Since.IsZero())
		c.call("a.ns", 200, 0)
		c.call("a.ns", 200, 1)
		c.call("a.ns", 500, 3)
		c.call("b.ns", 404, 0)
		require.Empty(t, r.Hour("a.ns").Codes, "many who ask at once cost one sample")
		time.Sleep(time.Second)
		h := r.Hour("a.ns")
		require.Equal(t, []int{200, 500}, h.SortedCodes())
		require.Equal(t, 2.0, at(h, 200, 0))
		require.Equal(t, []float64{1, 1, 0, 1}, h.Buckets[Minutes-1])

		time.Sleep(30 * time.Second)
		c.call("a.ns", 429, 0)
		c.call("a.ns", 200, 0)
		time.Sleep(20 * time.Second)
		h = r.Hour("a.ns")
		require.Equal(t, 3.0, at(h, 200, 0), "the same minute")
		require.Equal(t, 1.0, at(h, 429, 0))
		require.Equal(t, 5.0, h.Calls()[Minutes-1])
		hours := r.Hours("ns")
		require.Len(t, hours, 2)
		require.Equal(t, h, hours["a.ns"])
		require.Empty(t, r.Hours("s"))

		time.Sleep(10 * time.Minute)
		c.call("a.ns", 200, 2)
		time.Sleep(20 * time.Second)
		h = r.Hour("a.ns")
		require.Equal(t, 3.0, at(h, 200, 11))
		require.Equal(t, 1.0, at(h, 200, 0))
		require.Equal(t, 0.0, at(h, 200, 5))
		require.Nil(t, h.Buckets[Minutes-1-5])

		time.Sleep(49 * time.Minute)
		h = r.Hour("a.ns")
		require.Equal(t, []int{200}, h.SortedCodes(), "what is older is forgotten")
		require.Equal(t, 1.0, at(h, 200, 49))
		require.True(t, h.Since.IsZero())
		require.Len(t, r.functions["a.ns"].minutes, 1)

		c.mu.Lock()
		delete(c.all, "a.ns")
		c.all["b.ns"] = Counters{Set: new(int), Codes: map[int]uint64{200: 7}, Buckets: []uint64{7, 0, 0, 0}}
		c.mu.Unlock()
		time.Sleep(time.Minute)
		require.Empty(t, r.Hour("a.ns").Codes, "the deleted one's")
		require.Len(t, r.functions, 1)
		h = r.Hour("b.ns")
		require.Equal(t, []int{200}, h.SortedCodes(), "another one of the name begins anew")
		require.Equal(t, 7.0, at(h, 200, 1)+at(h, 200, 0))
		cancel()
		synctest.Wait()
	})
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		q       float64
		buckets []float64
		want    float64
	}{
		"none":             {0.5, nil, math.NaN()},
		"zeros":            {0.5, []float64{0, 0, 0, 0}, math.NaN()},
		"the first bucket": {0.5, []float64{2, 0, 0, 0}, 0.05},
		"in the middle":    {0.5, []float64{1, 2, 1, 0}, 0.55},
		"at a bound":       {0.25, []float64{1, 2, 1, 0}, 0.1},
		"beyond the last":  {0.99, []float64{0, 0, 0, 5}, 10},
		"skips empty ones": {0.5, []float64{0, 0, 4, 0}, 5.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Hour{Bounds: bounds, Buckets: make([][]float64, Minutes)}
			h.Buckets[3] = c.buckets
			for _, got := range []float64{h.Quantile(c.q)[3], h.Overall(c.q)} {
				if math.IsNaN(c.want) {
					require.True(t, math.IsNaN(got), got)
				} else {
					require.InDelta(t, c.want, got, 1e-9)
				}
			}
		})
	}
	require.True(t, math.IsNaN(Hour{}.Overall(0.5)))
	require.True(t, math.IsNaN(Hour{}.Quantile(0.5)[0]))
}
