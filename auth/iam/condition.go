package iam

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// test is one key of one operator: it matches when one of values matches the
// claim.
type test struct {
	field  string // where the object has it, such as spec.principal.jwt:sub
	key    string // the last part of that, jwt:sub
	path   []string
	values []string
	comparison
}

// comparison is how an operator compares.
type comparison struct {
	match func(value, claim string) bool
	exact bool // match is the equality of bytes
	anyOf bool // ForAnyValue: the claim may be a list
}

// allMatch reports whether every test matches.
func allMatch(tests []test, claims map[string]any) bool {
	for _, t := range tests {
		if !t.matches(claims) {
			return false
		}
	}
	return true
}

func (t test) matches(claims map[string]any) bool {
	claim := lookup(claims, t.path)
	if t.anyOf {
		switch list := claim.(type) {
		case []any:
			return slices.ContainsFunc(list, t.matchesOne)
		case []string:
			return slices.ContainsFunc(list, func(s string) bool { return t.matchesOne(s) })
		}
	}
	return t.matchesOne(claim)
}

// ofIssuer reports whether t is about who issued the token.
func (t test) ofIssuer() bool { return slices.Equal(t.path, []string{"iss"}) }

// lookup returns the claim at path, or nil. Objects alone are gone into: an
// issuer promises nothing about the order of a list.
func lookup(claims map[string]any, path []string) any {
	var claim any = claims
	for _, name := range path {
		object, _ := claim.(map[string]any)
		claim = object[name]
	}
	return claim
}

// claimPath returns where the claim is that a key stands for. What a key means
// must not depend on the token, or its holder chooses: if "a/b" were first a
// name and then, for want of it, a path, then who can add a claim called "a/b"
// could put it before the issuer's b in a. So the first character decides: a
// slash begins a JSON Pointer (RFC 6901), anything else is a name.
func claimPath(key string) (path []string, ok bool) {
	claim, ok := strings.CutPrefix(key, "jwt:")
	if !ok || claim == "" {
		return nil, false
	}
	pointer, ok := strings.CutPrefix(claim, "/")
	if !ok {
		return []string{claim}, true
	}
	for name := range strings.SplitSeq(pointer, "/") {
		if name == "" || strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(name), "~") {
			return nil, false
		}
		path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
	}
	return path, true
}

func (t test) matchesOne(claim any) bool {
	s, ok := text(claim)
	return ok && slices.ContainsFunc(t.values, func(value string) bool { return t.match(value, s) })
}

// text returns the text as which a claim is compared. Lists, objects, null and
// what is missing have none.
func text(claim any) (string, bool) {
	switch c := claim.(type) {
	case string:
		return c, true
	case bool:
		return strconv.FormatBool(c), true
	case json.Number:
		// An integer keeps its digits: a 20-digit account number must not
		// turn into its neighbour. All else goes through a float64, which bounds
		// the text of 1e999999999.
		if !strings.ContainsAny(string(c), ".eE") {
			return string(c), c != ""
		}
		f, err := c.Float64()
		if err != nil {
			return "", false
		}
		return text(f)
	case float64:
		if math.IsInf(c, 0) || math.IsNaN(c) {
			return "", false
		}
		if c == 0 {
			return "0", true // not -0
		}
		return strconv.FormatFloat(c, 'f', -1, 64), true
	}
	return "", false
}

// operator returns how the operator called name compares.
func operator(name string) (c comparison, known bool) {
	name, c.anyOf = strings.CutPrefix(name, "ForAnyValue:")
	switch name {
	case "StringEqual", "StringEquals":
		c.match, c.exact = func(value, claim string) bool { return value == claim }, true
	case "StringEqualIgnoreCase":
		c.match = equalFoldASCII
	case "StringLike":
		c.match = glob
	}
	return c, c.match != nil
}

func equalFoldASCII(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// condition compiles c, given as path. An error makes the object faulty;
// warnings do not.
func condition(path string, c Condition) (tests []test, warnings []string, err error) {
	if c != nil && len(c) == 0 {
		return nil, nil, fmt.Errorf("%s is empty: give an operator, such as StringEqual, or leave it out", path)
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		compare, known := operator(name)
		if !known {
			return nil, nil, fmt.Errorf("%s has the unknown operator %q: want StringEqual, StringEquals, StringEqualIgnoreCase, "+
				"StringLike, or ForAnyValue: and one of these", path, name)
		}
		ts, ws, err := match(path+"."+name, c[name], compare)
		if err != nil {
			return nil, nil, err
		}
		tests = append(tests, ts...)
		warnings = append(warnings, ws...)
	}
	return tests, warnings, nil
}

// match compiles m, given as path, into tests that compare so.
func match(path string, m Match, compare comparison) (tests []test, warnings []string, err error) {
	if len(m) == 0 {
		return nil, nil, fmt.Errorf("%s is empty: give a key, such as jwt:sub, or leave it out", path)
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		claim, ok := claimPath(key)
		if !ok {
			return nil, nil, fmt.Errorf("%s has the unknown key %q: want jwt:<claim>, such as jwt:sub, or jwt:/<claim>/<name> for what is in an object", path, key)
		}
		if len(m[key]) == 0 {
			warnings = append(warnings, fmt.Sprintf("%s.%s has no values and so matches nothing", path, key))
		}
		tests = append(tests, test{field: path + "." + key, key: key, path: claim, values: slices.Clone(m[key]), comparison: compare})
	}
	return tests, warnings, nil
}
