package iam

import "time"

// defaultExpiry is what an issuer's tokens live when it names no tokenExpiry:
// the shortest of the documented lifetimes.
const defaultExpiry = 30 * time.Minute

// Objects is what Compile takes, in the order in which it was found. Of the
// metadata the name alone counts: which namespaces objects may come from is for
// the store to decide.
type Objects struct {
	Issuers  []JwtIssuer
	Policies []Policy
	Roles    []Role
}

// Metadata is what this package uses of a Kubernetes object's metadata.
type Metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	// Source is where the object came from, for a Problem: a file and line.
	// Empty = the object's kind and name.
	Source string `json:"-"`
}

// JwtIssuer is a trusted OpenID provider.
type JwtIssuer struct {
	Metadata Metadata      `json:"metadata"`
	Spec     JwtIssuerSpec `json:"spec"`
}

// JwtIssuerSpec is a JwtIssuer's spec.
type JwtIssuerSpec struct {
	// Iss is the issuer's URL, which tokens' `iss` equals, byte by byte.
	Iss string `json:"iss"`
	// Aud are the audiences; a token carries one of them.
	Aud []string `json:"aud"`
	// TokenExpiry is the lifetime of the tokens issued in exchange, Go syntax,
	// at least 1s; empty = 30m.
	TokenExpiry string `json:"tokenExpiry,omitempty"`
	// IssInternal is an alternative URL to fetch keys from; empty = Iss.
	IssInternal string `json:"issInternal,omitempty"`
}

// Expiry returns TokenExpiry parsed; a compiled set holds valid ones only. One
// that is not valid is 0, for a token that lives no time at all.
func (s JwtIssuerSpec) Expiry() time.Duration {
	if s.TokenExpiry == "" {
		return defaultExpiry
	}
	d, err := time.ParseDuration(s.TokenExpiry)
	if err != nil {
		return 0
	}
	return d
}

// Policy is a set of permissions.
type Policy struct {
	Metadata Metadata   `json:"metadata"`
	Spec     PolicySpec `json:"spec"`
}

// PolicySpec is a Policy's spec.
type PolicySpec struct {
	Statement []Statement `json:"statement"`
}

// Statement allows actions on resources.
type Statement struct {
	// Sid is the author's name for the statement; it means nothing here.
	Sid string `json:"sid,omitempty"`
	// Effect is "Allow"; there is no other.
	Effect   string     `json:"effect"`
	Action   []string   `json:"action"`
	Resource []Resource `json:"resource"`
	// Condition restricts the statement to some claims; nil = to none.
	Condition Condition `json:"condition,omitempty"`
}

// Role gives policies to those whose claims it matches.
type Role struct {
	Metadata Metadata `json:"metadata"`
	Spec     RoleSpec `json:"spec"`
}

// RoleSpec is a Role's spec.
type RoleSpec struct {
	// Policy are the names of the policies.
	Policy []string `json:"policy"`
	// Principal and Condition both have to match; nil = not given, and when
	// neither is given the role matches nobody.
	Principal Match     `json:"principal,omitempty"`
	Condition Condition `json:"condition,omitempty"`
}

// Condition maps an operator, such as StringEqual, to what it compares.
type Condition map[string]Match

// Match maps a key, "jwt:<claim>", to the values of which the claim has to
// match one.
type Match map[string][]string
