// Package auth verifies the tokens of this system: function tokens in every
// function's watchdog, ID tokens and API tokens in the gateway. It owns the
// strict reading of a JWS (RFC 7515) and of a JWT's claims (RFC 7519); keys
// are package jwks' business, policy is package iam's, and requests stop at
// the callers: nothing in here knows an HTTP server.
package auth

import (
	"context"
	"errors"
	"time"

	"github.com/gatehound/gatehound/auth/jwks"
)

// What callers branch on; Status and Refusal map them.
var (
	// ErrNoBearer: the request has no bearer token at all.
	// Its text is the contract's response body, byte for byte.
	ErrNoBearer = errors.New("Bearer must be present in Authorization header")
	// ErrInvalidToken: the token is refused; wrapped with the reason, which
	// never holds any of the token's bytes.
	ErrInvalidToken = errors.New("failed to parse JWT token")
	// ErrForbidden: the token is good, but not for this function.
	ErrForbidden = errors.New("insufficient permissions")
	// ErrUnavailable: the issuer's keys are not at hand yet.
	ErrUnavailable = errors.New("the issuer's keys are not available yet")
)

// refused is an ErrInvalidToken with its reason. Reasons are constants of
// this package, so they cannot hold anything of a token.
type refused string

func (r refused) Error() string { return ErrInvalidToken.Error() + ": " + string(r) }
func (r refused) Unwrap() error { return ErrInvalidToken }

// Claims are a verified token's claims, by name, decoded as encoding/json
// does, but with numbers as json.Number.
type Claims map[string]any

// Expect says what a token must claim besides being in date.
type Expect struct {
	// Issuer must equal `iss`; empty refuses every token.
	Issuer string
	// Audience: one of these must be in `aud`; empty refuses every token.
	Audience []string
	// AccessToken takes the header type at+jwt besides JWT: where access tokens
	// are wanted, providers may say that theirs are such (RFC 9068 §2.1).
	AccessToken bool
	// Leeway is granted on exp, nbf and iat; 0 = 1s.
	Leeway time.Duration
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// ParseToken verifies a compact JWS with keys and checks what x expects. The
// error is ErrInvalidToken, wrapped with the reason, or ErrUnavailable. It
// does not look at what a token is for: a caller that takes ID or API tokens
// must refuse those with a `function` claim itself.
func ParseToken(ctx context.Context, keys *jwks.Remote, token []byte, x Expect) (Claims, error) {
	claims, _, err := verifySignature(ctx, keys, token, x.AccessToken)
	if err != nil {
		return nil, err
	}
	if _, err := claims.check(x); err != nil {
		return nil, err
	}
	return claims, nil
}

// UnverifiedIssuer returns the `iss` a compact JWS claims, only to choose the
// keys to verify it with. The error is ErrInvalidToken, wrapped.
func UnverifiedIssuer(token []byte) (string, error) {
	t, err := parseCompact(token)
	if err != nil {
		return "", err
	}
	claims, err := decodeObject(t.payload, maxClaimsValues)
	if err != nil {
		return "", err
	}
	iss, _ := claims["iss"].(string)
	if iss == "" {
		return "", refused("iss is missing or not a string")
	}
	return iss, nil
}
