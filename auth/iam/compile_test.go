package iam

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func allow(action string, resources ...Resource) Statement {
	return Statement{Effect: "Allow", Action: []string{action}, Resource: resources}
}

func policyOf(name string, statements ...Statement) Policy {
	return Policy{Metadata: Metadata{Name: name}, Spec: PolicySpec{Statement: statements}}
}

// roleOf is for everybody who has a sub.
func roleOf(name string, policies ...string) Role {
	return Role{Metadata: Metadata{Name: name}, Spec: RoleSpec{Policy: policies, Condition: Condition{"StringLike": {"jwt:sub": {"*"}}}}}
}

func issuerOf(name, iss string) JwtIssuer {
	return JwtIssuer{Metadata: Metadata{Name: name}, Spec: JwtIssuerSpec{Iss: iss, Aud: []string{"gw"}}}
}

// compileOne compiles objects, which give one problem that contains want.
func compileOne(t *testing.T, want string, objects Objects) *Set {
	t.Helper()
	set, problems := Compile(objects)
	require.Len(t, problems, 1, "%v", problems)
	require.Contains(t, problems[0].Message, want)
	return set
}

func compileGood(t *testing.T, objects Objects) *Set {
	t.Helper()
	set, problems := Compile(objects)
	require.Empty(t, problems)
	return set
}

var someone = map[string]any{"sub": "alice"}

func TestRole(t *testing.T) {
	t.Parallel()
	sub := Match{"jwt:sub": {"alice", "bob"}}
	iss := Condition{"StringEqual": {"jwt:iss": {"https://idp"}}}
	for _, c := range []struct {
		name   string
		role   RoleSpec
		claims string
		want   bool
	}{
		{"principal", RoleSpec{Principal: sub}, `{"sub":"bob"}`, true},
		{"another subject", RoleSpec{Principal: sub}, `{"sub":"eve"}`, false},
		{"a principal is no pattern", RoleSpec{Principal: Match{"jwt:sub": {"*"}}}, `{"sub":"eve"}`, false},
		{"condition", RoleSpec{Condition: iss}, `{"sub":"eve","iss":"https://idp"}`, true},
		{"both", RoleSpec{Principal: sub, Condition: iss}, `{"sub":"bob","iss":"https://idp"}`, true},
		{"principal alone of both", RoleSpec{Principal: sub, Condition: iss}, `{"sub":"bob","iss":"https://evil"}`, false},
		{"condition alone of both", RoleSpec{Principal: sub, Condition: iss}, `{"sub":"eve","iss":"https://idp"}`, false},
		{"keys of a principal are ANDed", RoleSpec{Principal: Match{"jwt:sub": {"bob"}, "jwt:azp": {"cli"}}}, `{"sub":"bob"}`, false},
		{"a list is no subject", RoleSpec{Principal: sub}, `{"sub":["bob"]}`, false},
		{"no claims", RoleSpec{Principal: sub}, `{}`, false},
	} {
		c.role.Policy = []string{"p"}
		set := compileGood(t, Objects{
			Policies: []Policy{policyOf("p", allow("Function:Invoke", "*"))},
			Roles:    []Role{{Metadata: Metadata{Name: "r"}, Spec: c.role}},
		})
		var want []string
		if c.want {
			want = []string{"p"}
		}
		require.Equal(t, want, set.Policies(claimsOf(t, c.claims)), c.name)
	}
}

func TestRoleFaults(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]RoleSpec{
		"matches nobody":                    {Policy: []string{"p"}},
		"spec.principal is empty":           {Policy: []string{"p"}, Principal: Match{}, Condition: Condition{"StringLike": {"jwt:sub": {"*"}}}},
		"spec.condition is empty":           {Policy: []string{"p"}, Principal: Match{"jwt:sub": {"alice"}}, Condition: Condition{}},
		"spec.condition.StringLike is":      {Policy: []string{"p"}, Principal: Match{"jwt:sub": {"alice"}}, Condition: Condition{"StringLike": nil}},
		`unknown key "sub"`:                 {Policy: []string{"p"}, Principal: Match{"sub": {"alice"}}},
		"spec.policy is missing":            {Principal: Match{"jwt:sub": {"alice"}}},
		"spec.principal.jwt:sub has no val": {Policy: []string{"p"}, Principal: Match{"jwt:sub": {}}},
	} {
		set := compileOne(t, want, Objects{
			Policies: []Policy{policyOf("p", allow("*", "*"))},
			Roles:    []Role{{Metadata: Metadata{Name: "r"}, Spec: spec}},
		})
		require.Empty(t, set.Policies(someone), want)
	}
}

func TestRoleNamesMissingPolicy(t *testing.T) {
	t.Parallel()
	set := compileOne(t, `spec.policy names "gone"`, Objects{
		Policies: []Policy{policyOf("z", allow("*", "*")), policyOf("a", allow("*", "*"))},
		Roles:    []Role{roleOf("r", "z", "gone", "a"), roleOf("r2", "a")},
	})
	require.Equal(t, []string{"a", "z"}, set.Policies(someone))
}

func TestPolicyFaultsDropThePolicyAlone(t *testing.T) {
	t.Parallel()
	good := allow("Function:Invoke", "dev:good")
	for want, bad := range map[string]Statement{
		`effect is "Deny"`:                  {Effect: "Deny", Action: []string{"*"}, Resource: []Resource{"*"}},
		`effect is ""`:                      {Action: []string{"*"}, Resource: []Resource{"*"}},
		`effect is "allow"`:                 {Effect: "allow", Action: []string{"*"}, Resource: []Resource{"*"}},
		"action is missing":                 {Effect: "Allow", Resource: []Resource{"*"}},
		"resource is missing":               {Effect: "Allow", Action: []string{"*"}},
		`resource is "dev"`:                 allow("*", "dev:ok", "dev"),
		`resource is ""`:                    allow("*", ""),
		`unknown operator "StringNotEqual"`: {Effect: "Allow", Action: []string{"*"}, Resource: []Resource{"*"}, Condition: Condition{"StringNotEqual": {"jwt:sub": {"x"}}}},
		"condition is empty":                {Effect: "Allow", Action: []string{"*"}, Resource: []Resource{"*"}, Condition: Condition{}},
	} {
		set := compileOne(t, want, Objects{Policies: []Policy{policyOf("bad", good, bad), policyOf("ok", good)}})
		require.Empty(t, set.Resources([]string{"bad"}, "Function:Invoke", someone), want)
		require.Equal(t, []Resource{"dev:good"}, set.Resources([]string{"bad", "ok"}, "Function:Invoke", someone), want)
	}
	compileOne(t, "spec.statement is missing", Objects{Policies: []Policy{policyOf("empty")}})
}

func TestActions(t *testing.T) {
	t.Parallel()
	group := func(prefix string) []string {
		return slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return !strings.HasPrefix(a, prefix) })
	}
	for pattern, want := range map[string][]string{
		"*":               actions,
		"Function:*":      group("Function:"),
		"Secret:*":        group("Secret:"),
		"Namespace:*":     group("Namespace:"),
		"System:*":        {"System:Info"},
		"Function:Invoke": {"Function:Invoke"},
		"Function:Read":   {"Function:List", "Function:Get", "Function:Logs"},
		"Function:Admin":  {"Function:List", "Function:Get", "Function:Create", "Function:Update", "Function:Delete", "Function:Logs", "Function:Scale"},
		"Secret:Read":     {"Secret:List"},
	} {
		set := compileGood(t, Objects{Policies: []Policy{policyOf("p", allow(pattern, "dev:*"))}})
		for _, action := range actions {
			require.Equal(t, slices.Contains(want, action), len(set.Resources([]string{"p"}, action, nil)) == 1, "%s on %s", pattern, action)
		}
		// What is asked for is an action, never a pattern.
		for _, action := range []string{"", "*", "Function:*", "Function:Read", "Function:Nope", "function:invoke"} {
			require.Empty(t, set.Resources([]string{"p"}, action, nil), "%s on %s", pattern, action)
		}
	}
	for _, pattern := range []string{"Function:Nope", "function:invoke", "Function:Inv*", "Function", "**", "", "*:Invoke", "Function:invoke", "Function:Invoke "} {
		st := allow(pattern, "*")
		st.Action = append(st.Action, "Secret:List")
		set := compileOne(t, "unknown action", Objects{Policies: []Policy{policyOf("p", st)}})
		for _, action := range actions {
			require.Equal(t, action == "Secret:List", len(set.Resources([]string{"p"}, action, nil)) > 0, "%s on %s", pattern, action)
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	devOnly := allow("Function:Invoke", "dev:*", "ops:x")
	devOnly.Condition = Condition{"ForAnyValue:StringEqual": {"jwt:groups": {"dev"}}}
	set := compileGood(t, Objects{Policies: []Policy{
		policyOf("a", allow("Function:List", "list:*"), devOnly, allow("Function:*", "ops:x", "b:y")),
		policyOf("b", allow("*", "a:z", "b:y")),
	}})
	invoke := func(claims string, policies ...string) []Resource {
		return set.Resources(policies, "Function:Invoke", claimsOf(t, claims))
	}
	require.Equal(t, []Resource{"dev:*", "ops:x", "b:y", "a:z"}, invoke(`{"groups":["dev"]}`, "a", "b"))
	require.Equal(t, []Resource{"a:z", "b:y", "ops:x"}, invoke(`{"groups":["ops"]}`, "b", "a", "b"))
	require.Empty(t, invoke(`{"groups":["dev"]}`, "missing", ""))
	require.Empty(t, invoke(`{"groups":["dev"]}`))
}

func TestIssuers(t *testing.T) {
	t.Parallel()
	b := issuerOf("b", "https://b.example/")
	b.Spec.TokenExpiry, b.Spec.IssInternal = "2h", "http://dex.internal:5556/b"
	set := compileGood(t, Objects{Issuers: []JwtIssuer{b, issuerOf("a", "http://127.0.0.1:9000/a")}})

	names := []string{}
	for _, o := range set.Issuers() {
		names = append(names, o.Metadata.Name)
	}
	require.Equal(t, []string{"a", "b"}, names)

	got, ok := set.Issuer("https://b.example/")
	require.True(t, ok)
	require.Equal(t, 2*time.Hour, got.Spec.Expiry())
	_, ok = set.Issuer("https://b.example")
	require.False(t, ok, "a slash makes another issuer")
	got, _ = set.Issuer("http://127.0.0.1:9000/a")
	require.Equal(t, 30*time.Minute, got.Spec.Expiry())
	require.Zero(t, JwtIssuerSpec{TokenExpiry: "soon"}.Expiry())
}

func TestIssuerFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   string
		change func(*JwtIssuerSpec)
	}{
		{`spec.iss is ""`, func(s *JwtIssuerSpec) { s.Iss = "" }},
		{`spec.iss is "idp.example"`, func(s *JwtIssuerSpec) { s.Iss = "idp.example" }},
		{`spec.iss is "ftp://idp"`, func(s *JwtIssuerSpec) { s.Iss = "ftp://idp" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://:443" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https:idp" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://idp?tenant=a" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://idp?" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://idp#" }},
		{"spec.iss is", func(s *JwtIssuerSpec) { s.Iss = "https://idp\n" }},
		{"password", func(s *JwtIssuerSpec) { s.Iss = "https://user:hunter2@idp" }},
		{"spec.issInternal is", func(s *JwtIssuerSpec) { s.IssInternal = "file:///etc/passwd" }},
		{"spec.aud is []", func(s *JwtIssuerSpec) { s.Aud = nil }},
		{`spec.aud is ["gw" ""]`, func(s *JwtIssuerSpec) { s.Aud = []string{"gw", ""} }},
		{`spec.tokenExpiry is "3600"`, func(s *JwtIssuerSpec) { s.TokenExpiry = "3600" }},
		{"spec.tokenExpiry is", func(s *JwtIssuerSpec) { s.TokenExpiry = "-1h" }},
		{"spec.tokenExpiry is", func(s *JwtIssuerSpec) { s.TokenExpiry = "0s" }},
		{"spec.tokenExpiry is", func(s *JwtIssuerSpec) { s.TokenExpiry = "1ms" }},
	} {
		bad := issuerOf("bad", "https://bad")
		c.change(&bad.Spec)
		set, problems := Compile(Objects{Issuers: []JwtIssuer{bad, issuerOf("good", "https://good")}})
		require.Len(t, problems, 1, c.want)
		require.Contains(t, problems[0].Message, c.want)
		require.NotContains(t, problems[0].Message, "hunter2")
		require.Len(t, set.Issuers(), 1)
		_, ok := set.Issuer(bad.Spec.Iss)
		require.False(t, ok)
	}
}

func TestDuplicatesCountForNothing(t *testing.T) {
	t.Parallel()
	set, problems := Compile(Objects{
		Issuers:  []JwtIssuer{issuerOf("a", "https://a"), issuerOf("a", "https://b"), issuerOf("c", "https://same"), issuerOf("d", "https://same"), issuerOf("e", "https://e")},
		Policies: []Policy{policyOf("p", allow("*", "dev:a")), policyOf("p", allow("*", "dev:b")), policyOf("q", allow("*", "*"))},
		Roles:    []Role{roleOf("r", "q"), roleOf("r", "q")},
	})
	require.Len(t, problems, 8, "%v", problems)
	require.Len(t, set.Issuers(), 1)
	require.Empty(t, set.Resources([]string{"p"}, "Function:Invoke", someone))
	require.Empty(t, set.Policies(someone))
}

func TestProblemSources(t *testing.T) {
	t.Parallel()
	withSource, without := policyOf("p"), policyOf("q")
	withSource.Metadata.Source = "iam/p.yaml:7"
	_, problems := Compile(Objects{Policies: []Policy{withSource, without, policyOf("")}})
	sources := []string{}
	for _, p := range problems {
		sources = append(sources, p.Source)
	}
	require.Equal(t, []string{"iam/p.yaml:7", `Policy "q"`, `Policy ""`}, sources)
	require.Contains(t, problems[0].Message, `Policy "p": spec.statement`)
	require.Contains(t, problems[2].Message, "metadata.name is missing")
}

// A set is immutable: later changes to its objects do not reach it.
func TestSetKeepsItsOwnCopy(t *testing.T) {
	t.Parallel()
	objects := Objects{
		Issuers:  []JwtIssuer{issuerOf("a", "https://a")},
		Policies: []Policy{policyOf("p", allow("*", "dev:env"))},
		Roles:    []Role{{Metadata: Metadata{Name: "r"}, Spec: RoleSpec{Policy: []string{"p"}, Principal: Match{"jwt:sub": {"bob"}}}}},
	}
	set := compileGood(t, objects)
	objects.Policies[0].Spec.Statement[0].Resource[0] = "*"
	objects.Roles[0].Spec.Principal["jwt:sub"][0] = "alice"
	objects.Issuers[0].Spec.Aud[0] = "evil"
	require.Equal(t, []Resource{"dev:env"}, set.Resources([]string{"p"}, "Function:Invoke", nil))
	require.Empty(t, set.Policies(someone))
	issuer, _ := set.Issuer("https://a")
	require.Equal(t, []string{"gw"}, issuer.Spec.Aud)
}

func TestZeroSetGrantsNothing(t *testing.T) {
	t.Parallel()
	set := &Set{}
	require.Empty(t, set.Policies(someone))
	require.Empty(t, set.Resources([]string{"p"}, "Function:Invoke", someone))
	require.Empty(t, set.Issuers())
	_, ok := set.Issuer("")
	require.False(t, ok)
	require.Empty(t, slices.Collect(maps.Keys(set.policies)))
}
