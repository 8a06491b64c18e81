package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmeCommands checks that the README shows the commands that `up`
// prints, which TestQuickstart pastes into a shell.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	g := startUp(t, "", nil)
	printed := g.stdout.find(t, g.program, `(?s)(ID_TOKEN=.*Bearer \$TOKEN")\n`)[1]
	printed = strings.ReplaceAll(printed, g.url, "http://127.0.0.1:8080")
	printed = strings.ReplaceAll(printed, filepath.Join(bin, "gateway"), "go run ./gateway/cmd/gateway")
	require.Contains(t, string(readme), "```sh\n"+printed+"\n```\n")
	// zsh, where it is interactive, takes a comment for arguments.
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		require.NotContains(t, block[1], "#")
	}
}

// TestReadmeSettings checks that the README's table and --help name the same
// environment variables.
func TestReadmeSettings(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	section := regexp.MustCompile(`(?s)### Settings\n(.*?)\n## `).FindSubmatch(readme)[1]
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`(\\w+)`").FindAllSubmatch(row[1], -1) {
			listed = append(listed, string(name[1]))
		}
	}

	help, err := exec.Command(filepath.Join(bin, "gateway"), "--help").Output()
	require.NoError(t, err)
	environment := regexp.MustCompile(`(?s)Environment.*?:\n(.*?)\n\n`).FindSubmatch(help)[1]
	var helped []string
	for _, row := range regexp.MustCompile(`(?m)^  (\w+)`).FindAllSubmatch(environment, -1) {
		helped = append(helped, string(row[1]))
	}
	require.ElementsMatch(t, listed, helped)
}
