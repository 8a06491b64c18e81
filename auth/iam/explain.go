package iam

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// RoleReason says whether a role matches some claims, and if not, why.
type RoleReason struct {
	// Name and Source are the role's, Policies what it gives.
	Name, Source string
	Policies     []string
	// Unmet has a line for every test that fails; empty = the role matches.
	Unmet []string
	// Elsewhere says that one of them is about `iss`: the role is for the
	// subjects of another issuer.
	Elsewhere bool
}

// ExplainRoles says of every role whether it matches the claims, in the order
// of the objects. The roles without Unmet are those that [Set.Policies] goes by.
func (s *Set) ExplainRoles(claims map[string]any) []RoleReason {
	reasons := make([]RoleReason, 0, len(s.roles))
	for _, r := range s.roles {
		reason := RoleReason{Name: r.name, Source: r.source, Policies: slices.Clone(r.policies)}
		for _, t := range unmet(r.when, claims) {
			reason.Unmet = append(reason.Unmet, t.explain(claims))
			reason.Elsewhere = reason.Elsewhere || t.ofIssuer()
		}
		reasons = append(reasons, reason)
	}
	return reasons
}

// StatementReason says whether a statement grants an action to some claims, and
// if not, why.
type StatementReason struct {
	// Policy is its policy's name, Source that policy's, Statement its place there.
	Policy, Source, Statement string
	// Unmet has a line for everything that is in the way.
	Unmet []string
	// Granted are the resources on which it grants the action; empty if there
	// is anything unmet.
	Granted []Resource
}

// ExplainStatements says of every statement of policies whether it grants
// action, and that on namespace:name unless both are empty. The statements
// without Unmet are those that [Set.Resources] goes by.
func (s *Set) ExplainStatements(policies []string, action, namespace, name string, claims map[string]any) []StatementReason {
	var reasons []StatementReason
	for _, policy := range policies {
		for _, st := range s.policies[policy] {
			reason := StatementReason{Policy: policy, Source: st.source, Statement: st.path}
			if !st.actions[action] {
				reason.Unmet = append(reason.Unmet, fmt.Sprintf("action: has %s, not %s",
					cmp.Or(strings.Join(slices.Sorted(maps.Keys(st.actions)), ", "), "nothing"), action))
			}
			for _, t := range unmet(st.when, claims) {
				reason.Unmet = append(reason.Unmet, t.explain(claims))
			}
			covers := func(r Resource) bool { return namespace == "" && name == "" || r.Matches(namespace, name) }
			if !slices.ContainsFunc(st.resources, covers) {
				reason.Unmet = append(reason.Unmet, fmt.Sprintf("resource: %q does not cover %s:%s", st.resources, namespace, name))
			}
			if len(reason.Unmet) == 0 {
				reason.Granted = slices.DeleteFunc(slices.Clone(st.resources), func(r Resource) bool { return !covers(r) })
			}
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// unmet returns the tests that fail.
func unmet(tests []test, claims map[string]any) []test {
	return slices.DeleteFunc(slices.Clone(tests), func(t test) bool { return t.matches(claims) })
}

// explain says why t fails.
func (t test) explain(claims map[string]any) string {
	const most = 5
	var values []string
	for _, v := range t.values[:min(len(t.values), most)] {
		values = append(values, strconv.Quote(v))
	}
	if more := len(t.values) - most; more > 0 {
		values = append(values, fmt.Sprintf("one of %d more", more))
	}
	want := cmp.Or(strings.Join(values, " or "), "nothing, as it has no values")

	claim := lookup(claims, t.path)
	have := "the claim is " + short(claim)
	switch claim.(type) {
	case nil:
		have = "the claim is missing"
	case []any, []string:
		if !t.anyOf {
			have += ", a list, which only ForAnyValue: looks into"
		}
	case map[string]any:
		have = "the claim is an object: name what is in it, as in " + pointer(t.path) + "/name"
	}
	return fmt.Sprintf("%s: %s, want %s", t.field, have, want)
}

// pointer is the key for what is at path in the form of a JSON Pointer.
func pointer(path []string) string {
	key := "jwt:"
	for _, name := range path {
		key += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return key
}

// short returns a claim as JSON, cut where it gets long, with nothing in it
// that acts on a terminal.
func short(claim any) string {
	b, _ := json.Marshal(claim) // it was JSON
	if len(b) > 200 {
		b = append(b[:197], "..."...)
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, string(b))
}
