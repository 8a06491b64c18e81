// Package webhook verifies that a request was signed by who knows a shared
// secret, for callers such as GitHub that can do HMAC (RFC 2104) and no OAuth.
// It owns which header has the signature, what is signed, how old that may be,
// and the secrets. Reading the body, and how much of one, is the caller's
// business; nothing in here knows an HTTP server or a file.
package webhook

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"sync/atomic"
	"time"
)

// What callers branch on.
var (
	// ErrMissing: the request does not have the header with the signature.
	ErrMissing = errors.New("the webhook's signature is missing")
	// ErrRefused: the signature does not prove anything; wrapped with the
	// reason, which never holds anything of the request or of a secret.
	ErrRefused = errors.New("the webhook's signature is refused")
)

// missing is an ErrMissing that names the header.
type missing string

func (m missing) Error() string { return ErrMissing.Error() + ": want " + string(m) }
func (m missing) Unwrap() error { return ErrMissing }

// refused is an ErrRefused with its reason, a constant of this package.
type refused string

func (r refused) Error() string { return ErrRefused.Error() + ": " + string(r) }
func (r refused) Unwrap() error { return ErrRefused }

// Scheme is a provider's way to sign.
type Scheme string

// The schemes. The signature is in hexadecimal unless it says otherwise.
const (
	// GitHub signs the body with SHA-256: "X-Hub-Signature-256: sha256=…". The
	// X-Hub-Signature that it sends beside it, by SHA-1, is not looked at.
	GitHub Scheme = "github"
	// Stripe signs "timestamp.body" with SHA-256: "Stripe-Signature:
	// t=timestamp,v1=…", with one v1 for each secret that is valid at Stripe.
	Stripe Scheme = "stripe"
	// Slack signs "v0:timestamp:body" with SHA-256: "X-Slack-Signature: v0=…",
	// "X-Slack-Request-Timestamp: timestamp".
	Slack Scheme = "slack"
	// Generic signs the body with Config.Hash: "Config.Header: …", in
	// hexadecimal or in base64, told apart by the length, with or without
	// "hash=" before it.
	Generic Scheme = "generic"
)

// window is how far a timestamp may be from now, in seconds, both ways: what
// Stripe's and Slack's own libraries allow. Within it a request can be replayed.
const window = 5 * 60

// Config describes who signs, and how.
type Config struct {
	Scheme Scheme
	// Header has the signature, for Generic.
	Header string
	// Hash is sha256, sha512, sha1 or md5, for Generic; "" = sha256. A HMAC of
	// the last two is not known to be broken, but choose them for who offers
	// nothing else.
	Hash string
	// Secrets are those one of which has signed. The zero value is an error.
	Secrets Secrets
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Verifier verifies the signatures of one scheme. It is safe for concurrent use.
type Verifier struct {
	scheme   Scheme
	header   string
	hashName string
	newHash  func() hash.Hash
	now      func() time.Time
	secrets  atomic.Pointer[Secrets]
}

var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New, "sha1": sha1.New, "md5": md5.New}

// New returns a verifier, or an error that names what is wrong with c.
func New(c Config) (*Verifier, error) {
	v := &Verifier{scheme: c.Scheme, hashName: "sha256", now: c.Now}
	if v.now == nil {
		v.now = time.Now
	}
	if c.Scheme != Generic && (c.Header != "" || c.Hash != "") {
		return nil, fmt.Errorf("scheme %q has its own header and hash: want none", c.Scheme)
	}
	switch c.Scheme {
	case GitHub:
		v.header = "X-Hub-Signature-256"
	case Stripe:
		v.header = "Stripe-Signature"
	case Slack:
		v.header = "X-Slack-Signature"
	case Generic:
		if c.Header == "" {
			return nil, errors.New("scheme generic needs the name of the header with the signature")
		}
		v.header = c.Header
		if c.Hash != "" {
			v.hashName = c.Hash
		}
	default:
		return nil, fmt.Errorf("scheme %q: want github, stripe, slack or generic", c.Scheme)
	}
	if v.newHash = hashes[v.hashName]; v.newHash == nil {
		return nil, fmt.Errorf("hash %q: want sha256, sha512, sha1 or md5", v.hashName)
	}
	if c.Secrets.Len() == 0 {
		return nil, errors.New("there is no secret: want at least one")
	}
	v.SetSecrets(c.Secrets)
	return v, nil
}

// SetSecrets replaces the secrets. s must not be the zero value.
func (v *Verifier) SetSecrets(s Secrets) { v.secrets.Store(&s) }

// Header returns the name of the header with the signature. A request without
// it is not signed, and ErrMissing.
func (v *Verifier) Header() string { return v.header }

// Format implements fmt.Formatter: no verb shows a secret.
func (v *Verifier) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "webhook.Verifier(%s)", v.scheme) }

// Signature is what a request's header says. It proves nothing before Verify.
type Signature struct {
	verifier *Verifier
	prefix   string   // signed before the body
	macs     [][]byte // one of which must be right
}

// Read reads the signature, so that a request whose header is enough to refuse
// it is refused before its body is read. header returns all values of a field,
// whatever the case of its name, as [net/http.Header.Values] does. The error is
// ErrMissing or ErrRefused, wrapped.
func (v *Verifier) Read(header func(name string) []string) (*Signature, error) {
	value, err := one(header(v.header))
	if err != nil {
		if err == errNone {
			err = missing(v.header)
		}
		return nil, err
	}
	s := &Signature{verifier: v}
	timestamp := ""
	switch v.scheme {
	case GitHub:
		s.macs, err = parseGitHub(value)
	case Stripe:
		timestamp, s.macs, err = parseStripe(value)
		s.prefix = timestamp + "."
	case Slack:
		if s.macs, err = parseSlack(value); err != nil {
			break
		}
		if timestamp, err = one(header("X-Slack-Request-Timestamp")); err == errNone {
			err = refused("there is no X-Slack-Request-Timestamp")
		}
		s.prefix = "v0:" + timestamp + ":"
	case Generic:
		s.macs, err = parseGeneric(value, v.hashName, v.newHash().Size())
	}
	if err == nil && (v.scheme == Stripe || v.scheme == Slack) {
		err = v.checkTime(timestamp)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// errNone is a field that is not there, errors of one.
var errNone = errors.New("none")

// one returns the value of a field that must be there once: a proxy or the
// function might look at another of several.
func one(values []string) (string, error) {
	switch len(values) {
	case 0:
		return "", errNone
	case 1:
		return values[0], nil
	default:
		return "", refused("a header came more than once")
	}
}

// checkTime checks that timestamp, in seconds since 1970, is within the window.
func (v *Verifier) checkTime(timestamp string) error {
	t, ok := parseTime(timestamp)
	if !ok {
		return refused("the timestamp is not a plain number of seconds")
	}
	switch age := v.now().Unix() - t; {
	case age > window:
		return refused("the timestamp is more than 5 minutes old")
	case age < -window:
		return refused("the timestamp is more than 5 minutes ahead")
	}
	return nil
}

// Verify returns nil when one of the secrets has signed body, with what belongs
// to it. Every signature is compared with every secret's in constant time, so
// that how long it takes tells nobody which was close. The error is ErrRefused,
// wrapped.
func (s *Signature) Verify(body []byte) error {
	good := false
	for _, secret := range s.verifier.secrets.Load().keys() {
		h := hmac.New(s.verifier.newHash, secret)
		h.Write([]byte(s.prefix))
		h.Write(body)
		want := h.Sum(nil)
		for _, mac := range s.macs {
			good = hmac.Equal(mac, want) || good
		}
	}
	if !good {
		return refused("it is not the body's by any of the secrets")
	}
	return nil
}
