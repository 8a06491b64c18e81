package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", policyP+"---\n"+roleR)
	write(t, dir, "b.yml", issuerI+"---\n"+strings.ReplaceAll(roleR, "[p]", "[p, gone]"))
	write(t, dir, "c.yaml", "a: b\n  c: d\n")
	write(t, dir, "d.yaml", strings.NewReplacer("name: p", "name: q", "Allow", "Deny").Replace(policyP)+"---\n"+
		strings.NewReplacer("name: p", "name: s", "Function:Invoke", "Function:Run").Replace(policyP))
	write(t, dir, "notes.txt", "{")
	other := filepath.Join(t.TempDir(), "any.name")
	require.NoError(t, os.WriteFile(other, []byte("apiVersion: iam.openfaas.com/v1\nkind: Rule\n"), 0o600))

	r, err := Check(dir, other)
	require.NoError(t, err)
	require.Equal(t, []int{5, 1, 3, 2}, []int{r.Files, r.Issuers, r.Policies, r.Roles})
	var errors, warnings []string
	for _, p := range r.Problems {
		message := p.Source + ": " + p.Message
		if p.Ignored {
			errors = append(errors, message)
		} else {
			warnings = append(warnings, message)
		}
	}
	for i, want := range []string{
		dir + "/c.yaml:2: yaml: mapping values are not allowed",
		other + `:1: kind is "Rule"`,
		dir + `/d.yaml:1: Policy "q": spec.statement[0]: effect is "Deny"`,
		dir + `/a.yaml:8: Role "r": 2 objects have this kind and name`,
		dir + `/b.yml:6: Role "r": 2 objects have this kind and name`,
	} {
		require.Contains(t, errors[i], want)
	}
	require.Len(t, errors, 5)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], dir+`/d.yaml:8: Policy "s": spec.statement[0]: the unknown action "Function:Run"`)
	require.Len(t, r.Set.Issuers(), 1)

	// A folder is checked as it would be loaded.
	r, err = Check("testdata")
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Equal(t, 5, r.Files)
}

func TestCheckOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Check(dir)
	require.ErrorContains(t, err, "holds no *.yaml")
	_, err = Check(filepath.Join(dir, "gone.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
