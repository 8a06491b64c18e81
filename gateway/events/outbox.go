// Package events keeps what happens at a gateway on disk, and delivers it to a
// webhook or a file. It owns the spool, batches, retries and signatures; what
// becomes an event is decided by who appends it.
//
// An event is in the kernel when Append returns, so that it outlives the process,
// however that ends. It is not synced: a machine that fails loses what its kernel
// had not written out yet.
package events

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
)

// Config holds what an outbox is made of. Every field is needed unless its
// comment says otherwise.
type Config struct {
	// Type is that of all its events: types.TypeAPIAccess or
	// types.TypeFunctionUsage.
	Type string
	// Dir holds the spool. It is made; nobody else may use it.
	Dir string
	// To is where the events go.
	To Destination
	// KeepAll has Ready fail while the spool is full or cannot be written, for
	// callers who do nothing then; else the oldest events are dropped.
	KeepAll bool
	// MaxBytes bounds the spool; 0 = 256 MiB.
	MaxBytes int64
	// A batch is delivered when it has BatchEvents (0 = 1000), or BatchBytes
	// (0 = 256 KiB; a larger event is a batch of its own), or when its first event
	// is BatchWait old (0 = 1s) and no other batch waits.
	BatchEvents int
	BatchBytes  int64
	BatchWait   time.Duration
	// The pause after a failed delivery is RetryMin (0 = 1s) at first, and doubles
	// up to RetryMax (0 = 1m); each is varied by up to a half.
	RetryMin, RetryMax time.Duration
	Logf, Warnf        func(format string, args ...any)
}

// Destination is what batches are delivered to: a Webhook, a File or a Stream.
type Destination interface {
	// Deliver returns nil when the batch has been taken. After an error the same
	// batch comes again. Errors hold no secret.
	Deliver(ctx context.Context, b Batch) error
}

// Batch is one delivery.
type Batch struct {
	Type string
	// ID is a UUID, and the same for the same events, also after a restart.
	ID string
	// Lines are the events, in the order in which they came, each an object of
	// JSON with a newline.
	Lines []byte
}

// Outbox is a queue of events of one type on disk. Make one with Open; it is
// safe for concurrent use.
type Outbox struct {
	config  Config
	metrics *metrics
	wake    chan struct{} // something is there to be delivered, or will soon be

	mu      sync.Mutex
	number  uint64     // of the newest segment
	closed  []*segment // complete batches, the oldest first
	active  *segment   // is written to; nil = none
	bytes   int64      // of all segments
	pending [][]byte   // KeepAll: lines that could not be written; see Ready
	failing bool       // the last write failed
	full    bool       // events are being dropped
}

// ErrFull is what Ready returns when the spool is at its bound.
var ErrFull = errors.New("the spool is full")

// Open returns the outbox in Dir, with what a process before us left there. It
// delivers nothing until Run.
func Open(c Config) (*Outbox, error) {
	c.MaxBytes = cmp.Or(c.MaxBytes, 256<<20)
	c.BatchEvents = cmp.Or(c.BatchEvents, 1000)
	c.BatchBytes = cmp.Or(c.BatchBytes, 256<<10)
	c.BatchWait = cmp.Or(c.BatchWait, time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, time.Second)
	c.RetryMax = cmp.Or(c.RetryMax, time.Minute)
	o := &Outbox{config: c, wake: make(chan struct{}, 1)}
	o.metrics = newMetrics(c.Type, o.size)
	if err := o.recover(); err != nil {
		return nil, fmt.Errorf("the spool of %s events: %w", c.Type, err)
	}
	return o, nil
}

// Ready reports whether an event can be kept. Without KeepAll it always is, or
// is counted as dropped.
func (o *Outbox) Ready() error {
	if !o.config.KeepAll {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes >= o.config.MaxBytes {
		return fmt.Errorf("%w: %d bytes of %s events wait for delivery", ErrFull, o.bytes, o.config.Type)
	}
	return o.writePending()
}

// Append takes one event. With an error it is dropped; with KeepAll it then waits
// in memory until it can be written.
func (o *Outbox) Append(e types.Event) error {
	line, err := encode(e)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.config.KeepAll {
		o.makeRoom(int64(len(line)))
		if err = o.write(line); err != nil {
			o.metrics.dropped.Inc()
		}
		return err
	}
	// In their order. Whoever asks Ready first puts but few here.
	o.pending = append(o.pending, line)
	return o.writePending()
}

// Crowded reports whether half of the spool's bound is used. Whom nobody knows
// should put nothing here then: a flood of theirs would push out what others did or,
// with KeepAll, keep others from doing it.
func (o *Outbox) Crowded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes >= o.config.MaxBytes/2
}

// KeepsAll is Config.KeepAll.
func (o *Outbox) KeepsAll() bool { return o.config.KeepAll }

// Drop counts an event as dropped which its caller left out.
func (o *Outbox) Drop() { o.metrics.dropped.Inc() }

// encode returns e as one line, with its type in front: some of the types do not
// name it.
func encode(e types.Event) ([]byte, error) {
	object, err := json.Marshal(e)
	if err != nil || len(object) < 3 || object[0] != '{' {
		return nil, fmt.Errorf("an event of type %s is no object: %w", e.EventType(), err)
	}
	line := make([]byte, 0, len(object)+len(`{"event":"",`)+len(e.EventType())+1)
	line = append(append(append(line, `{"event":"`...), e.EventType()...), `",`...)
	return append(append(line, object[1:]...), '\n'), nil
}

// Run delivers until ctx ends, and then for a moment what is left. What cannot be
// delivered waits for the next process.
func (o *Outbox) Run(ctx context.Context) {
	var down time.Time // since when deliveries fail; zero = they do not
	pause := o.config.RetryMin
	for s := o.next(ctx); s != nil; s = o.next(ctx) {
		err := o.attempt(ctx, s)
		if err == nil {
			if !down.IsZero() {
				o.config.Logf("%s events are delivered again, after %s", o.config.Type, time.Since(down).Round(time.Second))
			}
			down, pause = time.Time{}, o.config.RetryMin
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if down.IsZero() {
			down = time.Now()
			o.config.Warnf("%s events cannot be delivered, and are kept until they are: %s: %v", o.config.Type, s.path, err)
		}
		o.metrics.retried.Add(float64(s.events))
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)): // not in step with other gateways
		}
		pause = min(2*pause, o.config.RetryMax)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWait)
	defer cancel()
	for s := o.rest(); s != nil && o.attempt(last, s) == nil; s = o.rest() {
	}
}

// lastWait bounds what a stop waits for the destination.
const lastWait = 5 * time.Second

// next waits for the oldest batch; nil = ctx has ended. Batches are closed for
// their age here, when none other waits: a destination that is down does not
// leave thousands of files with one event each.
func (o *Outbox) next(ctx context.Context) *segment {
	for ctx.Err() == nil {
		var due <-chan time.Time
		o.mu.Lock()
		_ = o.writePending() // a delivery may have made room
		if len(o.closed) == 0 && o.active != nil {
			age := time.Since(o.active.begun)
			if age >= o.config.BatchWait {
				o.rotate()
			} else {
				due = time.After(o.config.BatchWait - age)
			}
		}
		s := o.first()
		o.mu.Unlock()
		if s != nil {
			return s
		}
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-due:
		}
	}
	return nil
}

// rest returns the next batch without a wait; nil = there is none.
func (o *Outbox) rest() *segment {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.writePending()
	if len(o.closed) == 0 {
		o.rotate()
	}
	return o.first()
}

// attempt delivers s once.
func (o *Outbox) attempt(ctx context.Context, s *segment) error {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		if o.forget(s) {
			o.metrics.dropped.Add(float64(s.events))
			o.config.Warnf("%s is gone, with %d %s events", s.path, s.events, o.config.Type)
		}
		return nil
	}
	if err != nil {
		return err
	}
	lines, events, bad := intact(data)
	if bad > 0 && !s.damaged {
		s.damaged = true // of each attempt it would be said and counted again
		o.metrics.damaged.Add(float64(bad))
		o.config.Warnf("%s: %d lines are no events, and are left out", s.path, bad)
	}
	if events > 0 {
		if err := o.config.To.Deliver(ctx, Batch{Type: o.config.Type, ID: s.id, Lines: lines}); err != nil {
			return err
		}
	}
	if !o.forget(s) {
		return nil // dropped meanwhile, and counted as that
	}
	o.metrics.delivered.Add(float64(events))
	if err := os.Remove(s.path); err != nil {
		o.config.Warnf("delivered events will be delivered again at the next start: %v", err)
	}
	return nil
}

// intact returns the lines that are objects of JSON. Others are what a process
// had written of an event when it was killed, or a disk has damaged.
func intact(data []byte) (lines []byte, events, bad int) {
	lines = make([]byte, 0, len(data)+1)
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		switch {
		case len(line) == 0:
		case line[0] == '{' && json.Valid(line):
			lines = append(append(lines, line...), '\n')
			events++
		default:
			bad++
		}
	}
	return lines, events, bad
}
