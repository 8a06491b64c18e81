package issuer

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// nameForm is the name of a key file whose key signs from a certain moment on,
// in UTC. The time is in the name because a file's own times do not survive
// being copied into a secret and mounted.
const nameForm = "20060102T150405Z.pem"

// beginOf returns from when on the key in the file of that name signs: zero, as
// if it always had, for a name of any other form.
func beginOf(name string) time.Time {
	begin, err := time.Parse(nameForm, name)
	// Parse takes fractions of a second, which are not of the form.
	if err != nil || begin.Format(nameForm) != name {
		return time.Time{}
	}
	return begin
}

// entry is a key with its file's name.
type entry struct {
	name  string
	begin time.Time // of signing; zero = always
	key   *Key
}

// schedule is when which key signs, and is published. What holds at a moment
// follows from the files' names and the clock alone, so that gateways which
// share a folder agree without a word. It does not change.
type schedule []entry

// newSchedule sorts entries into the order in which they sign.
func newSchedule(entries []entry) schedule {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(a.begin.Compare(b.begin), strings.Compare(a.name, b.name))
	})
	return entries
}

// signing returns the index of the key that signs: the last to have begun. When
// none has, since those that had were deleted, the next begins early. -1 = there
// is no key.
func (s schedule) signing(now time.Time) int {
	for n := len(s) - 1; n >= 0; n-- {
		if !s[n].begin.After(now) {
			return n
		}
	}
	return min(0, len(s)-1)
}

// clockSkew is how far apart the clocks of gateways and verifiers may be: one
// that is late signs on with a key that for another has been replaced.
const clockSkew = time.Minute

// end returns when key n is no longer published: once its successor has signed
// for as long as a token lives. Zero = that is not known yet. A successor that
// has signed always is none, because nobody knows when it was put there.
func (s schedule) end(n int, tokenLife time.Duration) time.Time {
	for _, successor := range s[n+1:] {
		if !successor.begin.IsZero() {
			return successor.begin.Add(tokenLife + clockSkew)
		}
	}
	return time.Time{}
}

// published returns the keys that verify a token which may be alive, and those
// that are to sign next.
func (s schedule) published(now time.Time, tokenLife time.Duration) []*Key {
	var keys []*Key
	signing := s.signing(now)
	for n, e := range s {
		end := s.end(n, tokenLife)
		// One key may be in several files.
		if !contains(keys, e.key) && (n >= signing || end.IsZero() || now.Before(end)) {
			keys = append(keys, e.key)
		}
	}
	return keys
}

func contains(keys []*Key, key *Key) bool {
	return slices.ContainsFunc(keys, func(k *Key) bool { return k.id == key.id })
}
