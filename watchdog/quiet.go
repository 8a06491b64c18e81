package watchdog

import (
	"context"
	"sync"
	"time"
)

// activity knows how long no request has been under way.
type activity struct {
	mu      sync.Mutex
	running int
	last    time.Time // when a request last came or ended
}

func (a *activity) begin(now time.Time) { a.add(1, now) }
func (a *activity) end(now time.Time)   { a.add(-1, now) }

func (a *activity) add(n int, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running += n
	a.last = now
}

// quietSince returns since when no request has been under way, but not before
// began; that is now, if one is.
func (a *activity) quietSince(began time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.running > 0:
		return time.Now()
	case a.last.After(began):
		return a.last
	}
	return began
}

// wait returns when for a time of quiet, from now on, no request has been under
// way, at the latest after limit or with ctx's end.
func (a *activity) wait(ctx context.Context, quiet, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for began := time.Now(); ; {
		left := time.Until(a.quietSince(began).Add(quiet))
		if left <= 0 {
			return
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}
