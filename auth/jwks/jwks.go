// Package jwks keeps an issuer's public keys (RFC 7517) at hand: found by
// OpenID discovery or read from a file, refreshed in the background, refetched
// once when a token names an unknown key, and kept through an outage, for a
// while. It owns fetching and key parsing; what a token must say is package
// auth's business.
//
// Signatures are verified with the standard library alone. lestrrat-go/jwx/v2,
// which has no maintainer any more, takes PSS salts of any length (RFC 7518,
// section 3.5, has one); every algorithm is compared with it in the tests.
package jwks

import (
	"context"
	"errors"
	"fmt"
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
	// ErrUnavailable: no usable key has been fetched, or none lately.
	ErrUnavailable = errors.New("issuer's keys are unavailable")
)

const (
	// fetchTimeout bounds one fetch, both documents, and how long Key waits.
	fetchTimeout = 5 * time.Second
	// firstRetry is the longest pause between attempts while there are no
	// keys at all, also when those before still hang: nobody can be served
	// until one succeeds.
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
	// File is a JWK set to read in place of an Authority, and with the same
	// care: a regular file of at most 1 MiB, or a link to one.
	File string
	// Issuer is the issuer that discovery must name; empty = any, as for the
	// watchdog, which learns its issuer from discovery. With File it is
	// required: nothing else says whose keys they are.
	Issuer string
	// Client fetches; nil = one that does as http.DefaultTransport, proxies
	// included, but uses no connection twice. Its redirect policy is replaced
	// by ours, and a fetch ends after 5s whatever its timeout.
	Client *http.Client
	// Refresh is the time between two background fetches, at most half of
	// Keep; 0 = 5m.
	Refresh time.Duration
	// Keep is how long keys are used after the last successful fetch; then
	// they count as withdrawn until one succeeds; 0 = 24h. It needs Run.
	Keep time.Duration
	// Cooldown is the least time between two fetches that unknown keys
	// caused; 0 = 10s.
	Cooldown time.Duration
	// Logf reports recoveries; nil = silence. It is not called concurrently,
	// nor is Warnf.
	Logf func(format string, args ...any)
	// Warnf reports failures; nil = Logf.
	Warnf func(format string, args ...any)
}

// Remote is an issuer's key set, fetched over HTTP or from a file. It is safe
// for concurrent use.
type Remote struct {
	// fetch gets the key set from where it is; nil = static.
	fetch     func(context.Context) (issuer string, keys []*Key, skipped []string, err error)
	discovery string
	file      string
	issuer    string
	client    *http.Client
	refresh   time.Duration
	keep      time.Duration
	cooldown  time.Duration
	logf      func(format string, args ...any)
	warnf     func(format string, args ...any)

	// current is nil before the first fetch. Readers of a known key take no
	// lock and never wait.
	current atomic.Pointer[keySet]

	mu         sync.Mutex
	flights    []*flight // the fetches under way, in the order they began
	refetching *flight   // the last that Refetch began
	queued     *flight   // the next, which has not begun
	asked      time.Time // when Key last started one

	// writing is held to change current, and to log: one at a time, in the
	// order of what happened. mu may be taken while it is held, not the other
	// way round.
	writing sync.Mutex
	// What was logged last.
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

// NewRemote returns a key set that fetches nothing until Run, Key or Refetch is
// called. The error says what is wrong with c.
func NewRemote(c Config) (*Remote, error) {
	if c.Refresh < 0 || c.Keep < 0 || c.Cooldown < 0 {
		return nil, fmt.Errorf("refresh %s, keep %s, cooldown %s: must not be negative", c.Refresh, c.Keep, c.Cooldown)
	}
	r := &Remote{
		file:     c.File,
		issuer:   c.Issuer,
		refresh:  c.Refresh,
		keep:     c.Keep,
		cooldown: c.Cooldown,
		logf:     c.Logf,
		warnf:    c.Warnf,
	}
	switch {
	case c.File == "":
		if err := checkAuthority(c.Authority); err != nil {
			return nil, err
		}
		r.discovery = strings.TrimRight(c.Authority, "/") + wellKnown
		if strings.HasSuffix(c.Authority, wellKnown) {
			r.discovery = c.Authority
		}
		r.client = newClient(c.Client)
		r.fetch = r.discover
	case c.Authority != "":
		return nil, fmt.Errorf("file %q beside an authority: one of them must be left out", c.File)
	case c.Issuer == "":
		return nil, fmt.Errorf("file %q without an issuer: whose keys they are must be given", c.File)
	default:
		r.fetch = r.read
	}
	if r.refresh == 0 {
		r.refresh = 5 * time.Minute
	}
	if r.keep == 0 {
		r.keep = 24 * time.Hour
	}
	// Else they would run out between two fetches that both succeed.
	r.refresh = min(r.refresh, r.keep/2)
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

// NewStatic returns a key set that is never fetched, such as an issuer's own.
func NewStatic(issuer string, keys []*Key) *Remote {
	r := &Remote{issuer: issuer, logf: func(string, ...any) {}}
	r.install(issuer, time.Now(), keys)
	return r
}

// Ready reports whether keys are at hand: fetched at least once, and not all
// withdrawn or too old since.
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
	deadline := time.Now().Add(fetchTimeout)
	// Twice: a fetch that was already under way may have been answered
	// before the key was published.
	for range 2 {
		f := r.ask()
		if f == nil {
			break
		}
		if err := f.wait(ctx, deadline); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
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
