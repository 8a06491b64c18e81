package history

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// sampleEvery is how often the counters are looked at. What they grew by
	// belongs to the minute in which that is.
	sampleEvery = 15 * time.Second
	// freshFor is how long a sample is good for somebody who asks: who has just
	// called a function wants to see it, and many who ask cost no more than one.
	freshFor = time.Second
)

// Counters are what was counted of one function's calls, ever.
type Counters struct {
	// Set is the same as long as these counters only grow. Those of another one
	// are another function's, which has come to have the name.
	Set any
	// Codes are the calls by status code.
	Codes map[int]uint64
	// Buckets are the calls in each bucket of Config.Bounds, and beyond.
	Buckets []uint64
}

// Config says where the counters are.
type Config struct {
	// Read returns all functions' counters by "name.namespace". What it no
	// longer has is forgotten.
	Read func() map[string]Counters
	// Bounds are those of the buckets, in seconds, rising.
	Bounds []float64
}

// Recorder remembers for an hour what counters grew by. What it keeps of a
// function is bounded by what its counters take: for each minute with calls some
// hundred bytes. Make one with NewRecorder.
type Recorder struct {
	config Config
	begin  time.Time

	mu        sync.Mutex
	sampled   time.Time
	functions map[string]*function
}

type function struct {
	last    Counters
	minutes []minute // those with calls, oldest first
}

type minute struct {
	number  int64 // since 1970
	codes   []calls
	buckets []uint32
}

type calls struct {
	code  uint16
	count uint32
}

// NewRecorder returns one that takes what the counters have at the first look to
// be new.
func NewRecorder(c Config) *Recorder {
	return &Recorder{config: c, begin: time.Now(), functions: make(map[string]*function)}
}

// Run looks at the counters until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.sample(0)
		}
	}
}

// Hour returns what is known of a function, named "name.namespace". One that
// nobody has called yet has an hour without calls.
func (r *Recorder) Hour(name string) Hour {
	r.sample(freshFor)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hour(r.functions[name])
}

// Hours returns what is known of the functions in a namespace, by
// "name.namespace". Those that nobody has called yet are missing.
func (r *Recorder) Hours(namespace string) map[string]Hour {
	r.sample(freshFor)
	r.mu.Lock()
	defer r.mu.Unlock()
	hours := make(map[string]Hour)
	for name, f := range r.functions {
		if strings.HasSuffix(name, "."+namespace) {
			hours[name] = r.hour(f)
		}
	}
	return hours
}

// hour has f = nil for a function that nobody has called.
func (r *Recorder) hour(f *function) Hour {
	h := Hour{Codes: make(map[int][]float64), Bounds: r.config.Bounds, Buckets: make([][]float64, Minutes)}
	now := time.Now()
	if now.Sub(r.begin) < Minutes*time.Minute {
		h.Since = r.begin
	}
	if f != nil {
		f.fill(&h, minuteOf(now))
	}
	return h
}

func (f *function) fill(h *Hour, now int64) {
	for _, m := range f.minutes {
		i := Minutes - 1 - int(now-m.number)
		if i < 0 || i >= Minutes {
			continue // older, or the clock was set back
		}
		for _, c := range m.codes {
			if h.Codes[int(c.code)] == nil {
				h.Codes[int(c.code)] = make([]float64, Minutes)
			}
			h.Codes[int(c.code)][i] += float64(c.count)
		}
		if h.Buckets[i] == nil {
			h.Buckets[i] = make([]float64, len(h.Bounds)+1)
		}
		for b, n := range m.buckets {
			h.Buckets[i][b] += float64(n)
		}
	}
}

// sample looks at the counters, unless that was done within the time given.
func (r *Recorder) sample(fresh time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.sampled) < fresh {
		return
	}
	r.sampled = now
	current := r.config.Read()
	for name := range r.functions {
		if _, there := current[name]; !there {
			delete(r.functions, name)
		}
	}
	for name, c := range current {
		f := r.functions[name]
		if f == nil || f.last.Set != c.Set {
			f = new(function)
			r.functions[name] = f
		}
		f.add(c, minuteOf(now))
	}
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// add notes what the counters have grown by.
func (f *function) add(c Counters, now int64) {
	old := 0
	for old < len(f.minutes) && f.minutes[old].number <= now-Minutes {
		old++
	}
	f.minutes = slices.Delete(f.minutes, 0, old)

	m := minute{number: now, buckets: make([]uint32, len(c.Buckets))}
	for code, n := range c.Codes {
		if grown := n - min(n, f.last.Codes[code]); grown > 0 {
			m.codes = append(m.codes, calls{uint16(code), uint32(grown)})
		}
	}
	for i, n := range c.Buckets {
		if i < len(f.last.Buckets) {
			n -= min(n, f.last.Buckets[i])
		}
		m.buckets[i] = uint32(n)
	}
	f.last = c
	if len(m.codes) == 0 {
		return
	}
	slices.SortFunc(m.codes, func(a, b calls) int { return cmp.Compare(a.code, b.code) })
	if end := len(f.minutes) - 1; end >= 0 && f.minutes[end].number == now {
		f.minutes[end].merge(m)
		return
	}
	f.minutes = append(f.minutes, m)
}

func (m *minute) merge(other minute) {
	for _, c := range other.codes {
		i, found := slices.BinarySearchFunc(m.codes, c.code, func(have calls, code uint16) int { return cmp.Compare(have.code, code) })
		if found {
			m.codes[i].count += c.count
		} else {
			m.codes = slices.Insert(m.codes, i, c)
		}
	}
	for i, n := range other.buckets {
		m.buckets[i] += n
	}
}
