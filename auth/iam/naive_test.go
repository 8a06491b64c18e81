package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// naive evaluates objects without fault, as the package comment says, with
// nothing compiled and none of the package's code: regexp for wildcards, big
// for numbers, and a walk over all roles for the index.
type naive struct{ Objects }

func (n naive) policies(claims map[string]any) []string {
	names := []string{}
	for _, r := range n.Roles {
		principal := r.Spec.Principal == nil || n.matches(Condition{"StringEqual": r.Spec.Principal}, claims)
		if !principal || !n.matches(r.Spec.Condition, claims) {
			continue
		}
		for _, name := range r.Spec.Policy {
			if slices.ContainsFunc(n.Policies, func(p Policy) bool { return p.Metadata.Name == name }) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (n naive) resources(policies []string, action string, claims map[string]any) []string {
	resources := []string{}
	for _, p := range n.Policies {
		for _, s := range p.Spec.Statement {
			if slices.Contains(policies, p.Metadata.Name) && slices.ContainsFunc(s.Action, func(a string) bool { return n.covers(a, action) }) && n.matches(s.Condition, claims) {
				for _, r := range s.Resource {
					if !slices.Contains(resources, string(r)) {
						resources = append(resources, string(r))
					}
				}
			}
		}
	}
	return resources
}

func (naive) covers(pattern, action string) bool {
	group, verb, _ := strings.Cut(action, ":")
	switch pattern {
	case "*", action, group + ":*":
		return true
	case "Function:Read":
		return group == "Function" && strings.Contains("List Get Logs", verb)
	case "Function:Admin":
		return group == "Function" && verb != "Invoke"
	case "Secret:Read":
		return action == "Secret:List"
	}
	return false
}

func (n naive) matches(c Condition, claims map[string]any) bool {
	for operator, m := range c {
		for key, values := range m {
			claim := n.claim(key, claims)
			if strings.HasPrefix(operator, "ForAnyValue:") {
				if list, ok := claim.([]any); ok {
					if !slices.ContainsFunc(list, func(item any) bool { return n.matchesOne(operator, values, item) }) {
						return false
					}
					continue
				}
			}
			if !n.matchesOne(operator, values, claim) {
				return false
			}
		}
	}
	return true
}

func (naive) claim(key string, claims map[string]any) any {
	if !strings.HasPrefix(key, "jwt:/") {
		return claims[key[4:]]
	}
	var claim any = claims
	for _, name := range strings.Split(key[5:], "/") {
		object, ok := claim.(map[string]any)
		if !ok {
			return nil
		}
		claim = object[strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")]
	}
	return claim
}

func (naive) matchesOne(operator string, values []string, claim any) bool {
	var have string
	switch c := claim.(type) {
	case string:
		have = c
	case bool:
		have = fmt.Sprint(c)
	case float64:
		have = new(big.Float).SetFloat64(c).Text('f', -1)
	case json.Number:
		if have = c.String(); strings.ContainsAny(have, ".eE") {
			f, err := c.Float64()
			if err != nil {
				return false
			}
			if have = new(big.Float).SetFloat64(f).Text('f', -1); have == "-0" {
				have = "0"
			}
		}
	default:
		return false
	}
	lower := func(s string) string {
		for c := 'A'; c <= 'Z'; c++ {
			s = strings.ReplaceAll(s, string(c), string(c-'A'+'a'))
		}
		return s
	}
	for _, want := range values {
		switch strings.TrimPrefix(operator, "ForAnyValue:") {
		case "StringEqual", "StringEquals":
			if have == want {
				return true
			}
		case "StringEqualIgnoreCase":
			if lower(have) == lower(want) {
				return true
			}
		case "StringLike":
			if regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(want), `\*`, ".*") + `$`).MatchString(have) {
				return true
			}
		}
	}
	return false
}

func requireSameDecision(t *testing.T, o Objects, claims map[string]any) {
	t.Helper()
	set, _ := Compile(o)
	policies := set.Policies(claims)
	require.ElementsMatch(t, naive{o}.policies(claims), policies, "%v\n%+v", claims, o)
	for _, action := range actions {
		got := []string{}
		for _, r := range set.Resources(policies, action, claims) {
			got = append(got, string(r))
		}
		require.ElementsMatch(t, naive{o}.resources(policies, action, claims), got, "%s: %v\n%+v", action, claims, o)
	}
}

func TestAgreesWithNaiveEvaluation(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, _ map[string][]string) {
		requireSameDecision(t, o, claims)
	})
}

// With many roles the index has to choose among their tests.
func TestIndexAgreesWithNaiveEvaluation(t *testing.T) {
	t.Parallel()
	r := random{rand.New(rand.NewPCG(1, 2))}
	for range 8 {
		var o Objects
		for i := range 100 {
			name := fmt.Sprint("r", i)
			o.Policies = append(o.Policies, policyOf(name, allow("*", "*")))
			o.Roles = append(o.Roles, Role{Metadata: Metadata{Name: name}, Spec: RoleSpec{Policy: []string{name}, Principal: r.match(), Condition: r.condition()}})
		}
		set, _ := Compile(o)
		for range 25 {
			claims := r.claims()
			require.ElementsMatch(t, naive{o}.policies(claims), set.Policies(claims), "%v\n%+v", claims, o.Roles)
		}
	}
}

// FuzzObjects: nothing panics, whatever the objects and the claims are, and the
// two evaluations agree about objects without fault.
func FuzzObjects(f *testing.F) {
	for seed := range uint64(20) {
		r := random{rand.New(rand.NewPCG(seed, 3))}
		objects, err := json.Marshal(r.objects())
		require.NoError(f, err)
		claims, err := json.Marshal(r.claims())
		require.NoError(f, err)
		f.Add(objects, claims)
	}
	f.Add([]byte(`{"Roles":[{"metadata":{"name":"r"},"spec":{"policy":["p"],"principal":{"jwt:/":null}}}]}`), []byte(`{"":{"":1e400}}`))
	f.Add([]byte(`{"Issuers":[{"metadata":{"name":"i"},"spec":{"iss":"https://a","aud":["b"]}}]}`), []byte(`{"sub":[[],{},-0.0]}`))
	f.Fuzz(func(t *testing.T, objects, claims []byte) {
		var o Objects
		if json.Unmarshal(objects, &o) != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(claims))
		d.UseNumber()
		var c map[string]any
		if d.Decode(&c) != nil {
			return
		}
		set, problems := Compile(o)
		set.ExplainRoles(c)
		set.ExplainStatements(set.Policies(c), "Function:Invoke", "dev", "env", c)
		if slices.ContainsFunc(problems, func(p Problem) bool { return p.Ignored }) {
			set.Resources(set.Policies(c), "Function:Invoke", c)
			return
		}
		requireSameDecision(t, o, c)
	})
}
