package iam

import "strings"

// Resource names what a statement is about: "*" for everything, or
// "namespace:name", where "*" inside a side stands for any run of that side's
// characters: "dev:*", "*:env", "dev:order-*". There is no other wildcard,
// case counts, and anything else is malformed and matches nothing: a missing
// side, "**", a second colon, and all but printable ASCII, so that neither a
// look-alike letter nor an invisible one can pass for a name.
type Resource string

// Matches reports whether r, a pattern, covers the function named by namespace
// and name, from its first character to its last: older releases of OpenFaaS
// matched substrings, and a permission on "dev:e" opened "dev:env". An empty
// namespace or name is no function, not even for "*".
func (r Resource) Matches(namespace, name string) bool {
	if namespace == "" || name == "" {
		return false
	}
	nsPattern, namePattern, ok := r.sides()
	return ok && glob(nsPattern, namespace) && glob(namePattern, name)
}

// Valid reports whether r is a well-formed pattern.
func (r Resource) Valid() bool {
	_, _, ok := r.sides()
	return ok
}

// Overlaps reports whether some function is covered by both r and other.
func (r Resource) Overlaps(other Resource) bool {
	ns1, name1, ok1 := r.sides()
	ns2, name2, ok2 := other.sides()
	return ok1 && ok2 && globsMeet(ns1, ns2) && globsMeet(name1, name2)
}

// sides splits r into the patterns of the namespace and of the name.
func (r Resource) sides() (namespace, name string, ok bool) {
	if r == "*" {
		return "*", "*", true
	}
	for i := range len(r) {
		if r[i] <= ' ' || r[i] > '~' {
			return "", "", false
		}
	}
	namespace, name, _ = strings.Cut(string(r), ":")
	if namespace == "" || name == "" || strings.Contains(name, ":") {
		return "", "", false
	}
	return namespace, name, true
}

// glob reports whether pattern, in which "*" is any run of characters, matches
// all of s. It goes left to right and never back, so its time is linear.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}

// globsMeet reports whether some string matches both patterns, in
// len(p)*len(q) steps. A pattern of stars alone also matches the empty string,
// which is no name; but two of those share every other string too.
func globsMeet(p, q string) bool {
	// meet[j]: do p[i:] and q[j:] meet? Filled from the last i to the first.
	meet := make([]bool, len(q)+1)
	for i := len(p); i >= 0; i-- {
		diagonal := false // meet[j+1] of the row for i+1
		for j := len(q); j >= 0; j-- {
			below := meet[j]
			switch {
			case i == len(p) && j == len(q):
				meet[j] = true
			case i < len(p) && p[i] == '*':
				meet[j] = below || j < len(q) && meet[j+1]
			case j < len(q) && q[j] == '*':
				meet[j] = i < len(p) && below || meet[j+1]
			default:
				meet[j] = i < len(p) && j < len(q) && p[i] == q[j] && diagonal
			}
			diagonal = below
		}
	}
	return meet[0]
}
