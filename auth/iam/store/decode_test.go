package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/gatehound/gatehound/auth/iam"
)

const (
	policyP = `apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: p}
spec:
  statement:
  - {effect: Allow, action: ["Function:Invoke"], resource: ["dev:env"]}
`
	roleR = `apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: r}
spec:
  policy: [p]
  principal: {"jwt:sub": [alice]}
`
	issuerI = `apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: i}
spec: {iss: "https://idp", aud: [gw]}
`
)

// What the documented examples grant.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	folder, err := Open(Config{Dir: "testdata"})
	require.NoError(t, err)
	require.Empty(t, folder.Problems())
	set := folder.Current()

	const k8s, keycloak = "https://kubernetes.default.svc.cluster.local", "https://keycloak.example.com/realms/openfaas"
	issuer, ok := set.Issuer(k8s)
	require.True(t, ok)
	require.Equal(t, 2*time.Hour, issuer.Spec.Expiry())
	require.Equal(t, []string{"https://gateway.example.com"}, issuer.Spec.Aud)
	issuer, ok = set.Issuer(keycloak)
	require.True(t, ok)
	require.Equal(t, 30*time.Minute, issuer.Spec.Expiry())
	require.Equal(t, "http://keycloak.keycloak:8080/realms/openfaas", issuer.Spec.IssInternal)

	for _, c := range []struct {
		who    map[string]any
		policy []string
		action string
		want   []iam.Resource
	}{
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:my-app"}, []string{"fn-rw"}, "Function:Create", []iam.Resource{"*"}},
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:my-app"}, []string{"fn-rw"}, "Function:Invoke", nil},
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:my-app2"}, nil, "Function:Create", nil},
		{map[string]any{"iss": "https://evil", "sub": "system:serviceaccount:openfaas:my-app"}, nil, "Function:Create", nil},
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:cron-connector"}, []string{"cron-connector"}, "Function:List", []iam.Resource{"dev:*"}},
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:cron-connector"}, []string{"cron-connector"}, "Namespace:List", []iam.Resource{"dev:*"}},
		{map[string]any{"iss": k8s, "sub": "system:serviceaccount:openfaas:cron-connector"}, []string{"cron-connector"}, "Function:Delete", nil},
		{map[string]any{"iss": keycloak, "sub": "a9e0e67a-5758-4373-a4ba-23957fa66e6b"}, []string{"invoke-policy"}, "Function:Invoke", []iam.Resource{"openfaas-fn:*", "dev:env"}},
		{map[string]any{"iss": keycloak, "sub": "a9e0e67a-5758-4373-a4ba-23957fa66e6b"}, []string{"invoke-policy"}, "Function:List", nil},
		{map[string]any{"iss": k8s, "sub": "a9e0e67a-5758-4373-a4ba-23957fa66e6b"}, nil, "Function:Invoke", nil},
		{map[string]any{"iss": keycloak, "sub": "han", "groups": []any{"openfaas-dev"}, "email_verified": true}, []string{"fn-rw"}, "Secret:Delete", []iam.Resource{"*"}},
		{map[string]any{"iss": keycloak, "sub": "han", "groups": []any{"openfaas-dev"}, "email_verified": false}, nil, "Secret:Delete", nil},
		{map[string]any{"iss": keycloak, "sub": "han", "groups": []any{"ops"}, "email_verified": true}, nil, "Secret:Delete", nil},
	} {
		require.Equal(t, c.policy, set.Policies(c.who), "%v", c.who)
		require.Equal(t, c.want, set.Resources(c.policy, c.action, c.who), "%s for %v", c.action, c.who)
	}
}

// Kubernetes' own YAML decoder, by the types' JSON tags, must read the same.
func TestDecodeAgreesWithKubernetes(t *testing.T) {
	t.Parallel()
	full := `apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: full, namespace: openfaas}
spec:
  statement:
  - sid: one
    effect: Allow
    action: ["*"]
    resource: [dev:*, "*"]
    condition:
      ForAnyValue:StringLike: {"jwt:groups": [a*, true, 17], "jwt:b": []}
  - {effect: Allow, action: [x], resource: [z]}
`
	files := map[string]string{"full": full, "jsonRole": `{"apiVersion":"iam.openfaas.com/v1","kind":"Role","metadata":{"name":"j"},
		"spec":{"policy":["p"],"principal":{"jwt:sub":["a\u0062"]},"condition":{"StringEqual":{"jwt:x":["1"]}}}}`}
	for _, name := range []string{"kubernetes.yaml", "cron-connector.yaml", "invoke.yml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		files[name] = string(data)
	}
	for name, content := range files {
		got, problems, err := decode(name, []byte(content))
		require.NoError(t, err)
		require.Empty(t, problems)
		for i := range got.Issuers {
			got.Issuers[i].Metadata.Source = ""
		}
		for i := range got.Policies {
			got.Policies[i].Metadata.Source = ""
		}
		for i := range got.Roles {
			got.Roles[i].Metadata.Source = ""
		}

		var want iam.Objects
		for doc := range strings.SplitSeq(content, "\n---\n") {
			var kind struct{ Kind string }
			require.NoError(t, yaml.Unmarshal([]byte(doc), &kind))
			switch kind.Kind {
			case "JwtIssuer":
				want.Issuers = append(want.Issuers, iam.JwtIssuer{})
				require.NoError(t, yaml.Unmarshal([]byte(doc), &want.Issuers[len(want.Issuers)-1]))
			case "Policy":
				want.Policies = append(want.Policies, iam.Policy{})
				require.NoError(t, yaml.Unmarshal([]byte(doc), &want.Policies[len(want.Policies)-1]))
			case "Role":
				want.Roles = append(want.Roles, iam.Role{})
				require.NoError(t, yaml.Unmarshal([]byte(doc), &want.Roles[len(want.Roles)-1]))
			}
		}
		// An empty list may be nil; it means the same.
		for _, o := range []*iam.Objects{&got, &want} {
			for _, p := range o.Policies {
				for _, s := range p.Spec.Statement {
					for _, m := range s.Condition {
						for key, values := range m {
							if len(values) == 0 {
								m[key] = nil
							}
						}
					}
				}
			}
		}
		require.Equal(t, want, got, name)
	}
}

func TestDecodeProblems(t *testing.T) {
	t.Parallel()
	role := func(spec string) string {
		return "# a comment\napiVersion: iam.openfaas.com/v1\nkind: Role\nmetadata: {name: r}\nspec:\n  policy: [p]\n" + spec
	}
	for _, c := range []struct{ content, source, message string }{
		{role("  principle: {}\n"), "f.yaml:7", "the field spec.principle is unknown: want one of condition, policy, principal"},
		{role("  Principal: {}\n"), "f.yaml:7", "the field spec.Principal is unknown"},
		{role("  principal: {jwt:sub: [a]}\n  principal: {jwt:sub: [b]}\n"), "f.yaml:8", `the key "principal" is here twice, first on line 7`},
		{role("  principal:\n    jwt:sub: [a]\n    \"jwt:sub\": [b]\n"), "f.yaml:9", `the key "jwt:sub" is here twice`},
		{role("  principal:\n    jwt:sub:\n"), "f.yaml:8", "spec.principal.jwt:sub has no value"},
		{role("  condition:\n"), "f.yaml:7", "spec.condition is a single value: want a mapping"},
		{role("  condition: [a]\n"), "f.yaml:7", "spec.condition is a list: want a mapping"},
		{role("  condition: {StringEqual: {jwt:a: {b: c}}}\n"), "f.yaml:7", "spec.condition.StringEqual.jwt:a is a mapping: want a list"},
		{role("  condition: {StringEqual: {jwt:a: [[b]]}}\n"), "f.yaml:7", "spec.condition.StringEqual.jwt:a[0] is a list: want text"},
		{role("  principal: &a {jwt:sub: [a]}\n  condition: *a\n"), "f.yaml:8", "the alias *a"},
		{role("  principal: {? [a] : b}\n"), "f.yaml:7", "a key is a list"},
		{role("  principal: {jwt:sub: [1.10]}\n"), "f.yaml:7", `spec.principal.jwt:sub[0] is "1.10", which YAML does not take for text (!!float): put it in quotes`},
		{role("  principal: {jwt:sub: 0123}\n"), "f.yaml:7", `is "0123"`},
		{role("  principal: {jwt:sub: 2024-01-01}\n"), "f.yaml:7", "!!timestamp"},
		{role("  principal: {jwt:sub: !!binary YQ==}\n"), "f.yaml:7", "!!binary"},
		{"apiVersion: iam.openfaas.com/v1\nkind: Role\nmetadata: r\nspec: {}\n", "f.yaml:3", "metadata is a single value: want a mapping"},
		{"apiVersion: iam.openfaas.com/v1\nkind: Role\nmetadata: {name: r}\nextra: 1\n", "f.yaml:4", "the field extra is unknown: want one of apiVersion, kind, metadata, spec, status"},
		{"apiVersion: iam.openfaas.com/v2\nkind: Role\n", "f.yaml:1", `apiVersion is "iam.openfaas.com/v2"`},
		{"apiVersion: iam.openfaas.com/v1\nkind: Deny\n", "f.yaml:1", `kind is "Deny"`},
		{"apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n", "f.yaml:1", `apiVersion is "v1"`},
		{"- a\n", "f.yaml:1", "this is no object"},
		{"a\n", "f.yaml:1", "this is no object"},
		{strings.Replace(policyP, "effect", "Effect", 1), "f.yaml:6", "the field spec.statement[0].Effect is unknown"},
		{strings.Replace(policyP, `["Function:Invoke"]`, "Function:Invoke", 1), "f.yaml:6", "spec.statement[0].action is a single value: want a list"},
		{strings.Replace(issuerI, "[gw]", "gw", 1), "f.yaml:4", "spec.aud is a single value: want a list"},
	} {
		// The faulty one is left out, its neighbours are not.
		content := c.content + "---\n" + policyP + "---\n" + issuerI
		objects, problems, err := decode("f.yaml", []byte(content))
		require.NoError(t, err, c.content)
		require.Len(t, problems, 1, "%s: %v", c.content, problems)
		require.Equal(t, c.source, problems[0].Source, c.content)
		require.Contains(t, problems[0].Message, c.message, c.content)
		require.Empty(t, objects.Roles, c.content)
		require.Len(t, objects.Policies, 1, c.content)
		require.Len(t, objects.Issuers, 1, c.content)
	}
}

func TestDecodeKeepsWhatTheAuthorTyped(t *testing.T) {
	t.Parallel()
	objects, problems, err := decode("f.yaml", []byte(`---
# an empty document
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: 7, generation: 1.5, labels: null, uid: x}
status: {whatever: [1]}
spec:
  policy: [no, on]
  principal: {"jwt:sub": alice}
  condition:
    StringEqual:
      jwt:a: [true, True, "True", yes, 1, -20, 123456789012345678901234567890, "1.10", "", y]
    StringLike: {}
`))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, []iam.Role{{
		Metadata: iam.Metadata{Name: "7", Source: "f.yaml:4"},
		Spec: iam.RoleSpec{
			Policy:    []string{"no", "on"},
			Principal: iam.Match{"jwt:sub": {"alice"}},
			Condition: iam.Condition{
				"StringEqual": {"jwt:a": {"true", "true", "True", "yes", "1", "-20", "123456789012345678901234567890", "1.10", "", "y"}},
				"StringLike":  {},
			},
		},
	}}, objects.Roles)
}

func TestDecodeNoYAML(t *testing.T) {
	t.Parallel()
	for _, content := range []string{policyP + "---\n{", "\x00", policyP + "---\na: *unknown\n", "a: b: c"} {
		objects, _, err := decode("f.yaml", []byte(content))
		require.Error(t, err, "%q", content)
		require.Empty(t, objects.Policies, "%q", content)
	}
	objects, problems, err := decode("f.yaml", []byte("# nothing\n"))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Empty(t, objects)
}

// However a file is made, what is said of it does not get much larger than it is.
func TestDecodeSaysLittle(t *testing.T) {
	t.Parallel()
	const role = "apiVersion: iam.openfaas.com/v1\nkind: Role\nmetadata: {name: r}\nspec:\n"
	long := strings.Repeat("k", maxFileSize/8)
	policy := strings.ReplaceAll(strings.ReplaceAll(role, "Role", "Policy"), "name: r", "name: "+long)
	var entries strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&entries, "   k%d: {}\n", i)
	}
	for name, content := range map[string]string{
		"faults below a long key": role + " condition:\n  ? " + long + "\n  :\n" + entries.String(),
		"faults":                  role + " condition:\n  StringEqual:\n" + entries.String(),
		"warnings with a long name": policy + " statement:\n - {effect: Allow, resource: ['*'], sid: " + long +
			", action: [" + strings.Repeat("a, ", 1000) + "]}\n",
	} {
		objects, problems, _ := decode("f.yaml", []byte(content))
		_, further := iam.Compile(objects)
		size := 0
		for _, p := range append(problems, further...) {
			size += len(p.Message)
		}
		require.Less(t, size, 2*maxFileSize, name)
	}
}

// Nothing panics, and nothing malformed is granted.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"kubernetes.yaml", "fn-rw.yaml", "cron-connector.yaml", "invoke.yml"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(data)
	}
	for _, s := range []string{policyP + "---\n" + roleR, "a: &a [*a]", "{? {a: b} : c}", "--- !!null {a: b}", "<<: {kind: Role}", "%YAML 1.1\n---\n", "\ufeff" + policyP} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems, err := decode("f.yaml", data)
		if err != nil {
			if len(objects.Issuers)+len(objects.Policies)+len(objects.Roles)+len(problems) > 0 {
				t.Fatal("a file that is no YAML gave something")
			}
			return
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.Source, "f.yaml:") || p.Message == "" {
				t.Fatalf("problem %+v", p)
			}
		}
		set, _ := iam.Compile(objects)
		claims := map[string]any{"sub": "alice"}
		for _, r := range set.Resources(set.Policies(claims), "Function:Invoke", claims) {
			if !r.Valid() {
				t.Fatalf("granted %q", r)
			}
		}
	})
}
