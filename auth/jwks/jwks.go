// Package jwks keeps an issuer's public keys (RFC 7517) at hand: found by
// OpenID discovery, refreshed in the background, refetched once when a token
// names an unknown key, and kept through an outage. It owns fetching and key
// parsing; what a token must say is package auth's business.
package jwks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What callers branch on.
var (
	// ErrUnknownKey: the issuer publishes no such key.
	ErrUnknownKey = errors.New("unknown key")
	// ErrAlgorithm: the issuer publishes the key, but for other algorithms.
	ErrAlgorithm = errors.New("key is for another algorithm")
	// ErrUnavailable: no usable key has been fetched yet.
	ErrUnavailable = errors.New("issuer's keys are unavailable")
)

const (
	// fetchTimeout bounds one fetch, both documents, and how long Key waits.
	fetchTimeout = 5 * time.Second
	// firstRetry is the longest pause between attempts while there are no
	// keys at all: nobody can be served until one succeeds.
	firstRetry = 500 * time.Millisecond
	// laterRetry is the longest pause after a failure while there are keys.
	laterRetry = 30 * time.Second
)

// Config says where an issuer is. The zero value of each duration takes the
// default named.
type Config struct {
	// Authority is the issuer's base URL, below which discovery is looked
	// for, or the full URL of its discovery document. It may differ from the
	// issuer's name (an in-cluster address, say), but jwks_uri is fetched as
	// the document gives it, so its host must be reachable from here.
	Authority string
	// Issuer is the issuer that discovery must name; empty = any, as for the
	// watchdog, which learns its issuer from discovery.
	Issuer string
	// Client fetches; nil = http.DefaultTransport. Its redirect policy is
	// replaced by ours, and a fetch ends after 5s whatever its timeout.
	Client *http.Client
	// Refresh is the time between two background fetches; 0 = 5m.
	Refresh time.Duration
	// Cooldown is the least time between two fetches that unknown keys
	// caused; 0 = 10s.
	Cooldown time.Duration
	// Logf reports recoveries; nil = silence. It is not called concurrently,
	// nor is Warnf.
	Logf func(format string, args ...any)
	// Warnf reports failures; nil = Logf.
	Warnf func(format string, args ...any)
}

// Remote is an issuer's key set, fetched over HTTP. It is safe for concurrent
// use.
type Remote struct {
	discovery string // empty = static
	issuer    string
	client    *http.Client
	refresh   time.Duration
	cooldown  time.Duration
	logf      func(format string, args ...any)
	warnf     func(format string, args ...any)

	// current is nil before the first fetch. Readers of a known key take no
	// lock and never wait.
	current atomic.Pointer[keySet]

	mu     sync.Mutex
	flight *flight   // the fetch under way
	asked  time.Time // when Key last started one

	// What was logged last; only the fetch under way touches them.
	lastFailure, lastSkipped string
	fetched                  bool
}

// keySet is what one fetch brought. It is immutable but for its keys'
// withdrawal.
type keySet struct {
	issuer  string
	fetched time.Time
	// keys by kid: RFC 7517 §4.5 lets keys of different algorithms share one.
	keys map[string][]*Key
}

type flight struct {
	done chan struct{}
	err  error // once done is closed
}

// NewRemote returns a key set that fetches nothing until Run or Key is called.
// The error says what is wrong with c.
func NewRemote(c Config) (*Remote, error) {
	if err := checkAuthority(c.Authority); err != nil {
		return nil, err
	}
	if c.Refresh < 0 || c.Cooldown < 0 {
		return nil, fmt.Errorf("refresh %s, cooldown %s: must not be negative", c.Refresh, c.Cooldown)
	}
	r := &Remote{
		discovery: c.Authority,
		issuer:    c.Issuer,
		client:    &http.Client{},
		refresh:   c.Refresh,
		cooldown:  c.Cooldown,
		logf:      c.Logf,
		warnf:     c.Warnf,
	}
	if !strings.HasSuffix(c.Authority, wellKnown) {
		r.discovery = strings.TrimRight(c.Authority, "/") + wellKnown
	}
	if c.Client != nil {
		*r.client = *c.Client
	}
	r.client.CheckRedirect = checkRedirect
	if r.refresh == 0 {
		r.refresh = 5 * time.Minute
	}
	if r.cooldown == 0 {
		r.cooldown = 10 * time.Second
	}
	if r.logf == nil {
		r.logf = func(string, ...any) {}
	}
	if r.warnf == nil {
		r.warnf = r.logf
	}
	return r, nil
}

// NewStatic returns a key set that is never fetched: an issuer's own keys, or
// keys from a file.
func NewStatic(issuer string, keys []*Key) *Remote {
	r := &Remote{issuer: issuer, logf: func(string, ...any) {}}
	r.install(issuer, keys)
	return r
}

// Run fetches the keys, with backoff while that fails, and keeps them fresh
// until ctx ends.
func (r *Remote) Run(ctx context.Context) {
	if r.discovery == "" {
		<-ctx.Done()
		return
	}
	for backoff := 100 * time.Millisecond; ; {
		r.mu.Lock()
		f := r.flight
		if f == nil {
			f = r.start(ctx)
		}
		r.mu.Unlock()
		select {
		case <-f.done:
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

// Ready reports whether keys are at hand: fetched at least once, and not all
// withdrawn since.
func (r *Remote) Ready() bool {
	s := r.current.Load()
	return s != nil && len(s.keys) > 0
}

// Fetched returns when the issuer last told its keys; zero = never.
func (r *Remote) Fetched() time.Time {
	if s := r.current.Load(); s != nil {
		return s.fetched
	}
	return time.Time{}
}

// Issuer returns the issuer's name, "" before the first fetch unless
// Config.Issuer gave it.
func (r *Remote) Issuer() string {
	if s := r.current.Load(); s != nil {
		return s.issuer
	}
	return r.issuer
}

// Key returns the key named kid that verifies alg, or ErrUnknownKey,
// ErrAlgorithm or ErrUnavailable. It waits for a fetch, 5s at most, only when
// kid is unknown; a flood of unknown ones causes one fetch per Cooldown. When
// ctx ends the wait the error is ErrUnavailable. It does not keep ctx.
func (r *Remote) Key(ctx context.Context, kid, alg string) (*Key, error) {
	key, err := r.lookup(kid, alg)
	if err == nil || err == ErrAlgorithm {
		return key, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	// Twice: a fetch that was already under way may have been answered
	// before the key was published.
	for range 2 {
		f := r.ask()
		if f == nil {
			break
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		if key, err = r.lookup(kid, alg); err == nil || err == ErrAlgorithm {
			break
		}
	}
	return key, err
}

func (r *Remote) lookup(kid, alg string) (*Key, error) {
	s := r.current.Load()
	if s == nil || len(s.keys) == 0 {
		return nil, ErrUnavailable
	}
	keys, known := s.keys[kid]
	if !known {
		return nil, ErrUnknownKey
	}
	for _, k := range keys {
		if k.alg == alg {
			return k, nil
		}
	}
	return nil, ErrAlgorithm
}

// ask returns the fetch under way, else starts one, or returns nil when Key
// started the last one too recently. An attempt that failed counts too.
func (r *Remote) ask() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil || r.discovery == "" {
		return r.flight
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

// start begins a fetch; r.mu is held and none is under way.
func (r *Remote) start(ctx context.Context) *flight {
	f := &flight{done: make(chan struct{})}
	r.flight = f
	go func() {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		f.err = r.update(ctx)
		r.mu.Lock()
		r.flight = nil
		r.mu.Unlock()
		close(f.done)
	}()
	return f
}

// update fetches and installs the keys, and logs what has changed since the
// last time: a gateway that is down for an hour is one line, not thousands.
func (r *Remote) update(ctx context.Context) error {
	issuer, keys, skipped, err := r.fetch(ctx)
	if err == nil {
		r.install(issuer, keys)
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

// install makes keys the current ones. A key that stays keeps its *Key, so
// what was decided with it lives on; one that left is marked withdrawn. When
// the issuer's name changes all of the old ones are: they vouched for tokens
// of that name.
func (r *Remote) install(issuer string, keys []*Key) {
	old := r.current.Load()
	if old == nil {
		old = &keySet{}
	}
	next := &keySet{issuer: issuer, fetched: time.Now(), keys: make(map[string][]*Key, len(keys))}
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
