package issuer

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/stretchr/testify/require"
)

func TestBeginOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Date(2026, 11, 22, 0, 36, 4, 0, time.UTC), beginOf("20261122T003604Z.pem"))
	for _, name := range []string{
		"first.pem", "20261122T003604Z", "20261122T003604.pem", "20261122t003604z.pem", "2026-11-22T00:36:04Z.pem",
		"20261122T003604.5Z.pem", "20261122T003604,5Z.pem", "20261322T003604Z.pem", "20261122T003660Z.pem", "20261122T003604Z.pem.pem",
		" 20261122T003604Z.pem", "20261122T003604+0100.pem", "20260230T000000Z.pem", "",
	} {
		require.Zero(t, beginOf(name), name)
	}
}

// FuzzBeginOf: a time has one name.
func FuzzBeginOf(f *testing.F) {
	for _, name := range []string{"20261122T003604Z.pem", "first.pem", "20261122T003604.5Z.pem", "00000000T000000Z.pem", "00010101T000000Z.pem"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if begin := beginOf(name); !begin.IsZero() {
			require.Equal(t, name, begin.Format(nameForm))
			require.Equal(t, time.UTC, begin.Location())
		}
	})
}

// TestSchedule is a table of who signs and who is published when. Moments are
// minutes; a token lives 60 of them.
func TestSchedule(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC) }
	keys := make(map[string]*Key)
	for _, id := range []string{"first", "also", "10", "20", "100"} {
		k, err := Generate()
		require.NoError(t, err)
		keys[id] = k
	}
	begins := map[string]time.Time{"10": at(10), "20": at(20), "100": at(100)}
	for _, c := range []struct {
		name      string
		keys      []string
		now       time.Time
		signs     string
		published []string
	}{
		{"none", nil, at(0), "", nil},
		{"one", []string{"first"}, at(1e6), "first", []string{"first"}},
		{"published before it signs", []string{"first", "10"}, at(10).Add(-1), "first", []string{"first", "10"}},
		{"signs", []string{"first", "10"}, at(10), "10", []string{"first", "10"}},
		{"as long as its tokens", []string{"first", "10"}, at(71).Add(-1), "10", []string{"first", "10"}},
		{"left out", []string{"first", "10"}, at(71), "10", []string{"10"}},
		{"several at once", []string{"first", "10", "20", "100"}, at(50), "20", []string{"first", "10", "20", "100"}},
		{"long after", []string{"first", "10", "20", "100"}, at(1e6), "100", []string{"100"}},
		{"always twice, since when nobody knows", []string{"first", "also"}, at(1e6), "first", []string{"also", "first"}},
		{"always twice, and then replaced", []string{"first", "also", "10"}, at(71), "10", []string{"10"}},
		{"only one that has not begun", []string{"100"}, at(0), "100", []string{"100"}},
		{"only those that have not begun", []string{"20", "100"}, at(0), "20", []string{"20", "100"}},
		{"the signing one was deleted", []string{"first", "20"}, at(15), "first", []string{"first", "20"}},
		{"the signing one was deleted late", []string{"10"}, at(1e6), "10", []string{"10"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var entries []entry
			for _, name := range c.keys {
				entries = append(entries, entry{name, begins[name], keys[name]})
			}
			rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			s := newSchedule(entries)
			if n := s.signing(c.now); c.signs == "" {
				require.Equal(t, -1, n)
			} else {
				require.Equal(t, c.signs, s[n].name)
			}
			var published []*Key
			for _, name := range c.published {
				published = append(published, keys[name])
			}
			require.Equal(t, published, s.published(c.now, time.Hour))
		})
	}

	// A key in two files is published once, and as long as one of them is.
	s := newSchedule([]entry{{"a", time.Time{}, keys["first"]}, {"b", at(10), keys["10"]}, {"c", at(100), keys["first"]}})
	require.Equal(t, []*Key{keys["first"], keys["10"]}, s.published(at(50), time.Hour))
	require.Equal(t, []*Key{keys["10"], keys["first"]}, s.published(at(120), time.Hour))
}

// TestReplicasAgree lets two issuers follow one folder through random rotations
// and prunings, and checks every token of each against the other: as long as it
// lives it is verified by the key set as it is then, and by any copy of it that
// was taken no longer before it was signed than a rotation's lead allows.
func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			replicasAgree(t, rand.New(rand.NewPCG(seed, 5)))
		})
	}
}

func replicasAgree(t *testing.T, random *rand.Rand) {
	dir := filepath.Join(t.TempDir(), "keys")
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	open := func() *Issuer {
		i, err := Open(Config{URL: "http://gw", Path: dir, Ours: true, Now: func() time.Time { return clock }})
		require.NoError(t, err)
		return i
	}
	replicas := []*Issuer{open(), open()}
	tokenLife := time.Duration(1+random.IntN(40)) * time.Hour
	for _, r := range replicas {
		r.Outlive(tokenLife)
	}
	const (
		lead = 10 * time.Minute
		poll = 1100 * time.Millisecond // a replica notices a file within that
	)
	type signed struct {
		token      string
		by         int
		begin, end time.Time
	}
	type copied struct {
		at   time.Time
		keys string
	}
	var tokens []signed
	var copies [2][]copied
	unread := [2]time.Time{clock, clock} // when each reads the folder next
	rotations := 0
	for range 120 {
		// Mostly seconds, so that much happens around a rotation; at times days.
		step := time.Duration(random.Int64N(int64(90 * time.Second)))
		if random.IntN(10) == 0 {
			step = time.Duration(random.Int64N(int64(tokenLife)))
		}
		clock = clock.Add(step)
		switch random.IntN(20) {
		case 0, 1:
			_, err := Add(dir, []string{ES256, EdDSA}[random.IntN(2)], clock.Add(lead))
			if err != nil {
				require.ErrorIs(t, err, fs.ErrExist)
			}
			rotations++
			// One that reads at once, one that reads late, or the other way round.
			late := random.IntN(2)
			replicas[1-late].reload()
			clock = clock.Add(poll)
			replicas[late].reload()
		case 2:
			keys, err := List(dir, true, clock, tokenLife)
			require.NoError(t, err)
			for _, k := range keys {
				if k.State == Expired {
					require.NoError(t, os.Remove(filepath.Join(dir, k.Name)))
				}
			}
		case 3: // one is started anew
			n := random.IntN(2)
			replicas[n] = open()
			replicas[n].Outlive(tokenLife)
		}
		for n, r := range replicas {
			if !clock.Before(unread[n]) {
				r.reload()
				unread[n] = clock.Add(poll)
			}
		}

		for n, r := range replicas {
			end := clock.Add(tokenLife).Truncate(time.Second)
			token, err := r.Sign(map[string]any{"exp": end.Unix()})
			require.NoError(t, err)
			tokens = append(tokens, signed{token, n, clock, end})
			copies[n] = append(copies[n], copied{clock, string(r.JWKS())})
		}
		token := tokens[max(0, len(tokens)-1-random.IntN(100))]
		if clock.Before(token.end) {
			requireVerifies(t, replicas[1-token.by].JWKS(), token.token, clock)
		}
		kid := kidOf(t, token.token)
		for _, c := range copies[1-token.by] {
			if !c.at.Before(token.begin.Add(poll-lead)) && c.at.Before(token.end) && !strings.Contains(c.keys, kid) {
				require.Fail(t, "a copy lacks the key", "taken %s from the begin of a token", c.at.Sub(token.begin))
			}
		}
	}
	require.NotZero(t, rotations)
}

func requireVerifies(t *testing.T, keys []byte, token string, now time.Time) {
	t.Helper()
	set, err := jwk.Parse(keys)
	require.NoError(t, err)
	_, err = jwt.Parse(token, func(token *jwt.Token) (any, error) {
		key, ok := set.LookupKeyID(token.Header["kid"].(string))
		require.True(t, ok, "the key of a token that lives is not published")
		var public any
		err := key.Raw(&public)
		return public, err
	}, jwt.WithTimeFunc(func() time.Time { return now }))
	require.NoError(t, err)
}

// kidOf returns the kid of a token.
func kidOf(t *testing.T, token string) string {
	t.Helper()
	header, _, _ := strings.Cut(token, ".")
	decoded, err := base64.RawURLEncoding.DecodeString(header)
	require.NoError(t, err)
	var h struct{ Kid string }
	require.NoError(t, json.Unmarshal(decoded, &h))
	return h.Kid
}
