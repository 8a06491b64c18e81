// Package iam is the policy language: JwtIssuer, Policy and Role objects, and
// their evaluation against a token's claims. It is pure: no I/O, no clock, no
// HTTP. Where objects come from is package store's business; what follows
// from a decision is the caller's.
//
// Nothing is granted but by an Allow statement of a Policy that a matching Role
// names; there is no Deny. What the objects mean:
//
//	Role         matches when its principal, if given, and its condition, if
//	             given, both match; one with neither matches nobody
//	principal    jwt:sub and its subjects: the same as StringEqual on that key;
//	             other jwt: keys may be given the same way
//	             A role that does not test jwt:iss is for such subjects of all
//	             JwtIssuers, each of which can give that name to whom it likes
//	condition    operators ANDed, keys of an operator ANDed, values of a key ORed
//	order        of objects, statements, keys and values means nothing
//	statement    grants its actions on its resources when its condition, if any,
//	             matches; the statements of all policies are ORed
//	keys         "jwt:<claim>", the whole rest being the name of a top-level
//	             claim, dots, colons and slashes included
//	             "jwt:/<claim>/<name>...", with a slash in front, for what is in
//	             an object, by a JSON Pointer (RFC 6901: ~1 is a slash in a name,
//	             ~0 a tilde): jwt:/kubernetes.io/serviceaccount/name. It does not
//	             go into lists
//	values       a list, or a scalar for a list of one; an empty list matches
//	             nothing, and so does a claim that is missing or null
//	StringEqual, StringEquals     the same bytes
//	StringEqualIgnoreCase         the same but for the case of A to Z: Unicode's
//	             folding would let a Kelvin sign pass for a k
//	StringLike   "*" is any run of characters, the match is anchored at both
//	             ends; no other wildcard
//	ForAnyValue:<operator>        one of the claim's values matches; a claim that
//	             is no list counts as a list of one
//	             Without ForAnyValue an operator matches no list, not even a
//	             list of one
//	numbers and booleans          compare as text: true, false, and a number's
//	             plain decimal digits, without exponent or trailing zeros (a
//	             claim of 1e3 or 1000.0 is "1000"); integers keep every digit
//	actions      one by name, a whole group ("Function:*"), or "*" for all. Older
//	             documents' Function:Read is List, Get and Logs; Secret:Read is
//	             List; Function:Admin is every Function action but Invoke, which
//	             is younger than they are
//	resources    see [Resource]
//
// An object with a fault is left out as a whole and the rest keeps working, with
// a [Problem] to tell: half of a policy is not what its author meant, and which
// half is safe only the author knows. So an unknown operator, key or effect, a
// malformed resource, or a condition that is there but empty (a template that
// lost its values would otherwise grant without restriction) drops its Policy
// or Role. Milder things are a Problem alone: an unknown action grants nothing,
// a policy that is not there gives its Role nothing, an empty list of values
// matches nothing. Of two objects with one kind and name, or two JwtIssuers with
// one iss, neither counts, as nothing says which was meant.
//
// Roles are found by an index (see index.go), so that ten thousand of them cost
// an exchange no more than ten, as long as each has StringEqual or
// ForAnyValue:StringEqual on a claim that tells subjects apart, or a principal.
// A role with StringLike or StringEqualIgnoreCase alone is tested every time.
package iam

import (
	"maps"
	"slices"
)

// Problem is something wrong with one object; the other objects keep working.
type Problem struct {
	// Source is where the object came from: a file and line, or its name.
	Source string
	// Message says what is wrong and what would be right.
	Message string
	// Ignored says that the object, or the file, counts for nothing until it
	// is mended; false = it counts, and this is a warning.
	Ignored bool
}

// Set is a compiled collection of objects. It is immutable; the zero value
// trusts no issuer and grants nothing.
type Set struct {
	issuers  []*JwtIssuer          // by name
	byIss    map[string]*JwtIssuer // by spec.iss
	policies map[string][]statement
	roles    []*role
	index    index
}

type statement struct {
	path      string          // such as spec.statement[0] (sid "1-invoke")
	source    string          // its policy's
	actions   map[string]bool // without wildcards
	resources []Resource
	when      []test
}

func (st statement) grants(action string, claims map[string]any) bool {
	return st.actions[action] && allMatch(st.when, claims)
}

type role struct {
	name, source string
	policies     []string
	when         []test // never empty
}

// Issuer returns the trusted issuer whose spec.iss is iss.
func (s *Set) Issuer(iss string) (*JwtIssuer, bool) {
	issuer, ok := s.byIss[iss]
	return issuer, ok
}

// Issuers returns every trusted issuer, in the order of their names.
func (s *Set) Issuers() []*JwtIssuer { return slices.Clone(s.issuers) }

// RolesOfAnyIssuer returns the names of the roles that do not test the claim
// iss. Subjects and groups are names that each issuer gives as it likes: such a
// role is for those of that name of all trusted issuers, and of the next one.
func (s *Set) RolesOfAnyIssuer() []string {
	var names []string
	for _, r := range s.roles {
		if !slices.ContainsFunc(r.when, test.ofIssuer) {
			names = append(names, r.name)
		}
	}
	return names
}

// Policies returns the names of the policies whose roles match the claims,
// sorted, each once.
func (s *Set) Policies(claims map[string]any) []string {
	names := map[string]bool{}
	for _, r := range s.index.candidates(claims) {
		if !allMatch(r.when, claims) {
			continue
		}
		for _, name := range r.policies {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Resources returns the resources on which policies grant action to the
// claims, in the order of their statements, each once. Policies the set does
// not hold grant nothing. The action is one of the contract's, spelled out: a
// wildcard or an unknown one is granted to nobody.
func (s *Set) Resources(policies []string, action string, claims map[string]any) []Resource {
	var resources []Resource
	seen := map[Resource]bool{}
	for _, name := range policies {
		for _, st := range s.policies[name] {
			if !st.grants(action, claims) {
				continue
			}
			for _, r := range st.resources {
				if !seen[r] {
					seen[r] = true
					resources = append(resources, r)
				}
			}
		}
	}
	return resources
}
