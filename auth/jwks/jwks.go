// Package jwks keeps an issuer's public keys (RFC 7517) at hand: found by
// OpenID discovery, refreshed in the background, refetched once when a token
// names an unknown key, and kept through an outage. It owns fetching and key
// parsing; what a token must say is package auth's business.
package jwks

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// What callers branch on.
var (
	// ErrUnknownKey: the issuer publishes no such key.
	ErrUnknownKey = errors.New("unknown key")
	// ErrUnavailable: the keys have not been fetched yet.
	ErrUnavailable = errors.New("issuer's keys are unavailable")
)

// Key is one public key of an issuer. Its algorithm comes from the key and
// never from a token.
type Key struct{}

// ID returns the key's kid.
func (k *Key) ID() string { return "" }

// Algorithm returns the one JWS algorithm (RFC 7518) this key verifies.
func (k *Key) Algorithm() string { return "" }

// Verify reports whether signature is this key's signature of signingInput.
func (k *Key) Verify(signingInput, signature []byte) error { return errors.New("stub") }

// Withdrawn reports whether the issuer has stopped publishing the key: what
// was decided with it no longer holds.
func (k *Key) Withdrawn() bool { return false }

// Config says where an issuer is. The zero value of each duration takes the
// default named.
type Config struct {
	// Authority is the issuer's base URL, below which discovery is looked
	// for, or the full URL of its discovery document.
	Authority string
	// Issuer is the issuer that discovery must name; empty = any, as for the
	// watchdog, which learns its issuer from discovery.
	Issuer string
	// Client fetches; nil = one with a 5s timeout.
	Client *http.Client
	// Refresh is the time between two background fetches; 0 = 5m.
	Refresh time.Duration
	// Cooldown is the least time between two fetches that unknown keys
	// caused; 0 = 10s.
	Cooldown time.Duration
	// Logf reports failures and recoveries; nil = silence.
	Logf func(format string, args ...any)
}

// Remote is an issuer's key set, fetched over HTTP. It is safe for concurrent
// use.
type Remote struct{}

// NewRemote returns a key set that fetches nothing until Run or Key is called.
func NewRemote(c Config) (*Remote, error) { return &Remote{}, nil }

// Run fetches the keys, with backoff while that fails, and keeps them fresh
// until ctx ends.
func (r *Remote) Run(ctx context.Context) {}

// Ready reports whether keys have been fetched at least once.
func (r *Remote) Ready() bool { return false }

// Issuer returns the issuer's name, "" before the first fetch unless
// Config.Issuer gave it.
func (r *Remote) Issuer() string { return "" }

// Key returns the key named kid, ErrUnknownKey or ErrUnavailable. It waits for
// a fetch only when no usable key is at hand.
func (r *Remote) Key(ctx context.Context, kid string) (*Key, error) { return nil, ErrUnavailable }
