package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehound/gatehound/auth/jwks"
)

// Config describes the function that is being protected.
type Config struct {
	// Keys are the issuer's; its name is the expected iss and aud.
	Keys *jwks.Remote
	// Namespace and Name are the function's.
	Namespace, Name string
	// Claims names those that Caller is to carry; nil = none. A token whose
	// values are longer than 512 bytes together is verified at every call, since
	// verdicts hold them.
	Claims []string
	// Leeway is granted on exp, nbf and iat, at most 60s; 0 = 1s.
	Leeway time.Duration
	// CacheSize is how many verdicts are kept; 0 = 10,000.
	CacheSize int
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Caller is whom a good token speaks for.
type Caller struct {
	// Claims has a value for each of Config.Claims, in that order: text as it
	// is, anything else as JSON; "" = the token has no such claim.
	Claims []string
}

// Verifier decides whether a caller may invoke one function. It is safe for
// concurrent use.
type Verifier struct {
	keys            *jwks.Remote
	namespace, name string
	claims          []string
	leeway          time.Duration
	now             func() time.Time
	verdicts        verdicts
}

// maxKept bounds the claims of one verdict, in bytes. Whoever can have their
// claims chosen could otherwise fill the memory with good tokens: 10,000
// verdicts of 8 KiB each.
const maxKept = 1 << 9

// verdict is what was decided on a token whose signature and claims are good.
// It holds until the token expires or its key is withdrawn.
type verdict struct {
	err     error // nil or ErrForbidden
	caller  *Caller
	expires time.Time
	key     *jwks.Key
}

// NewVerifier returns a verifier, or an error that names what Config lacks.
func NewVerifier(c Config) (*Verifier, error) {
	if c.Keys == nil {
		return nil, errors.New("no Keys: nothing could be verified")
	}
	for _, s := range []string{c.Namespace, c.Name} {
		// A ":" or "*" could make one function look like another in a pattern.
		if s == "" || strings.ContainsAny(s, ":* \t\r\n") {
			return nil, fmt.Errorf("function %q in namespace %q: both must be given, without ':', '*' or space", c.Name, c.Namespace)
		}
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		return nil, fmt.Errorf("leeway %s: must be between 0 and %s", c.Leeway, maxLeeway)
	}
	if c.CacheSize < 0 {
		return nil, fmt.Errorf("cache size %d: must not be negative", c.CacheSize)
	}
	if c.CacheSize == 0 {
		c.CacheSize = 10_000
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verifier{
		keys:      c.Keys,
		namespace: c.Namespace,
		name:      c.Name,
		claims:    c.Claims,
		leeway:    c.Leeway,
		now:       c.Now,
		verdicts:  verdicts{max: c.CacheSize, entries: make(map[[sha256.Size]byte]verdict)},
	}, nil
}

// Verify decides on the values of all Authorization headers of a request. The
// error is ErrNoBearer, ErrInvalidToken (wrapped), ErrForbidden or
// ErrUnavailable; without one there is a Caller, which is shared and must not
// be changed. Verify keeps none of the bytes.
func (v *Verifier) Verify(ctx context.Context, authorization ...[]byte) (*Caller, error) {
	token, err := Bearer(authorization...)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(token)
	if d, ok := v.verdicts.get(sum); ok && !d.key.Withdrawn() && v.now().Before(d.expires) {
		return d.caller, d.err
	}

	claims, key, err := verifySignature(ctx, v.keys, token, false)
	if err != nil {
		return nil, err
	}
	// Only now: getting the key may have been what told us the issuer's name.
	issuer := v.keys.Issuer()
	expires, err := claims.check(Expect{Issuer: issuer, Audience: []string{issuer}, Leeway: v.leeway, Now: v.now})
	if err != nil {
		return nil, err
	}
	allowed, err := claims.allows(v.namespace, v.name)
	if err != nil {
		return nil, err
	}
	d := verdict{expires: expires, key: key}
	if allowed {
		d.caller = claims.caller(v.claims)
	} else {
		d.err = ErrForbidden
	}
	if d.caller.size() <= maxKept {
		v.verdicts.set(sum, d)
	}
	return d.caller, d.err
}

// Bearer returns the token of a request's Authorization header (RFC 6750
// §2.1). Another scheme is as good as no header. With several headers, what we
// check might not be what somebody else in the chain reads, so they are
// refused. What is no character of a token, parseCompact refuses. The error is
// ErrNoBearer or ErrInvalidToken, wrapped.
func Bearer(authorization ...[]byte) ([]byte, error) {
	if len(authorization) == 0 {
		return nil, ErrNoBearer
	}
	if len(authorization) > 1 {
		return nil, refused("several Authorization headers")
	}
	scheme, token, _ := bytes.Cut(authorization[0], []byte{' '})
	if !bytes.EqualFold(scheme, []byte("Bearer")) || len(token) == 0 {
		return nil, ErrNoBearer
	}
	if len(token) > MaxToken { // before anything costs time in its length
		return nil, refused("longer than 8192 bytes")
	}
	return token, nil
}
