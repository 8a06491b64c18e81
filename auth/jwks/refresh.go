package jwks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// flight is one fetch. Several may be under way: where one hangs, in a
// connection that leads nowhere any more, the next may get through. Of two,
// the one that began later tells the later state, whichever ends first.
type flight struct {
	began  time.Time
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed

	overtaken bool // by one that began later and has succeeded; r.writing guards it
}

// wait returns nil once f has ended, or the error that ended the wait.
func (f *flight) wait(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run fetches the keys, with backoff while that fails, keeps them fresh, and
// withdraws them when that has failed for Config.Keep, until ctx ends.
func (r *Remote) Run(ctx context.Context) {
	if r.fetch == nil {
		<-ctx.Done()
		return
	}
	var expiry sync.WaitGroup
	expiry.Go(func() { r.expire(ctx) })
	defer expiry.Wait()

	for backoff := 100 * time.Millisecond; ; {
		r.mu.Lock()
		f := r.underWay()
		if f == nil {
			f = r.start(ctx)
		}
		r.mu.Unlock()
		var impatient <-chan time.Time
		if !r.Ready() {
			impatient = time.After(firstRetry)
		}
		select {
		case <-f.done:
		case <-impatient:
			continue
		case <-ctx.Done():
			return
		}

		pause := r.refresh
		switch {
		case f.err == nil:
			backoff = 100 * time.Millisecond
		case r.Ready():
			pause, backoff = min(backoff, laterRetry, r.refresh), min(2*backoff, laterRetry)
		default:
			pause, backoff = min(backoff, firstRetry), min(2*backoff, firstRetry)
		}
		// ±10%, so that a thousand watchdogs do not ask in step.
		pause = time.Duration(float64(pause) * (0.9 + 0.2*rand.Float64()))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Refetch fetches the keys now, whatever was asked lately or hangs, and
// returns the error of that fetch. After nil, what the issuer had withdrawn
// before the call is withdrawn here. Calls that come while one is served share
// the next. When ctx ends the wait its error is returned; the fetch goes on.
func (r *Remote) Refetch(ctx context.Context) error {
	if r.fetch == nil {
		return nil
	}
	r.mu.Lock()
	f, before := r.queued, r.refetching
	if f == nil {
		f = &flight{done: make(chan struct{})}
		r.queued = f
		go func() {
			if before != nil {
				<-before.done
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.queued, r.refetching = nil, f
			r.begin(context.Background(), f)
		}()
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask returns the fetch under way, else starts one, or returns nil when Key
// started the last one too recently. An attempt that failed counts too.
func (r *Remote) ask() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.underWay(); f != nil || r.fetch == nil {
		return f
	}
	pause := r.cooldown
	if !r.Ready() {
		pause = min(pause, firstRetry)
	}
	if time.Since(r.asked) < pause {
		return nil
	}
	r.asked = time.Now()
	// Not the caller's context: whoever asked first may leave while others
	// still want the answer, and its request must not be kept.
	return r.start(context.Background())
}

// underWay returns the fetch that began last, or nil if it has ended. While
// there are no keys, one that has lasted for firstRetry does not count either:
// it may hang in a connection to an issuer that is gone, while one that is
// back would answer the next at once. An issuer that hangs is thus asked as
// often as one that refuses, and one that is slow still has 5s to answer.
// r.mu is held.
func (r *Remote) underWay() *flight {
	if len(r.flights) == 0 {
		return nil
	}
	f := r.flights[len(r.flights)-1]
	if !r.Ready() && time.Since(f.began) >= firstRetry {
		return nil
	}
	return f
}

// start begins a fetch; r.mu is held.
func (r *Remote) start(ctx context.Context) *flight {
	f := &flight{done: make(chan struct{})}
	r.begin(ctx, f)
	return f
}

func (r *Remote) begin(ctx context.Context, f *flight) {
	ctx, f.cancel = context.WithTimeout(ctx, fetchTimeout)
	f.began = time.Now()
	r.flights = append(r.flights, f)
	go func() {
		defer f.cancel()
		f.err = r.update(ctx, f)
		r.mu.Lock()
		r.flights = slices.DeleteFunc(r.flights, func(o *flight) bool { return o == f })
		r.mu.Unlock()
		close(f.done)
	}()
}

// update fetches and installs the keys, and logs what has changed since the
// last time: a gateway that is down for an hour is one line, not thousands.
func (r *Remote) update(ctx context.Context, f *flight) error {
	issuer, keys, skipped, err := r.fetch(ctx)
	r.writing.Lock()
	defer r.writing.Unlock()
	if f.overtaken {
		return nil // what it was to bring is there, and newer
	}
	if err == nil {
		r.install(issuer, time.Now(), keys)
		r.overtake(f)
		if s := strings.Join(skipped, "; "); s != r.lastSkipped {
			r.lastSkipped = s
			if s != "" {
				r.warnf("keys of issuer %s: ignored %s", issuer, s)
			}
		}
		if len(keys) == 0 {
			err = fmt.Errorf("issuer %s publishes no usable key", issuer)
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // shutting down
	case err != nil && err.Error() != r.lastFailure:
		r.lastFailure = err.Error()
		kept := ""
		if r.Ready() {
			kept = " (those fetched before stay in use)"
		}
		r.warnf("cannot fetch the issuer's keys%s: %v", kept, err)
	case err == nil && (r.lastFailure != "" || !r.fetched):
		r.lastFailure, r.fetched = "", true
		r.logf("fetched %d keys of issuer %s", len(keys), issuer)
	}
	return err
}

// overtake ends the fetches that began before f: their waiters have what they
// wait for, and an answer that comes late must not bring back a withdrawn key.
// r.writing is held.
func (r *Remote) overtake(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.flights {
		if o == f {
			return
		}
		o.overtaken = true
		o.cancel()
	}
}

// expire withdraws the keys when none have been fetched for r.keep, whatever
// fetches hang meanwhile, until ctx ends.
func (r *Remote) expire(ctx context.Context) {
	for {
		left := r.keep
		if r.Ready() {
			left -= time.Since(r.Fetched())
		}
		if left <= 0 {
			r.drop()
			continue
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

// drop withdraws the keys, unless new ones have just come.
func (r *Remote) drop() {
	r.writing.Lock()
	defer r.writing.Unlock()
	issuer, fetched := r.Issuer(), r.Fetched()
	if age := time.Since(fetched); age >= r.keep {
		r.install(issuer, fetched, nil)
		r.warnf("the keys of issuer %s are no longer used: last fetched %s ago", issuer, age.Round(time.Second))
	}
}

// install makes keys the current ones. A key that stays keeps its *Key, so
// what was decided with it lives on; one that left is marked withdrawn. When
// the issuer's name changes all of the old ones are: they vouched for tokens
// of that name.
func (r *Remote) install(issuer string, fetched time.Time, keys []*Key) {
	old := r.current.Load()
	if old == nil {
		old = &keySet{}
	}
	next := &keySet{issuer: issuer, fetched: fetched, keys: make(map[string][]*Key, len(keys))}
	kept := make(map[*Key]bool, len(keys))
	for _, k := range keys {
		if issuer == old.issuer {
			for _, o := range old.keys[k.kid] {
				if o.same(k) {
					k = o
					kept[o] = true
				}
			}
		}
		next.keys[k.kid] = append(next.keys[k.kid], k)
	}
	r.current.Store(next)
	for _, ks := range old.keys {
		for _, k := range ks {
			if !kept[k] {
				k.withdrawn.Store(true)
			}
		}
	}
}
