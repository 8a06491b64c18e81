package iam

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResourceMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern         Resource
		namespace, name string
		want            bool
	}{
		{"*", "dev", "env", true},
		{"dev:*", "dev", "env", true},
		{"dev:*", "dev2", "env", false},
		{"*:env", "dev", "env", true},
		{"*:env", "dev", "env2", false},
		{"dev:env", "dev", "env", true},
		{"dev:order-*", "dev", "order-list", true},
		{"dev:order-*", "dev", "order-", true},
		{"dev:order-*", "dev", "order", false},
		{"dev:*-list", "dev", "order-list", true},
		{"dev:a*b*c", "dev", "axxbyyc", true},
		{"dev:a*b*c", "dev", "axxcyyb", false},
		{"dev:a*a", "dev", "a", false},
		{"d*v:*", "dev", "env", true},
		{"*:*", "dev", "env", true},
		{"dev:**", "dev", "env", true},

		// Anchored at both ends: a substring is not enough.
		{"dev:e", "dev", "env", false},
		{"dev:nv", "dev", "env", false},
		{"ev:env", "dev", "env", false},
		{"dev:env", "dev", "env2", false},
		{"dev:env", "mydev", "env", false},

		// Case counts, and regexp characters mean nothing.
		{"dev:Env", "dev", "env", false},
		{"dev:e.v", "dev", "env", false},
		{"dev:e?v", "dev", "env", false},
		{"dev:[e]nv", "dev", "env", false},
		{"dev:.*", "dev", "env", false},

		// Malformed patterns match nothing.
		{"", "dev", "env", false},
		{"dev", "dev", "env", false},
		{"dev:", "dev", "env", false},
		{":env", "dev", "env", false},
		{":", "dev", "env", false},
		{"**", "dev", "env", false},
		{"dev:env:x", "dev", "env", false},
		{"dev:*:x", "dev", "env:x", false},
		{"*:*:*", "dev", "env", false},
		{" dev:env", "dev", "env", false},
		{"dev:env\n", "dev", "env", false},
		{"dev:\u0435nv", "dev", "\u0435nv", false}, // Cyrillic e
		{"dev:env\u200b", "dev", "env", false},

		// A colon or a star in what is asked for is a character like another.
		{"dev:env", "dev", "*", false},
		{"dev:env", "*", "env", false},
		{"dev:env", "dev:env", "x", false},
		{"*", "", "env", false},
		{"*", "dev", "", false},
		{"dev:*", "dev", "", false},
	} {
		require.Equal(t, c.want, c.pattern.Matches(c.namespace, c.name), "%q covers %q:%q", c.pattern, c.namespace, c.name)
	}
}

func TestResourceValid(t *testing.T) {
	t.Parallel()
	for _, r := range []Resource{"*", "dev:*", "*:env", "*:*", "dev:env", "dev:order-*"} {
		require.True(t, r.Valid(), "%q", r)
	}
	for _, r := range []Resource{"", "dev", "dev:", ":env", ":", "**", "a:b:c", "a:b ", "a:\tb", "a:b\x00", "a:b\x7f", "a:é"} {
		require.False(t, r.Valid(), "%q", r)
	}
}

// words lists every string over letters of up to max characters.
func words(letters string, max int) []string {
	all, last := []string{""}, []string{""}
	for range max {
		var next []string
		for _, w := range last {
			for _, l := range letters {
				next = append(next, w+string(l))
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// The glob rules against two judges of another kind: regexp for matching, and
// the enumeration of all short strings for overlapping.
func TestGlobsAgainstBruteForce(t *testing.T) {
	t.Parallel()
	patterns := words("ab*", 4)
	subjects := words("ab", 7) // long enough for any two of these patterns to meet in
	matches := make([]map[string]bool, len(patterns))
	for i, p := range patterns {
		re := regexp.MustCompile("^" + strings.ReplaceAll(p, "*", ".*") + "$")
		matches[i] = map[string]bool{}
		for _, s := range subjects {
			if got := glob(p, s); got != re.MatchString(s) {
				t.Fatalf("glob(%q, %q) = %v", p, s, got)
			} else if got {
				matches[i][s] = true
			}
		}
	}
	for i, p := range patterns {
		for j, q := range patterns {
			want := false
			for s := range matches[i] {
				if matches[j][s] {
					want = true
					break
				}
			}
			if got := globsMeet(p, q); got != want {
				t.Fatalf("globsMeet(%q, %q) = %v", p, q, got)
			}
		}
	}
}

func TestResourceOverlaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b Resource
		want bool
	}{
		{"*", "*", true},
		{"*", "dev:env", true},
		{"dev:*", "*:env", true},
		{"dev:*", "staging:*", false},
		{"dev:a*", "dev:*b", true},
		{"dev:a*", "dev:b*", false},
		{"dev:env", "dev:env", true},
		{"dev:env", "dev:env2", false},
		{"*", "dev:", false},
		{"**", "*", false},
		{"a:b:c", "a:b:c", false},
	} {
		require.Equal(t, c.want, c.a.Overlaps(c.b), "%q and %q", c.a, c.b)
		require.Equal(t, c.want, c.b.Overlaps(c.a), "%q and %q", c.b, c.a)
	}
}

// A pattern that makes a backtracking matcher take forever.
func TestGlobIsLinear(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 1<<20)
	require.False(t, glob(strings.Repeat("*a", 1000)+"*b", long))
	require.True(t, glob(strings.Repeat("*a", 1000)+"*", long))
}

func FuzzResource(f *testing.F) {
	for _, s := range []string{"*", "dev:*", "dev:env", "**", "a:b:c", ":", "dev:\u0435nv", "a*b*:*c"} {
		f.Add(s, "dev:env", "dev", "env")
	}
	f.Fuzz(func(t *testing.T, a, b, namespace, name string) {
		r, other := Resource(a), Resource(b)
		covered := r.Matches(namespace, name)
		if covered && !r.Valid() {
			t.Fatalf("%q is malformed and covers %q:%q", r, namespace, name)
		}
		if covered && other.Matches(namespace, name) && !r.Overlaps(other) {
			t.Fatalf("%q and %q both cover %q:%q but do not overlap", r, other, namespace, name)
		}
		if r.Overlaps(other) != other.Overlaps(r) {
			t.Fatalf("%q and %q overlap one way", r, other)
		}
		if r.Valid() && !r.Overlaps("*") {
			t.Fatalf("%q does not overlap *", r)
		}
		if covered && r != "*" && !strings.Contains(a, "*") && a != namespace+":"+name {
			t.Fatalf("%q covers %q:%q", r, namespace, name)
		}
	})
}
