package local

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/logs"

	"github.com/gatehound/gatehound/gateway/provider"
)

// maxOutput bounds what is kept of one function's output, in bytes, lineCost
// being added for each line.
const (
	maxOutput = 1 << 20
	lineCost  = 64
)

// ring holds the last lines that a function has printed. Nobody who reads them
// holds up who writes them: who is too slow misses lines.
type ring struct {
	mu      sync.Mutex
	lines   []line // the oldest first
	first   int    // number of lines[0], counted from the function's first line
	size    int    // bytes
	closed  bool
	changed chan struct{} // closed, and another made, when there is more
}

type line struct {
	time     time.Time
	instance string
	text     string
}

func newRing() *ring { return &ring{changed: make(chan struct{})} }

func (r *ring) add(instance string, texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, text := range texts {
		r.lines = append(r.lines, line{now, instance, text})
		r.size += lineCost + len(text)
	}
	for r.size > maxOutput && len(r.lines) > 1 {
		r.size -= lineCost + len(r.lines[0].text)
		r.lines[0] = line{} // the array outlives the slice's begin
		r.lines = r.lines[1:]
		r.first++
	}
	r.notify()
}

// close says that nothing comes any more.
func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.notify()
}

func (r *ring) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// after returns the lines that there are from number next on, at most a batch,
// the number after them, and what is closed when there are more; nil = never.
func (r *ring) after(next int) (lines []line, then int, changed <-chan struct{}) {
	const batch = 256
	r.mu.Lock()
	defer r.mu.Unlock()
	next = max(next, r.first)
	rest := r.lines[next-r.first:]
	lines = append(lines, rest[:min(batch, len(rest))]...)
	if !r.closed {
		changed = r.changed
	}
	return lines, next + len(lines), changed
}

// begin returns the number of the first line to show to who wants those that
// wanted accepts, and of them the last tail; 0 = all.
func (r *ring) begin(tail int, wanted func(line) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tail <= 0 {
		return r.first
	}
	i := len(r.lines)
	for i > 0 && tail > 0 {
		if i--; wanted(r.lines[i]) {
			tail--
		}
	}
	return r.first + i
}

// end returns the number that the next line will have.
func (r *ring) end() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first + len(r.lines)
}

// Logs implements provider.Provider.
func (p *Provider) Logs(ctx context.Context, request logs.Request, emit func(logs.Message) error) error {
	name := provider.Function{Namespace: request.Namespace, Name: request.Name}
	f := p.function(name)
	if f == nil {
		return provider.ErrNotFound
	}
	wanted := func(l line) bool {
		return (request.Instance == "" || l.instance == request.Instance) &&
			(request.Since == nil || !l.time.Before(*request.Since))
	}
	next, end := f.output.begin(request.Tail, wanted), f.output.end()
	for {
		lines, then, changed := f.output.after(next)
		for i, l := range lines {
			if !request.Follow && then-len(lines)+i >= end {
				return nil // printed since the question
			}
			if !wanted(l) {
				continue
			}
			err := emit(logs.Message{Name: name.Name, Namespace: name.Namespace, Instance: l.instance, Timestamp: l.time, Text: l.text})
			if err != nil {
				return err
			}
		}
		next = then
		if len(lines) > 0 && ctx.Err() == nil {
			continue
		}
		if !request.Follow || changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// lineWriter passes on what a watchdog prints, in lines: under load, as many at a
// time as its watchdog has written together.
type lineWriter struct {
	emit  func(lines []string)
	lines []string // complete, and not passed on yet
	line  []byte   // the one that goes on
}

// maxLine splits lines that never end; the watchdog's own limit is the same.
const maxLine = 64 << 10

// Write implements io.Writer. os/exec calls it from one goroutine, since
// stdout and stderr are the same writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		w.line = append(w.line, line...)
		if found || len(w.line) >= maxLine {
			w.endLine()
		}
		p = rest
	}
	w.flush()
	return n, nil
}

// Close passes on a last line without an end.
func (w *lineWriter) Close() {
	w.endLine()
	w.flush()
}

func (w *lineWriter) endLine() {
	if line := bytes.TrimRight(w.line, "\r"); len(line) > 0 {
		w.lines = append(w.lines, string(line))
	}
	w.line = w.line[:0]
}

func (w *lineWriter) flush() {
	if len(w.lines) > 0 {
		w.emit(w.lines)
	}
	clear(w.lines) // they are the ring's to keep
	w.lines = w.lines[:0]
}
