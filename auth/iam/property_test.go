package iam

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// random makes objects and claims of so few words that they meet often.
type random struct{ *rand.Rand }

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

// some makes between min and max things.
func some[T any](r random, min, max int, one func() T) []T {
	list := []T{}
	for range min + r.IntN(max-min+1) {
		list = append(list, one())
	}
	return list
}

// keys are more often of plain claims than of others, or hardly a role matches.
var keys = append(slices.Repeat([]string{"jwt:sub", "jwt:groups"}, 6), "jwt:/k8s/ns", "jwt:/k8s/ns", "jwt:/k8s~1ns", "jwt:k8s/ns", "jwt:/k8s")

func (r random) match() Match {
	m := Match{}
	for range pick(r, 1, 1, 2) {
		m[pick(r, keys...)] = some(r, 0, 5, func() string { return pick(r, "a", "A", "b", "a*", "*", "1") })
	}
	return m
}

func (r random) condition() Condition {
	c := Condition{}
	for range pick(r, 1, 1, 2) {
		op := pick(r, "StringEqual", "StringEquals", "StringEqualIgnoreCase", "StringLike")
		c[pick(r, "", "ForAnyValue:")+op] = r.match()
	}
	return c
}

func (r random) statement() Statement {
	s := Statement{
		Effect:   "Allow",
		Action:   some(r, 1, 3, func() string { return pick(r, append(actions, "*", "Function:*", "Function:Read", "Secret:*")...) }),
		Resource: some(r, 1, 3, func() Resource { return pick[Resource](r, "*", "dev:*", "dev:env", "*:env", "ops:a*") }),
	}
	if r.IntN(2) == 0 {
		s.Condition = r.condition()
	}
	return s
}

func (r random) objects() Objects {
	var o Objects
	for i := range 1 + r.IntN(4) {
		o.Policies = append(o.Policies, policyOf(fmt.Sprint("p", i), some(r, 1, 3, r.statement)...))
	}
	for i := range 1 + r.IntN(8) {
		role := Role{Metadata: Metadata{Name: fmt.Sprint("r", i)}}
		role.Spec.Policy = some(r, 1, 3, func() string { return pick(r, "p0", "p1", "p2", "p3") })
		if r.IntN(2) == 0 {
			role.Spec.Principal = r.match()
		}
		if role.Spec.Principal == nil || r.IntN(2) == 0 {
			role.Spec.Condition = r.condition()
		}
		o.Roles = append(o.Roles, role)
	}
	return o
}

func (r random) claims() map[string]any {
	claims := map[string]any{}
	fill := func(claims map[string]any, name string) {
		scalar := func() any { return pick[any](r, "a", "a", "b", "ab", "", true, 1.0) }
		switch r.IntN(6) {
		case 0: // missing
		case 1:
			claims[name] = some(r, 0, 3, scalar)
		default:
			claims[name] = scalar()
		}
	}
	for _, name := range []string{"sub", "groups", "k8s/ns"} {
		fill(claims, name)
	}
	if r.IntN(3) > 0 {
		object := map[string]any{}
		fill(object, "ns")
		claims["k8s"] = object
	}
	return claims
}

// decision is all that a set decides about claims, by action; what Policies
// returns stands under "".
func decision(s *Set, claims map[string]any) map[string][]string {
	all := map[string][]string{"": s.Policies(claims)}
	for _, action := range actions {
		for _, resource := range s.Resources(all[""], action, claims) {
			all[action] = append(all[action], string(resource))
		}
		slices.Sort(all[action])
	}
	return all
}

// forRandom calls property with many objects and claims, and checks that
// enough of them granted anything for the property to mean something.
func forRandom(t *testing.T, property func(r random, o Objects, claims map[string]any, before map[string][]string)) {
	t.Parallel()
	granting := 0
	const rounds = 400
	for seed := range uint64(rounds) {
		r := random{rand.New(rand.NewPCG(seed, 1))}
		o, claims := r.objects(), r.claims()
		set, _ := Compile(o)
		before := decision(set, claims)
		if len(before) > 1 && len(before["Function:Invoke"]) > 0 {
			granting++
		}
		property(r, o, claims, before)
	}
	require.Greater(t, granting, rounds/20)
}

func TestAddingAStatementNeverRemovesAPermission(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, before map[string][]string) {
		p := &o.Policies[r.IntN(len(o.Policies))]
		p.Spec.Statement = slices.Insert(p.Spec.Statement, r.IntN(len(p.Spec.Statement)+1), r.statement())
		set, _ := Compile(o)
		after := decision(set, claims)
		for what, granted := range before {
			require.Subset(t, after[what], granted, "%s: %+v", what, o)
		}
	})
}

func TestAddingAnObjectNeverRemovesAPermission(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, before map[string][]string) {
		if r.IntN(2) == 0 {
			o.Policies = slices.Insert(o.Policies, r.IntN(len(o.Policies)+1), policyOf("new", some(r, 1, 3, r.statement)...))
		}
		role := Role{Metadata: Metadata{Name: "new"}, Spec: RoleSpec{Policy: []string{"new", "p0"}, Condition: r.condition()}}
		o.Roles = slices.Insert(o.Roles, r.IntN(len(o.Roles)+1), role)
		set, _ := Compile(o)
		after := decision(set, claims)
		for what, granted := range before {
			require.Subset(t, after[what], granted, "%s: %+v", what, o)
		}
	})
}

// What explains a decision is what decided.
func TestExplanationsAgreeWithDecisions(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, before map[string][]string) {
		set, _ := Compile(o)
		policies := []string{}
		for _, reason := range set.ExplainRoles(claims) {
			if len(reason.Unmet) == 0 {
				policies = append(policies, reason.Policies...)
			}
		}
		slices.Sort(policies)
		require.ElementsMatch(t, before[""], slices.Compact(policies), "%+v", o)
		for _, action := range actions {
			for _, function := range []string{"", "env"} {
				granted := map[string]bool{}
				for _, reason := range set.ExplainStatements(before[""], action, function, function, claims) {
					require.Equal(t, len(reason.Unmet) == 0, len(reason.Granted) > 0)
					for _, resource := range reason.Granted {
						granted[string(resource)] = true
					}
				}
				for _, resource := range before[action] {
					require.Equal(t, function == "" || Resource(resource).Matches(function, function), granted[resource], "%s on %q: %+v", action, function, o)
				}
			}
		}
	})
}

func TestEvaluationIgnoresOrder(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, before map[string][]string) {
		shuffle := func(n int, swap func(i, j int)) { r.Shuffle(n, swap) }
		shuffle(len(o.Policies), func(i, j int) { o.Policies[i], o.Policies[j] = o.Policies[j], o.Policies[i] })
		shuffle(len(o.Roles), func(i, j int) { o.Roles[i], o.Roles[j] = o.Roles[j], o.Roles[i] })
		for _, p := range o.Policies {
			st := p.Spec.Statement
			shuffle(len(st), func(i, j int) { st[i], st[j] = st[j], st[i] })
			for _, s := range st {
				shuffle(len(s.Action), func(i, j int) { s.Action[i], s.Action[j] = s.Action[j], s.Action[i] })
				shuffle(len(s.Resource), func(i, j int) { s.Resource[i], s.Resource[j] = s.Resource[j], s.Resource[i] })
				shuffleValues(r, s.Condition)
			}
		}
		for _, role := range o.Roles {
			names := role.Spec.Policy
			shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			shuffleValues(r, role.Spec.Condition)
			shuffleValues(r, Condition{"principal": role.Spec.Principal})
		}
		set, _ := Compile(o)
		require.Equal(t, before, decision(set, claims), "%+v", o)
	})
}

// shuffleValues changes the order of values; keys and operators have none, and
// Go's maps see to it that nothing relies on one.
func shuffleValues(r random, c Condition) {
	for _, m := range c {
		for _, values := range m {
			r.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		}
	}
}

func TestAnUnknownOperatorNeverGrants(t *testing.T) {
	forRandom(t, func(r random, o Objects, claims map[string]any, before map[string][]string) {
		unknown := pick(r, "StringNotEqual", "Bool", "ForAllValues:StringLike", "stringlike", "")
		add := func(c Condition) Condition {
			if c == nil {
				c = Condition{}
			}
			c[unknown] = r.match()
			return c
		}
		// In every role: nobody is anything.
		inRoles := o
		inRoles.Roles = slices.Clone(o.Roles)
		for i := range inRoles.Roles {
			inRoles.Roles[i].Spec.Condition = add(inRoles.Roles[i].Spec.Condition)
		}
		set, _ := Compile(inRoles)
		require.Empty(t, set.Policies(claims), "%+v", inRoles)

		// In a statement of every policy: no policy gives anything.
		for i := range o.Policies {
			s := pick(r, 0, len(o.Policies[i].Spec.Statement)-1)
			o.Policies[i].Spec.Statement[s].Condition = add(o.Policies[i].Spec.Statement[s].Condition)
		}
		set, _ = Compile(o)
		for _, action := range actions {
			require.Empty(t, set.Resources([]string{"p0", "p1", "p2", "p3"}, action, claims), "%+v", o)
		}
	})
}
