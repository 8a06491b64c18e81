package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"
)

func TestParseStack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "env.yml"), []byte("environment: {a: file, b: file}\n"), 0o600))
	got, err := ParseStack(filepath.Join(dir, "stack.yml"), []byte(`
version: 1.0
provider: {name: openfaas, gateway: http://127.0.0.1:8080}
configuration: {templates: [{name: go}]}
functions:
  second:
    lang: go
    handler: ./second
    image: x/second:1
    build_args: {A: b}
    constraints: ["node=1"]
    environment: {a: stack, jwt_auth: true, port: 80}
    environment_file: [env.yml]
  first:
    namespace: dev
    skip_build: true
    fprocess: cat -n
    labels: {x: y}
    limits: {memory: 10Mi}
`), "openfaas-fn")
	require.NoError(t, err)
	labels := map[string]string{"x": "y"}
	require.Equal(t, []types.FunctionDeployment{
		{
			Service: "first", Namespace: "dev", EnvProcess: "cat -n", EnvVars: map[string]string{},
			Labels: &labels, Limits: &types.FunctionResources{Memory: "10Mi"},
		},
		{
			Service: "second", Namespace: "openfaas-fn", Image: "x/second:1",
			EnvVars: map[string]string{"a": "stack", "b": "file", "jwt_auth": "true", "port": "80"},
		},
	}, got)
}

func TestParseStackErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, yaml, says string }{
		{"syntax", "functions:\n  a: {\n", "s.yml: line 2: "},
		{"indentation", "functions:\n  a:\n    fprocess: cat\n   b: x\n  c: {}\n", "s.yml: line 4: did not find expected key"},
		{"tab", "functions:\n  a:\n    fprocess: cat\n\tb: x\n", "s.yml: line 4: found a tab"},
		{"quote", "functions:\n  a:\n    fprocess: \"cat\n    image: x\n", "s.yml: line 3: "},
		{"colon", "functions:\n  a:\n    fprocess: cat: dog\n", "s.yml: line 3: "},
		{"two documents", "functions:\n  a: {fprocess: cat}\n---\nfunctions:\n  b: {fprocess: cat}\n", "s.yml: want one YAML document"},
		{"type", "functions:\n  a:\n    environment: text\n", "s.yml: "},
		{"unknown field", "functions:\n  a:\n    jwt_auth: true\n", "line 3: field jwt_auth is unknown here"},
		{"twice", "functions:\n  a: {}\n  a: {}\n", "line 3"},
		{"name", "functions:\n  a.b: {}\n", `function "a.b"`},
		{"namespace", "functions:\n  a: {namespace: B}\n", `namespace "B"`},
		{"missing environment file", "functions:\n  a: {environment_file: [none.yml]}\n", "none.yml"},
		{"variable name", "functions:\n  a: {environment: {\"b=c\": d}}\n", `"b=c"`},
		{"empty", "", "no functions"},
		{"list", "[]", "s.yml: "},
	} {
		_, err := ParseStack("s.yml", []byte(c.yaml), "openfaas-fn")
		require.ErrorContains(t, err, c.says, c.name)
	}
}

func FuzzParseStack(f *testing.F) {
	f.Add([]byte("functions:\n  a: {fprocess: cat, environment: {x: 1}}\n"))
	f.Add([]byte("functions: &a\n  b: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Files beside the stack are not the fuzzer's to read.
		if strings.Contains(string(data), "environment_file") {
			t.Skip()
		}
		deployments, err := ParseStack("s.yml", data, "openfaas-fn")
		if err == nil && len(deployments) == 0 {
			t.Fatal("neither functions nor an error")
		}
	})
}

func TestLineWriter(t *testing.T) {
	t.Parallel()
	var got []string
	batches := 0
	w := &lineWriter{emit: func(lines []string) { got, batches = append(got, lines...), batches+1 }}
	for _, part := range []string{"one\ntw", "o\r\n\n", "three\nfour\nfi", "ve"} {
		n, err := w.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	require.Equal(t, []string{"one", "two", "three", "four"}, got)
	require.Equal(t, 3, batches, "what was written together is passed on together")
	w.Close()
	require.Equal(t, []string{"one", "two", "three", "four", "five"}, got)

	got = nil
	for range 5 {
		_, _ = w.Write([]byte(strings.Repeat("x", maxLine/2)))
	}
	require.Len(t, got, 2, "a line without an end is split")
	require.LessOrEqual(t, len(w.line), maxLine)
}

// A function with its own keys is not given an authority besides.
func TestKeysFile(t *testing.T) {
	t.Parallel()
	p, err := Open(Config{StateDir: t.TempDir(), RunDir: t.TempDir(), DefaultNamespace: "dev", Authority: "http://127.0.0.1:8080"})
	require.NoError(t, err)
	own := types.FunctionDeployment{Service: "first", Namespace: "dev", EnvProcess: "cat", EnvVars: map[string]string{
		"jwt_auth": "true", "jwt_auth_jwks_file": "keys.json", "jwt_auth_issuer": "https://gateway.example.com"}}
	ours := types.FunctionDeployment{Service: "second", Namespace: "dev", EnvProcess: "cat", EnvVars: map[string]string{"jwt_auth": "true"}}
	require.NoError(t, p.ApplyStack(t.Context(), []types.FunctionDeployment{own, ours}))
	for name, f := range p.functions {
		require.Equal(t, name.Name == "second", strings.Contains(strings.Join(f.environment("r", "s"), "\n"), "jwt_auth_authority="), name)
	}
}
