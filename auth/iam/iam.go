// Package iam is the policy language: JwtIssuer, Policy and Role objects, and
// their evaluation against a token's claims. It is pure: no I/O, no clock, no
// HTTP. Where objects come from is package store's business; what follows
// from a decision is the caller's.
package iam

// Problem is something wrong with one object; the other objects keep working.
type Problem struct {
	// Source is where the object came from: a file and line, or its name.
	Source string
	// Message says what is wrong and what would be right.
	Message string
}

// Set is a compiled collection of objects. It is immutable.
type Set struct{}

// Issuer returns the trusted issuer whose spec.iss is iss.
func (s *Set) Issuer(iss string) (*JwtIssuer, bool) { return nil, false }

// Issuers returns every trusted issuer, in the order of their names.
func (s *Set) Issuers() []*JwtIssuer { return nil }

// Policies returns the names of the policies whose roles match the claims,
// sorted, each once.
func (s *Set) Policies(claims map[string]any) []string { return nil }

// Resources returns the resources on which policies grant action to the
// claims, in the order of their statements, each once. Policies the set does
// not hold grant nothing.
func (s *Set) Resources(policies []string, action string, claims map[string]any) []Resource {
	return nil
}
