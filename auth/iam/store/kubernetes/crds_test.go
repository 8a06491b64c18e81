package kubernetes_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// An API server drops a null that its definition does not allow. Below a
// principal or a condition it would take a restriction along, so it has to stay,
// and the object to be refused here.
func TestNullsAreNotDropped(t *testing.T) {
	t.Parallel()
	found := 0
	var walk func(schema map[string]any, restricts bool)
	walk = func(schema map[string]any, restricts bool) {
		if restricts {
			found++
			require.Equal(t, true, schema["nullable"], "%v", schema)
		}
		properties, _ := schema["properties"].(map[string]any)
		for name, property := range properties {
			walk(property.(map[string]any), restricts || name == "principal" || name == "condition")
		}
		for _, below := range []string{"items", "additionalProperties"} {
			if s, ok := schema[below].(map[string]any); ok {
				walk(s, restricts)
			}
		}
	}
	files, err := filepath.Glob("crds/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var crd struct {
			Spec struct {
				Versions []struct {
					Schema struct {
						Open map[string]any `yaml:"openAPIV3Schema"`
					}
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(data, &crd))
		for _, v := range crd.Spec.Versions {
			walk(v.Schema.Open, false)
		}
	}
	require.Equal(t, 3+2+3, found, "a statement's condition, a role's principal and condition, with what is below")

	f := openFake(t)
	f.put(t, "Policy", "p", policySpec("dev:one"))
	for name, spec := range map[string]string{
		"principal": `{policy: [p], principal: null, condition: {StringEqual: {"jwt:sub": a}}}`,
		"condition": `{policy: [p], principal: {"jwt:sub": a}, condition: null}`,
		"operator":  `{policy: [p], principal: {"jwt:sub": a}, condition: {StringEqual: null}}`,
		"value":     `{policy: [p], principal: {"jwt:sub": a, "jwt:x": null}}`,
	} {
		f.put(t, "Role", name, spec)
	}
	eventually(t, "all are read", func() bool { return f.log.count("1 policies and 0 roles, with 4 problems") == 1 })
	require.Empty(t, invokes(f, "a"))
}
