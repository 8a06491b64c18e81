package exchange

import (
	"context"
	"errors"
	"time"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
)

// Identity is the bearer of a verified API token, with the IAM objects that
// were in force when it was verified: whatever is decided on one request is
// decided by one set.
type Identity struct {
	set *iam.Set
	s   subject
}

// Subject returns the subject's name in the words of its issuer, and that
// issuer. Both are from outside, of any length.
func (i Identity) Subject() (name, issuer string) {
	issuer, _ = i.s.claims["fed:iss"].(string)
	return i.s.name, issuer
}

// FullName returns the claim name; "" = the token has none. It is from outside,
// of any length.
func (i Identity) FullName() string {
	name, _ := i.s.claims["name"].(string)
	return name
}

// Expires returns when the token ends.
func (i Identity) Expires() time.Time { return i.s.end }

// Granted returns the resources on which action is granted, by those of the
// token's policies that still exist, as they are now.
func (i Identity) Granted(action string) []iam.Resource {
	return i.set.Resources(i.s.policies, action, i.s.claims)
}

// Authenticate verifies an API token: one that we issued, and no function
// token. The error is an [*Error] whose Description holds nothing of the token
// (TemporarilyUnavailable: it could not be judged; else it is no good), or
// ctx's, or that our own keys are broken.
func (e *Exchanger) Authenticate(ctx context.Context, token []byte) (Identity, error) {
	t := e.current()
	if t.set == nil {
		return Identity{}, refuse(TemporarilyUnavailable, "the IAM objects are not loaded yet; try again")
	}
	own := e.c.Issuer.URL()
	// For the message: the keys would not verify it either.
	if iss, err := auth.UnverifiedIssuer(token); err == nil && iss != own {
		return Identity{}, refuse(InvalidRequest, "not a token of this gateway: exchange it for an API token first")
	}
	keys, err := e.own.current(e.c.Issuer)
	if err != nil {
		return Identity{}, err
	}
	claims, err := auth.ParseToken(ctx, keys, token, auth.Expect{Issuer: own, Audience: []string{own}, Now: e.c.Now})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return Identity{}, ctx.Err()
	case errors.Is(err, auth.ErrUnavailable):
		return Identity{}, refuse(TemporarilyUnavailable, "no key is published at the moment; try again")
	default:
		return Identity{}, refuse(InvalidRequest, "%s", err)
	}
	if _, ok := claims["function"]; ok {
		return Identity{}, refuse(InvalidRequest, "a function token opens functions, and nothing else")
	}
	s, err := apiSubject(t.set, own, claims)
	if err != nil {
		return Identity{}, err
	}
	return Identity{t.set, s}, nil
}
