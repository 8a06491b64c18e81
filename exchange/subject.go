package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/jwks"
)

// subject is on whose behalf a token is issued: what a verified subject token
// says, in one form, wherever the token is from.
type subject struct {
	// name is the subject in its own issuer's words, for messages.
	name string
	// claims are those of the subject's API token, except for the ones that
	// stamp sets.
	claims   map[string]any
	policies []string
	// lifetime is how long what is issued may live.
	lifetime time.Duration
	// end is when the API token that was given ends, and with it what is issued;
	// zero for an ID token.
	end time.Time
}

func (s subject) isAPIToken() bool { return !s.end.IsZero() }

// subject verifies a subject token with the keys of the issuer it claims. The
// error is an [*Error], or ctx's.
func (e *Exchanger) subject(ctx context.Context, t trust, token string) (subject, error) {
	raw := []byte(token)
	iss, err := auth.UnverifiedIssuer(raw)
	if err != nil {
		return subject{}, refuse(InvalidRequest, "subject_token: %s", err)
	}
	// Before the objects are asked: no JwtIssuer can lend our name other keys.
	if iss == e.c.Issuer.URL() {
		return e.apiToken(ctx, t, raw)
	}
	return e.idToken(ctx, t, iss, raw)
}

// idToken takes a token of a trusted issuer.
func (e *Exchanger) idToken(ctx context.Context, t trust, iss string, token []byte) (subject, error) {
	trusted, ok := t.set.Issuer(iss)
	if !ok {
		return subject{}, untrusted(iss)
	}
	keys := t.keys[iss]
	if keys == nil { // its URL was refused; current has logged why
		return subject{}, refuse(TemporarilyUnavailable, "the keys of issuer %s cannot be fetched", name(iss))
	}
	claims, err := e.verify(ctx, keys.Remote, token, iss, trusted.Spec.Aud)
	if err != nil {
		return subject{}, err
	}
	s, err := idSubject(t.set, e.c.Issuer.URL(), iss, claims)
	if err != nil {
		return subject{}, err
	}
	s.lifetime = trusted.Spec.Expiry()
	return s, nil
}

func untrusted(iss string) *Error {
	return refuse(InvalidRequest, "issuer %s is not a registered JwtIssuer", name(iss))
}

// idSubject is the subject of an ID token's claims, but for its lifetime.
func idSubject(set *iam.Set, own, iss string, claims auth.Claims) (subject, error) {
	sub, _ := claims["sub"].(string)
	if sub == "" {
		return subject{}, refuse(InvalidRequest, "subject_token has no sub")
	}
	policies := set.Policies(claims)
	if len(policies) == 0 {
		return subject{}, refuse(InvalidRequest, "No policies found for subject: %s", name(sub))
	}
	return subject{name: sub, claims: apiClaims(claims, own, iss, sub, policies), policies: policies}, nil
}

// apiToken takes a token that we issued ourselves.
func (e *Exchanger) apiToken(ctx context.Context, t trust, token []byte) (subject, error) {
	own := e.c.Issuer.URL()
	keys, err := e.own.current(e.c.Issuer)
	if err != nil {
		return subject{}, err
	}
	claims, err := e.verify(ctx, keys, token, own, []string{own})
	if err != nil {
		return subject{}, err
	}
	return apiSubject(t.set, own, claims)
}

// apiSubject is the subject of an API token's claims. Function tokens bear the
// same signature, issuer and audience, and so may whatever we come to issue
// later: only what has all the marks of an API token is one.
func apiSubject(set *iam.Set, own string, claims auth.Claims) (subject, error) {
	if _, ok := claims["function"]; ok {
		return subject{}, refuse(InvalidRequest, "a function token cannot be exchanged")
	}
	sub, _ := claims["sub"].(string)
	sub, federated := strings.CutPrefix(sub, "fed:")
	iss, _ := claims["fed:iss"].(string)
	policies, ok := textList(claims["policy"])
	end, err := expiry(claims)
	if !federated || iss == "" || !ok || err != nil {
		return subject{}, refuse(InvalidRequest, "the token is signed by this issuer, but is not an API token")
	}
	// Who no longer trusts an issuer does not trust its earlier logins either.
	trusted, ok := set.Issuer(iss)
	if !ok {
		return subject{}, refuse(InvalidRequest, "issuer %s, where the subject of this API token is from, is no longer a registered JwtIssuer", name(iss))
	}
	lifetime := trusted.Spec.Expiry()
	if system, ok := set.Issuer(own); ok {
		lifetime = min(lifetime, system.Spec.Expiry())
	}
	return subject{name: sub, claims: claims, policies: policies, lifetime: lifetime, end: end}, nil
}

// verify checks a subject token and turns package auth's errors into answers.
// Their texts hold nothing of the token.
func (e *Exchanger) verify(ctx context.Context, keys *jwks.Remote, token []byte, iss string, audience []string) (auth.Claims, error) {
	claims, err := auth.ParseToken(ctx, keys, token, auth.Expect{Issuer: iss, Audience: audience, Now: e.c.Now})
	switch {
	case err == nil:
		return claims, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, auth.ErrUnavailable):
		return nil, refuse(TemporarilyUnavailable, "the keys of issuer %s cannot be fetched at the moment; try again", name(iss))
	default:
		return nil, refuse(InvalidRequest, "subject_token: %s", err)
	}
}

// ours are the claims that a subject token cannot set in a token of ours.
var ours = []string{"iss", "aud", "sub", "exp", "iat", "nbf", "jti", "fed:iss", "policy", "function"}

// apiClaims returns an API token's claims but for those that stamp sets.
//
// Claim names are data, chosen by whoever feeds the provider, and this is
// where such data comes under our signature. So nothing that some reader may
// take for a claim of ours is copied: encoding/json, into a struct, takes
// "Function" for "function", and a token with that would open every function
// behind such a reader.
func apiClaims(from auth.Claims, own, iss, sub string, policies []string) map[string]any {
	claims := make(map[string]any, len(from)+len(ours))
	for n, v := range from {
		if !slices.ContainsFunc(ours, func(o string) bool { return strings.EqualFold(o, n) }) {
			claims[n] = v
		}
	}
	claims["iss"] = own
	claims["aud"] = own
	claims["sub"] = "fed:" + sub
	claims["fed:iss"] = iss
	claims["policy"] = policies
	return claims
}

// functionClaims returns a function token's claims but for those that stamp
// sets. It names what is kept of an API token's claims: a function's owner has
// no business with the rest.
func functionClaims(from map[string]any, permissions []iam.Resource, audience []string) map[string]any {
	function := map[string]any{"permissions": permissions}
	if len(audience) > 0 {
		function["audience"] = audience
	}
	return map[string]any{
		"iss":      from["iss"],
		"aud":      from["aud"],
		"sub":      from["sub"],
		"fed:iss":  from["fed:iss"],
		"function": function,
	}
}

// stamp makes claims those of a new token that lives for some seconds.
func stamp(claims map[string]any, now time.Time, seconds int) {
	claims["iat"] = now.Unix()
	claims["nbf"] = now.Unix()
	claims["exp"] = now.Unix() + int64(seconds)
	claims["jti"] = uuid.NewString()
}

// expiry returns exp of a token of ours, which is in whole seconds.
func expiry(claims auth.Claims) (time.Time, error) {
	n, _ := claims["exp"].(json.Number)
	seconds, err := n.Int64()
	return time.Unix(seconds, 0), err
}

// textList returns a claim that is a list of strings.
func textList(claim any) ([]string, bool) {
	list, ok := claim.([]any)
	texts := make([]string, 0, len(list))
	for _, v := range list {
		text, isText := v.(string)
		ok = ok && isText
		texts = append(texts, text)
	}
	return texts, ok
}
