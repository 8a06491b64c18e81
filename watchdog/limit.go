package watchdog

import (
	"context"
	"sync/atomic"
	"time"
)

// limit lets max_inflight requests in at a time. A few more may wait for a
// moment, in the order in which they came. nil = no limit.
type limit struct {
	slots   chan struct{}
	queue   int64         // how many may wait
	wait    time.Duration // for how long
	waiting atomic.Int64
}

func newLimit(slots, queue int, wait time.Duration) *limit {
	if slots == 0 {
		return nil
	}
	return &limit{slots: make(chan struct{}, slots), queue: int64(queue), wait: wait}
}

// take takes a slot, or returns false: the request is to be refused. Who gets
// true must call free, once.
func (l *limit) take(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}:
		return true
	default:
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.queue {
		return false
	}
	timer := time.NewTimer(l.wait)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (l *limit) free() { <-l.slots }

// full reports whether all slots are taken.
func (l *limit) full() bool { return len(l.slots) == cap(l.slots) }
