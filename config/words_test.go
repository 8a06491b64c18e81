package config

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		``:                           nil,
		"  \t\n":                     nil,
		`cat`:                        {"cat"},
		` tr  a-z A-Z `:              {"tr", "a-z", "A-Z"},
		`sh -c 'echo "$1" \n'`:       {"sh", "-c", `echo "$1" \n`},
		`a"b c"'d e'f`:               {"ab cd ef"},
		`"" ''`:                      {"", ""},
		`a\ b \"c \\`:                {"a b", `"c`, `\`},
		`"a\"b\\c\d"`:                {`a"b\c\d`},
		"/opt/caf\xe9 \xff":          {"/opt/caf\xe9", "\xff"},
		`python3 -u /app/index.py`:   {"python3", "-u", "/app/index.py"},
		`awk '{print $1}' 'it'\''s'`: {"awk", "{print $1}", "it's"},
	} {
		got, err := splitWords(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for in, want := range map[string]string{
		`sh -c 'x`: "' quote is closed",
		`"a\"`:     `" quote is closed`,
		`a\`:       "does not end in a backslash",
	} {
		_, err := splitWords(in)
		require.ErrorContains(t, err, want, in)
	}
}

// The shell is the independent implementation: where nothing can expand, both
// must see the same words.
func TestSplitWordsAgreesWithShell(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	for _, in := range []string{
		`a b  c`, `'a b' "c d"e`, `a\ b\\c`, `"x\"y\\z\q" 'it'\''s' ""`, "one\ttwo\nthree",
	} {
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+strings.ReplaceAll(in, "\n", " ")).Output()
		require.NoError(t, err)
		got, err := splitWords(in)
		require.NoError(t, err)
		require.Equal(t, strings.TrimSuffix(string(out), "\x00"), strings.Join(got, "\x00"), in)
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, s := range []string{"", "a b", `'a`, `"\`, `a\ b "c\"d" 'e'`, "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitWords(s)
		if err != nil {
			return
		}
		// Quoting what came out and splitting again gives the same words.
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		again, err := splitWords(strings.Join(quoted, " "))
		require.NoError(t, err)
		require.Equal(t, words, again)
	})
}
