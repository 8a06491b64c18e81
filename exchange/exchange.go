// Package exchange trades a token of a trusted OpenID provider for a token of
// our own (RFC 8693). It owns the decision what is issued to whom: which
// subject tokens count, what becomes of their claims, how long the result
// lives. Verifying tokens is package auth's business, what policies grant is
// package iam's, signing is package issuer's; HTTP stops at the caller.
//
// Two tokens are issued. An API token carries the subject's claims and the
// names of the policies that matched, for /system/*. A function token carries
// nothing but the subject's name and the functions it may invoke.
//
//	subject token   scope      issued           lives until, at most
//	ID token        -          API token        now + the JwtIssuer's tokenExpiry
//	ID token        function   function token   the same, and now + MaxFunctionTokenLifetime
//	API token       function   function token   the same, and the API token's end
//	API token       -          nothing          (it would let a token live for ever)
//	function token  any        nothing
//
// The end of an ID token does not limit what is issued for it: providers give
// ID tokens minutes, for logging in, and tokenExpiry is there for the operator
// to say how long a login is good for.
//
// Conditions of a Role see the subject token's claims; conditions of a
// Policy's statement see the API token's, here and on /system/*, so that a
// policy grants the same whichever way the caller came.
package exchange

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// The identifiers of RFC 8693, sections 2.1 and 3.
const (
	GrantType            = "urn:ietf:params:oauth:grant-type:token-exchange"
	TokenTypeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	TokenTypeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	TokenTypeJWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// ScopeFunction asks for a function token.
const ScopeFunction = "function"

// Config describes an exchanger.
type Config struct {
	// Issuer signs what is issued.
	Issuer *issuer.Issuer
	// Objects returns the IAM objects in force; nil while they are not known
	// yet, and exchanges are refused for the time being. Each exchange is decided
	// by one set from beginning to end.
	Objects func() *iam.Set
	// MaxFunctionTokenLifetime bounds the life of function tokens, which cannot
	// be revoked; 0 = 12h.
	MaxFunctionTokenLifetime time.Duration
	// Client fetches the keys of trusted issuers; nil = NewClient's, without a
	// bundle.
	Client *http.Client
	// Cluster is the Kubernetes cluster that we run in; nil = none.
	Cluster *Cluster
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logf reports recoveries of the issuers' keys, several of them at a time;
	// nil = silence.
	Logf func(format string, args ...any)
	// Warnf reports trouble with them; nil = Logf.
	Warnf func(format string, args ...any)
}

// Exchanger exchanges tokens. It is safe for concurrent use.
type Exchanger struct {
	c   Config
	own own // the keys of c.Issuer

	mu      sync.Mutex
	trust   trust
	warned  string          // of roles; see warnOfAnyIssuer
	running context.Context // Run's; nil when it does not run
	tasks   sync.WaitGroup  // the key sets' background fetches
}

// New returns an exchanger, or an error that names what Config lacks.
func New(c Config) (*Exchanger, error) {
	switch {
	case c.Issuer == nil:
		return nil, errors.New("exchange: Config.Issuer is missing")
	case c.Objects == nil:
		return nil, errors.New("exchange: Config.Objects is missing")
	case c.MaxFunctionTokenLifetime < 0:
		return nil, errors.New("exchange: Config.MaxFunctionTokenLifetime is negative")
	}
	if c.MaxFunctionTokenLifetime == 0 {
		c.MaxFunctionTokenLifetime = 12 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Warnf == nil {
		c.Warnf = c.Logf
	}
	if c.Client == nil {
		c.Client = &http.Client{Transport: newTransport(nil)}
	}
	e := &Exchanger{c: c}
	// Before the first request: how long our keys are to be published depends
	// on the objects.
	e.current()
	return e, nil
}

// Response is a successful answer (RFC 8693, 2.2.1).
type Response struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type"`
	TokenType       string `json:"token_type"`
	// ExpiresIn is the token's life in seconds, at least 1: clients take 0 for
	// a token that never expires.
	ExpiresIn int    `json:"expires_in"`
	Scope     string `json:"scope,omitempty"`
}

// Exchange decides on one request. The error is an [*Error] to answer with, or
// something else if ctx ended or signing failed. The first request for an
// issuer may wait for its keys, as long as ctx and the client's timeout allow;
// requests for other issuers do not.
func (e *Exchanger) Exchange(ctx context.Context, r Request) (Response, error) {
	switch r.GrantType {
	case GrantType:
	case "":
		return Response{}, refuse(InvalidRequest, "grant_type is missing; want %s", GrantType)
	default:
		return Response{}, refuse(UnsupportedGrantType, "grant_type %s is not supported; want %s", value(r.GrantType), GrantType)
	}
	if r.SubjectToken == "" {
		return Response{}, refuse(InvalidRequest, "subject_token is missing")
	}
	if !knownType(r.SubjectTokenType) {
		return Response{}, refuse(InvalidRequest, "subject_token_type %s is not supported; want %s", value(r.SubjectTokenType), TokenTypeIDToken)
	}
	if r.RequestedTokenType != "" && !knownType(r.RequestedTokenType) {
		return Response{}, refuse(InvalidRequest, "requested_token_type %s is not supported; want %s", value(r.RequestedTokenType), TokenTypeIDToken)
	}
	if r.Scope != "" && r.Scope != ScopeFunction {
		return Response{}, refuse(InvalidScope, "scope %s is not supported; want %s, or none for an API token", value(r.Scope), ScopeFunction)
	}
	if len(r.Audience) > 0 && r.Scope != ScopeFunction {
		return Response{}, refuse(InvalidRequest, "audience needs scope=%s", ScopeFunction)
	}
	for _, a := range r.Audience {
		if !iam.Resource(a).Valid() {
			return Response{}, refuse(InvalidTarget, "audience %s is not a function; want namespace:name, namespace:* or *", value(a))
		}
	}

	trust := e.current()
	if trust.set == nil {
		return Response{}, refuse(TemporarilyUnavailable, "the IAM objects are not loaded yet; try again")
	}
	s, err := e.subject(ctx, trust, r.SubjectToken)
	if err != nil {
		return Response{}, err
	}
	if s.isAPIToken() && r.Scope != ScopeFunction {
		return Response{}, refuse(InvalidRequest, "an API token can only be exchanged for a function token: add scope=%s", ScopeFunction)
	}

	claims, lifetime := s.claims, s.lifetime
	if r.Scope == ScopeFunction {
		permissions := trust.set.Resources(s.policies, "Function:Invoke", s.claims)
		if len(permissions) == 0 {
			return Response{}, refuse(InvalidRequest, "No Function:Invoke permission found for subject: %s", name(s.name))
		}
		// Before they are compared, each with each: the time that takes grows with
		// the product of their lengths.
		if size(permissions)+size(r.Audience) > auth.MaxToken {
			return Response{}, tooLarge()
		}
		for _, a := range r.Audience {
			if !slices.ContainsFunc(permissions, iam.Resource(a).Overlaps) {
				return Response{}, refuse(InvalidTarget, "audience %s is not covered by any Function:Invoke permission", value(a))
			}
		}
		claims = functionClaims(s.claims, permissions, r.Audience)
		lifetime = min(lifetime, e.c.MaxFunctionTokenLifetime)
	}

	now := e.c.Now().Truncate(time.Second)
	if s.isAPIToken() {
		lifetime = min(lifetime, s.end.Sub(now))
	}
	seconds := int(lifetime / time.Second)
	if seconds < 1 {
		return Response{}, refuse(InvalidRequest, "the token issued would live less than a second: the subject token is about to expire, or tokenExpiry is too short")
	}
	stamp(claims, now, seconds)
	token, err := e.c.Issuer.Sign(claims)
	if err != nil {
		return Response{}, err
	}
	if len(token) > auth.MaxToken {
		return Response{}, tooLarge()
	}
	return Response{AccessToken: token, IssuedTokenType: TokenTypeIDToken, TokenType: "Bearer", ExpiresIn: seconds, Scope: r.Scope}, nil
}

func tooLarge() *Error {
	return refuse(InvalidRequest, "the token issued would be larger than %d bytes, which is refused everywhere: "+
		"the subject token has too many claims, or too many resources are granted or named by audience", auth.MaxToken)
}

// size is how many bytes the texts have together.
func size[S ~string](texts []S) (n int) {
	for _, t := range texts {
		n += len(t)
	}
	return n
}

// knownType reports whether t is a kind of token we take and issue: all three
// mean a JWT here.
func knownType(t string) bool {
	return t == TokenTypeIDToken || t == TokenTypeAccessToken || t == TokenTypeJWT
}
