package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/config"
)

// TestReadmeSettings checks that the README's table and --help name the same
// environment variables.
func TestReadmeSettings(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../../README.md")
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)## The federated gateway\n(.*?)\n## `).FindSubmatch(readme)[1]
	var listed, helped []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`(\\w+)`").FindAllSubmatch(row[1], -1) {
			listed = append(listed, string(name[1]))
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^  (\w+)`).FindAllStringSubmatch(root().Long, -1) {
		helped = append(helped, row[1])
	}
	require.ElementsMatch(t, listed, helped)
}

// TestRunRefuses: what is missing is said at the start, all at once.
func TestRunRefuses(t *testing.T) {
	t.Parallel()
	var problems *config.Error
	require.ErrorAs(t, run([]string{"allow_invoke=perhaps"}), &problems)
	require.Len(t, problems.Problems, 4)
	dir := t.TempDir()
	err := run([]string{"issuer=https://idp.example.com", "audience=a", "secret_mount_path=" + dir})
	require.ErrorContains(t, err, "secret_mount_path: cannot read the admin password")
	require.NoError(t, os.WriteFile(dir+"/basic-auth-user", []byte("admin"), 0o600))
	require.NoError(t, os.WriteFile(dir+"/basic-auth-password", []byte("pw"), 0o600))
	err = run([]string{"issuer=https://idp.example.com", "audience=a", "secret_mount_path=" + dir, "ca_bundle_path=" + dir + "/none"})
	require.ErrorContains(t, err, "ca_bundle_path: ")
}
