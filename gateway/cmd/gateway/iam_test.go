package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/program"
)

const iamObjects = `apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: idp}
spec: {iss: "https://idp", aud: [gw]}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: invoke}
spec:
  statement:
  - {sid: 1-dev, effect: Allow, action: ["Function:Invoke"], resource: ["dev:*"], condition: {StringEqual: {"jwt:fed:iss": "https://idp"}}}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: team}
spec:
  policy: [invoke]
  condition: {StringEqual: {"jwt:iss": "https://idp", "jwt:/kubernetes.io/namespace": dev}}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: elsewhere}
spec:
  policy: [invoke]
  condition: {StringEqual: {"jwt:iss": "https://other"}}
`

// command runs the gateway's command line and returns what it printed.
func command(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	c := root()
	var out strings.Builder
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func tempFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestIAMCheck(t *testing.T) {
	t.Parallel()
	good := tempFile(t, "good.yaml", iamObjects)
	out, err := command(t, "", "iam", "check", "--strict", good)
	require.NoError(t, err)
	require.Equal(t, "1 files: 1 issuers, 1 policies, 2 roles; 0 errors, 0 warnings\n", out)

	warned := tempFile(t, "warned.yaml", strings.Replace(iamObjects, `["Function:Invoke"]`, `["Function:Invoke", "Function:Run"]`, 1))
	out, err = command(t, "", "iam", "check", filepath.Dir(warned))
	require.NoError(t, err)
	require.Contains(t, out, warned+`:6: warning: Policy "invoke": spec.statement[0] (sid "1-dev"): the unknown action "Function:Run"`)
	require.Contains(t, out, "0 errors, 1 warnings\n")
	_, err = command(t, "", "iam", "check", "--strict", filepath.Dir(warned))
	require.ErrorContains(t, err, "--strict")

	bad := tempFile(t, "bad.yaml", strings.Replace(iamObjects, "Allow", "Deny", 1))
	out, err = command(t, "", "iam", "check", bad)
	require.ErrorContains(t, err, "ignored by the gateway")
	require.Contains(t, out, bad+`:6: error: Policy "invoke": spec.statement[0] (sid "1-dev"): effect is "Deny"`)
	require.Contains(t, out, bad+`:13: warning: Role "team": spec.policy names "invoke"`)
	require.Contains(t, out, "1 errors, 2 warnings\n")

	_, err = command(t, "", "iam", "check", t.TempDir())
	require.ErrorContains(t, err, "holds no *.yaml")
	_, err = command(t, "", "iam", "check")
	require.Error(t, err)
}

func TestIAMExplain(t *testing.T) {
	t.Parallel()
	objects := tempFile(t, "iam.yaml", iamObjects)
	later := time.Now().Unix() + 600
	id := func(change string) string {
		return fmt.Sprintf(`{"iss":"https://idp","aud":["x","gw"],"sub":"alice","iat":1,"exp":%d,"kubernetes.io":{"namespace":"dev"}%s}`, later, change)
	}
	api := func(change string) string {
		return fmt.Sprintf(`{"iss":"https://gw","aud":"https://gw","sub":"fed:alice","fed:iss":"https://idp","iat":1,"exp":%d,"policy":["invoke"]%s}`, later, change)
	}
	for name, c := range map[string]struct {
		claims, resource string
		allowed          bool
		want             []string
		not              []string
	}{
		"granted": {id(""), "dev:env", true, []string{
			"NOT verified", "ID token", "team (" + objects + ":13): matches and gives invoke", "and 1 for other issuers",
			`invoke spec.statement[0] (sid "1-dev") (` + objects + `:6): grants it on ["dev:*"]`, "Function:Invoke on dev:env is allowed.",
		}, []string{"refused"}},
		"any resource":       {id(""), "", true, []string{"Function:Invoke is allowed."}, nil},
		"resource":           {id(""), "prod:env", false, []string{`does not grant it`, `resource: ["dev:*"] does not cover prod:env`}, nil},
		"claim":              {strings.Replace(id(""), `"dev"`, `"ops"`, 1), "dev:env", false, []string{"refused  No policies found for subject: alice", `spec.condition.StringEqual.jwt:/kubernetes.io/namespace: the claim is "ops", want "dev"`}, nil},
		"untrusted":          {strings.Replace(id(""), "https://idp", "https://idp/", 1), "dev:env", false, []string{"refused  issuer https://idp/ is not a registered JwtIssuer", "and 2 for other issuers"}, nil},
		"audience":           {strings.Replace(id(""), `"gw"`, `"gx"`, 1), "dev:env", false, []string{"refused  failed to parse JWT token: aud does not name the expected audience", "matches and gives"}, nil},
		"expired":            {strings.Replace(id(""), fmt.Sprint(later), "17", 1), "dev:env", false, []string{"refused  failed to parse JWT token: the token has expired", "grants it"}, nil},
		"no issuer":          {`{}`, "dev:env", false, []string{"refused"}, nil},
		"API token":          {api(""), "dev:env", true, []string{"API token", "grants it"}, []string{"Roles:"}},
		"API token, cows":    {api(""), "cows:env", false, []string{"does not cover"}, nil},
		"API token, elswher": {strings.Replace(api(""), "https://idp", "https://gone", 1), "dev:env", false, []string{"is no longer a registered JwtIssuer"}, nil},
		"function token":     {api(`,"function":{"permissions":["*"]}`), "dev:env", false, []string{"a function token cannot be exchanged"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encode := base64.RawURLEncoding.EncodeToString
			token := encode([]byte(`{"alg":"ES256","kid":"k"}`)) + "." + encode([]byte(c.claims)) + "." + encode([]byte("signature"))
			require.True(t, json.Valid([]byte(c.claims)))
			for _, given := range [][]string{
				{"--token", token}, {"--token", "-"}, {"--token-file", "-"},
				{"--token-file", tempFile(t, "token", token+"\n")}, {"--claims", tempFile(t, "claims.json", c.claims)},
			} {
				args := append([]string{"iam", "explain", "--action", "Function:Invoke", "--resource", c.resource, "--iam-dir", objects, "--system-issuer", "https://gw"}, given...)
				out, err := command(t, token+"\n", args...)
				for _, want := range c.want {
					require.Contains(t, out, want)
				}
				for _, not := range c.not {
					require.NotContains(t, out, not)
				}
				if c.allowed {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, "Function:Invoke on "+c.resource+" is not allowed")
				}
				require.NotContains(t, out, token[:40])
			}
		})
	}
}

// Wherever a token is put by mistake, it does not come back.
func TestIAMExplainRefuses(t *testing.T) {
	t.Parallel()
	objects := tempFile(t, "iam.yaml", iamObjects)
	const token = "hunter2.hunter2.hunter2"
	for want, args := range map[string][]string{
		"failed to parse JWT token":                    {"--token", token, "--action", "Function:Invoke"},
		"cannot be read: no such file":                 {"--token-file", token, "--action", "Function:Invoke"},
		"no such file or directory":                    {"--claims", token, "--action", "Function:Invoke"},
		"unexpected argument":                          {token, "--action", "Function:Invoke", "--token", "x"},
		`--action "Function:Run": want one of`:         {"--token", token, "--action", "Function:Run"},
		`--resource "dev:*": want one function`:        {"--token", token, "--action", "Function:Invoke", "--resource", "dev:*"},
		`--resource "env": want one function`:          {"--token", token, "--action", "Function:Invoke", "--resource", "env"},
		`required flag(s) "action" not set`:            {"--token", token},
		"at least one of the flags in the group":       {"--action", "Function:Invoke"},
		"none of the others can be":                    {"--action", "Function:Invoke", "--token", token, "--token-file", "x"},
		"the header or the claims are not JSON":        {"--claims", tempFile(t, "c.json", "{"), "--action", "Function:Invoke"},
		"the header or the claims are not a JSON obje": {"--claims", tempFile(t, "c.json", "[]"), "--action", "Function:Invoke"},
	} {
		out, err := command(t, "", append([]string{"iam", "explain", "--iam-dir", objects, "--system-issuer", "https://gw"}, args...)...)
		require.ErrorContains(t, err, want)
		require.NotContains(t, out+err.Error(), "hunter2")
	}
}

// What stands in objects and tokens does not act on the terminal of who looks
// at it, nor pass for a line of ours.
func TestIAMPrintsVisibly(t *testing.T) {
	t.Parallel()
	hostile := strings.NewReplacer(
		"name: invoke", `name: "in\e[2Jvoke\nforged"`, "policy: [invoke]", `policy: ["in\e[2Jvoke\nforged"]`,
		"name: team", `name: "te\e[2Jam\nforged"`, "jwt:/kubernetes.io/namespace", `jwt:\e[2J\nforged`,
	).Replace(iamObjects) + "---\n\"\\e[2J\\nforged\": 1\napiVersion: iam.openfaas.com/v1\nkind: Role\nspec: {\"\\e[2J\\nforged\": 1}\n"
	objects := tempFile(t, "a\x1b[2J\nforged.yaml", hostile)
	out, err := command(t, "", "iam", "check", objects)
	require.Error(t, err)
	require.Contains(t, out, "forged")
	require.NotContains(t, out, "\x1b")
	require.NotContains(t, out, "\nforged")

	for _, claims := range []string{
		`{"iss":"https://idp","aud":"gw","sub":"a\u001b[2J\nforged","iat":1,"exp":4000000000}`,
		`{"iss":"https://gw","aud":"https://gw","sub":"fed:a","fed:iss":"https://idp","iat":1,"exp":4000000000,` +
			`"policy":["in\u001b[2Jvoke\nforged","other\u001b[2J\nforged"]}`,
	} {
		out, _ := command(t, "", "iam", "explain", "--claims", tempFile(t, "claims.json", claims),
			"--action", "Function:Invoke", "--iam-dir", objects, "--system-issuer", "https://gw")
		require.Contains(t, out, "forged")
		require.NotContains(t, out, "\x1b")
		require.NotContains(t, out, "\nforged")
	}

	var log strings.Builder
	logAt(program.NewLogger(&log, false, false), zerolog.WarnLevel)("field %s", "\x1b[2J\nforged")
	require.Contains(t, log.String(), "field ?[2J forged\n")
}
