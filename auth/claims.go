package auth

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehound/gatehound/auth/iam"
)

const (
	defaultLeeway = time.Second
	// maxLeeway: clocks further apart are broken, and what has expired longer
	// ago is no accident.
	maxLeeway = time.Minute
	// maxDate is the end of the year 9999, in seconds since 1970. What lies
	// beyond is milliseconds by mistake, or nonsense. How long a token lives
	// up to there is its issuer's decision.
	maxDate = 253402300799
)

// check compares c with x and returns when it is no longer good, leeway
// included.
func (c Claims) check(x Expect) (expires time.Time, err error) {
	now, leeway := time.Now(), x.Leeway
	if x.Now != nil {
		now = x.Now()
	}
	if leeway == 0 {
		leeway = defaultLeeway
	}

	if iss, _ := c["iss"].(string); iss == "" || iss != x.Issuer {
		return time.Time{}, refused("iss is not the expected issuer")
	}
	audience, ok := stringOrStrings(c["aud"])
	if !ok {
		return time.Time{}, refused("aud is missing or neither a string nor an array of strings")
	}
	if !slices.ContainsFunc(x.Audience, func(a string) bool { return a != "" && slices.Contains(audience, a) }) {
		return time.Time{}, refused("aud does not name the expected audience")
	}

	exp, ok := date(c["exp"])
	if !ok {
		return time.Time{}, refused("exp is missing or not a date")
	}
	expires = exp.Add(leeway)
	if !now.Before(expires) {
		return time.Time{}, refused("the token has expired")
	}
	iat, ok := date(c["iat"])
	if !ok {
		return time.Time{}, refused("iat is missing or not a date")
	}
	if iat.After(now.Add(leeway)) {
		return time.Time{}, refused("the token was issued in the future")
	}
	if exp.Before(iat) { // it was never good; only the leeway could let it in
		return time.Time{}, refused("exp is before iat")
	}
	if v, present := c["nbf"]; present {
		nbf, ok := date(v)
		if !ok {
			return time.Time{}, refused("nbf is not a date")
		}
		if nbf.After(now.Add(leeway)) {
			return time.Time{}, refused("the token is not valid yet")
		}
	}
	return expires, nil
}

// allows reports whether the `function` claim opens the function namespace:
// name. A token without one, such as an API or ID token, is no function token:
// it is refused, however much its bearer may do elsewhere.
func (c Claims) allows(namespace, name string) (bool, error) {
	function, ok := c["function"].(map[string]any)
	if !ok {
		return false, refused("no function claim: not a function token")
	}
	permissions, ok := stringList(function["permissions"])
	if !ok {
		return false, refused("permissions of the function claim are not an array of strings")
	}
	audience := []string(nil)
	if v, present := function["audience"]; present {
		if audience, ok = stringList(v); !ok {
			return false, refused("audience of the function claim is not an array of strings")
		}
	}
	// A malformed pattern matches nothing: in audience it narrows, never opens.
	matches := func(pattern string) bool { return iam.Resource(pattern).Matches(namespace, name) }
	return slices.ContainsFunc(permissions, matches) &&
		(len(audience) == 0 || slices.ContainsFunc(audience, matches)), nil
}

// caller returns the claims called names, as text.
func (c Claims) caller(names []string) *Caller {
	values := make([]string, len(names))
	for i, name := range names {
		switch v := c[name].(type) {
		case nil:
		case string:
			values[i] = strings.Clone(v) // of all claims, which need not be kept
		default:
			b, _ := json.Marshal(v) // it was JSON
			values[i] = string(b)
		}
	}
	return &Caller{Claims: values}
}

// size is how many bytes c's values have; nil has none.
func (c *Caller) size() (n int) {
	if c != nil {
		for _, v := range c.Claims {
			n += len(v)
		}
	}
	return n
}

// date reads a NumericDate (RFC 7519 §2): seconds since 1970, a fraction
// allowed, from then to the year 9999.
func date(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || !(f >= 0 && f <= maxDate) {
		return time.Time{}, false
	}
	seconds, fraction := math.Modf(f)
	return time.Unix(int64(seconds), int64(fraction*float64(time.Second))), true
}

// stringOrStrings reads RFC 7519 §4.1.3's aud. An entry given twice is
// harmless.
func stringOrStrings(v any) ([]string, bool) {
	if s, ok := v.(string); ok {
		return []string{s}, true
	}
	return stringList(v)
}

func stringList(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := make([]string, len(list))
	for i, e := range list {
		if out[i], ok = e.(string); !ok {
			return nil, false
		}
	}
	return out, true
}
