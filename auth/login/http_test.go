package login

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzClean: no secret, no token and nothing that a terminal obeys gets through.
func FuzzClean(f *testing.F) {
	f.Add("no such code: ", "the-secret+code", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln")
	f.Add("\x1b]0;title\a\u009b31m\u202e", "s", "")
	f.Add(strings.Repeat("long ", 1000), "", "\xff")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		text := clean(before+secret+after, secret)
		require.True(t, utf8.ValidString(text))
		require.LessOrEqual(t, utf8.RuneCountInString(text), 501)
		for _, r := range text {
			require.True(t, unicode.IsPrint(r), "%q", text)
		}
		if len(secret) > len("[secret][token]") { // shorter ones may be in what stands for them
			require.NotContains(t, text, secret)
		}
		require.NotRegexp(t, `eyJ[A-Za-z0-9_-]{8}`, text)
	})
}
