package iam

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExplainRoles(t *testing.T) {
	t.Parallel()
	role := func(name string, spec RoleSpec) Role {
		spec.Policy = []string{"p"}
		return Role{Metadata: Metadata{Name: name, Source: name + ".yaml:1"}, Spec: spec}
	}
	set, _ := Compile(Objects{
		Policies: []Policy{policyOf("p", allow("*", "*"))},
		Roles: []Role{
			role("matches", RoleSpec{Principal: Match{"jwt:sub": {"alice"}}}),
			role("principal", RoleSpec{Principal: Match{"jwt:sub": {"bob", "carol"}}}),
			role("two", RoleSpec{Condition: Condition{
				"StringEqual": {"jwt:groups": {"dev"}, "jwt:email": {"a@b"}},
			}}),
			role("nested", RoleSpec{Condition: Condition{"StringEqual": {"jwt:k/8s": {"x"}, "jwt:/k~18s/ns": {"dev"}}}}),
			role("elsewhere", RoleSpec{Principal: Match{"jwt:sub": {"alice"}}, Condition: Condition{"StringEqual": {"jwt:iss": {"https://b"}}}}),
			role("many", RoleSpec{Condition: Condition{"StringLike": {"jwt:sub": {"1", "2", "3", "4", "5", "6", "7"}}, "StringEqual": {"jwt:n": {}}}}),
		},
	})
	got := set.ExplainRoles(claimsOf(t, `{"iss":"https://a","sub":"alice","groups":["ops\u009b","dev"],"k/8s":{"ns":true},"n":1.0}`))
	require.Equal(t, []RoleReason{
		{Name: "matches", Source: "matches.yaml:1", Policies: []string{"p"}},
		{Name: "principal", Source: "principal.yaml:1", Policies: []string{"p"}, Unmet: []string{`spec.principal.jwt:sub: the claim is "alice", want "bob" or "carol"`}},
		{Name: "two", Source: "two.yaml:1", Policies: []string{"p"}, Unmet: []string{
			`spec.condition.StringEqual.jwt:email: the claim is missing, want "a@b"`,
			`spec.condition.StringEqual.jwt:groups: the claim is ["ops?","dev"], a list, which only ForAnyValue: looks into, want "dev"`,
		}},
		{Name: "nested", Source: "nested.yaml:1", Policies: []string{"p"}, Unmet: []string{
			`spec.condition.StringEqual.jwt:/k~18s/ns: the claim is true, want "dev"`,
			`spec.condition.StringEqual.jwt:k/8s: the claim is an object: name what is in it, as in jwt:/k~18s/name, want "x"`,
		}},
		{Name: "elsewhere", Source: "elsewhere.yaml:1", Policies: []string{"p"}, Elsewhere: true, Unmet: []string{
			`spec.condition.StringEqual.jwt:iss: the claim is "https://a", want "https://b"`,
		}},
		{Name: "many", Source: "many.yaml:1", Policies: []string{"p"}, Unmet: []string{
			`spec.condition.StringEqual.jwt:n: the claim is 1.0, want nothing, as it has no values`,
			`spec.condition.StringLike.jwt:sub: the claim is "alice", want "1" or "2" or "3" or "4" or "5" or one of 2 more`,
		}},
	}, got)
}

func TestExplainStatements(t *testing.T) {
	t.Parallel()
	conditional := allow("Function:Invoke", "dev:env", "dev:*")
	conditional.Sid, conditional.Condition = "1-dev", Condition{"StringEqual": {"jwt:sub": {"fed:bob"}}}
	p := policyOf("p", conditional, allow("Function:Invoke", "dev:e", "dev:en*", "*"), allow("Function:Read", "ops:*"))
	p.Metadata.Source = "p.yaml:3"
	set := compileGood(t, Objects{Policies: []Policy{p}})
	claims := map[string]any{"sub": "fed:alice"}
	got := set.ExplainStatements([]string{"gone", "p"}, "Function:Invoke", "dev", "env", claims)
	require.Equal(t, []StatementReason{
		{Policy: "p", Source: "p.yaml:3", Statement: `spec.statement[0] (sid "1-dev")`, Unmet: []string{`condition.StringEqual.jwt:sub: the claim is "fed:alice", want "fed:bob"`}},
		{Policy: "p", Source: "p.yaml:3", Statement: "spec.statement[1]", Granted: []Resource{"dev:en*", "*"}},
		{Policy: "p", Source: "p.yaml:3", Statement: "spec.statement[2]", Unmet: []string{
			"action: has Function:Get, Function:List, Function:Logs, not Function:Invoke",
			`resource: ["ops:*"] does not cover dev:env`,
		}},
	}, got)
	got = set.ExplainStatements([]string{"p"}, "Function:List", "", "", claims)
	require.Equal(t, []Resource{"ops:*"}, got[2].Granted, "on anything")
}
