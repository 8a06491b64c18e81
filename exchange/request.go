package exchange

import (
	"net/url"
	"strings"

	"github.com/gatehound/gatehound/auth"
)

// Limits on what a client may send. A token that does not fit is no use
// elsewhere either: servers limit the header it travels in.
const (
	maxRequest  = 64 << 10      // bytes, body and query together
	maxSubject  = auth.MaxToken // bytes of subject_token
	maxAudience = 64            // entries
)

// Request is a token exchange request (RFC 8693, 2.1). Empty is absent. Do not
// log one: SubjectToken is a credential.
type Request struct {
	GrantType        string
	SubjectToken     string
	SubjectTokenType string
	// RequestedTokenType asks for a kind of token; empty = any.
	RequestedTokenType string
	// Scope is empty for an API token, "function" for a function token.
	Scope string
	// Audience narrows a function token down to what one of these resource
	// patterns covers; empty = everything the subject may invoke.
	Audience []string
}

// ParseRequest reads parameters from a body of the type
// application/x-www-form-urlencoded and from a URL's raw query: callers use
// either. The error is an [*Error].
//
// Parsers that disagree about a request are how one gets past a check (which
// of two values counts? does ";" separate?), so whatever has two readings is
// refused. Unknown parameters are ignored (RFC 6749, 3.2), but those of RFC
// 8693 that would ask for a token other than the one we would issue are not.
func ParseRequest(body, query string) (Request, error) {
	var r Request
	if len(body)+len(query) > maxRequest {
		return r, refuse(InvalidRequest, "the request is larger than %d bytes", maxRequest)
	}
	for _, form := range []string{body, query} {
		for pair := range strings.SplitSeq(form, "&") {
			if err := r.add(pair); err != nil {
				return Request{}, err
			}
		}
	}
	if len(r.SubjectToken) > maxSubject {
		return Request{}, refuse(InvalidRequest, "subject_token is larger than %d bytes", maxSubject)
	}
	if len(r.Audience) > maxAudience {
		return Request{}, refuse(InvalidRequest, "more than %d audience parameters", maxAudience)
	}
	return r, nil
}

// add adds one parameter as it was sent.
func (r *Request) add(pair string) error {
	if strings.Contains(pair, ";") {
		return refuse(InvalidRequest, "a parameter contains an unencoded semicolon; parameters are separated by &")
	}
	rawName, rawValue, _ := strings.Cut(pair, "=")
	param, err := url.QueryUnescape(rawName)
	if err != nil {
		return refuse(InvalidRequest, "a parameter's name has a bad percent-encoding")
	}
	v, err := url.QueryUnescape(rawValue)
	if err != nil {
		return refuse(InvalidRequest, "parameter %s has a bad percent-encoding", value(param))
	}
	if v == "" {
		return nil // as if it were absent (RFC 6749, 3.2)
	}

	var target *string
	switch param {
	case "grant_type":
		target = &r.GrantType
	case "subject_token":
		target = &r.SubjectToken
	case "subject_token_type":
		target = &r.SubjectTokenType
	case "requested_token_type":
		target = &r.RequestedTokenType
	case "scope":
		target = &r.Scope
	case "audience":
		r.Audience = append(r.Audience, v)
		return nil
	case "resource":
		// Ignored, it would be answered by a token good for more than was asked.
		return refuse(InvalidTarget, "resource is not supported; name functions by audience")
	case "actor_token", "actor_token_type":
		// Ignored, it would be answered by a token that hides the actor.
		return refuse(InvalidRequest, "%s is not supported: there is no delegation", param)
	default:
		return nil
	}
	if *target != "" {
		return refuse(InvalidRequest, "parameter %s is given more than once", value(param))
	}
	*target = v
	return nil
}
