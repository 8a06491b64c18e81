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
	claim  string
	values []string
	match  func(value, claim string) bool
	anyOf  bool // ForAnyValue: the claim may be a list
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
	claim := claims[t.claim]
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

// operator returns how the operator called name compares, or nil.
func operator(name string) (match func(value, claim string) bool, anyOf bool) {
	name, anyOf = strings.CutPrefix(name, "ForAnyValue:")
	switch name {
	case "StringEqual", "StringEquals":
		return func(value, claim string) bool { return value == claim }, anyOf
	case "StringEqualIgnoreCase":
		return equalFoldASCII, anyOf
	case "StringLike":
		return glob, anyOf
	}
	return nil, anyOf
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
		compare, anyOf := operator(name)
		if compare == nil {
			return nil, nil, fmt.Errorf("%s has the unknown operator %q: want StringEqual, StringEquals, StringEqualIgnoreCase, "+
				"StringLike, or ForAnyValue: and one of these", path, name)
		}
		ts, ws, err := match(path+"."+name, c[name])
		if err != nil {
			return nil, nil, err
		}
		for _, t := range ts {
			t.match, t.anyOf = compare, anyOf
			tests = append(tests, t)
		}
		warnings = append(warnings, ws...)
	}
	return tests, warnings, nil
}

// match compiles m, given as path, into tests for equality.
func match(path string, m Match) (tests []test, warnings []string, err error) {
	if len(m) == 0 {
		return nil, nil, fmt.Errorf("%s is empty: give a key, such as jwt:sub, or leave it out", path)
	}
	equal, _ := operator("StringEqual")
	for _, key := range slices.Sorted(maps.Keys(m)) {
		claim, ok := strings.CutPrefix(key, "jwt:")
		if !ok || claim == "" {
			return nil, nil, fmt.Errorf("%s has the unknown key %q: want jwt:<claim>, such as jwt:sub", path, key)
		}
		if len(m[key]) == 0 {
			warnings = append(warnings, fmt.Sprintf("%s.%s has no values and so matches nothing", path, key))
		}
		tests = append(tests, test{claim: claim, values: slices.Clone(m[key]), match: equal})
	}
	return tests, warnings, nil
}
