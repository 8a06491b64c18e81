package auth

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

// cached reports whether v holds a verdict on token.
func cached(v *Verifier, token string) bool {
	_, ok := v.verdicts.get(sha256.Sum256([]byte(token)))
	return ok
}

func TestVerdictsExpire(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	v := newVerifier(t, func(c *Config) {
		c.Now = func() time.Time { return now.Add(time.Duration(offset.Load())) }
	})
	token := mint("ES256", withClaim("exp", now.Unix()+10), nil)
	header := []byte("Bearer " + token)
	require.NoError(t, verify(t.Context(), v, header))
	require.True(t, cached(v, token))
	offset.Store(int64(11*time.Second - 1)) // the last moment of the leeway
	require.NoError(t, verify(t.Context(), v, header))
	offset.Store(int64(11 * time.Second))
	require.EqualError(t, verify(t.Context(), v, header), expired)

	// A token that came too early is not remembered as refused.
	offset.Store(0)
	early := mint("ES256", withClaim("nbf", now.Unix()+60), nil)
	require.EqualError(t, verify(t.Context(), v, []byte("Bearer "+early)), tooEarly)
	require.False(t, cached(v, early))
	offset.Store(int64(time.Minute))
	require.NoError(t, verify(t.Context(), v, []byte("Bearer "+early)))
}

func TestLeeway(t *testing.T) {
	t.Parallel()
	for leeway, granted := range map[time.Duration]int64{0: 1, time.Second: 1, 30 * time.Second: 30, time.Minute: 60} {
		v := newVerifier(t, func(c *Config) { c.Leeway = leeway })
		for _, c := range []struct {
			claim string
			date  int64
			want  string
		}{
			{"exp", now.Unix() - granted + 1, allowed},
			{"exp", now.Unix() - granted, expired},
			{"nbf", now.Unix() + granted, allowed},
			{"nbf", now.Unix() + granted + 1, tooEarly},
			{"iat", now.Unix() + granted, allowed},
			{"iat", now.Unix() + granted + 1, future},
		} {
			err := verify(t.Context(), v, []byte("Bearer "+mint("ES256", withClaim(c.claim, c.date), nil)))
			if c.want == allowed {
				require.NoError(t, err, "%s: %s %d", leeway, c.claim, c.date)
			} else {
				require.EqualError(t, err, c.want, "%s: %s %d", leeway, c.claim, c.date)
			}
		}
	}
}

func TestVerdictsAreOfOneFunction(t *testing.T) {
	t.Parallel()
	token := mint("ES256", goodClaims(), nil)
	env := newVerifier(t, nil)
	other := newVerifier(t, func(c *Config) { c.Name = "other" })
	for range 2 {
		require.NoError(t, verify(t.Context(), env, []byte("Bearer "+token)))
		require.ErrorIs(t, verify(t.Context(), other, []byte("Bearer "+token)), ErrForbidden)
		require.True(t, cached(other, token))
	}
}

func TestRefusedTokensAreNotCached(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, func(c *Config) { c.CacheSize = 100 })
	good := mint("ES256", goodClaims(), nil)
	require.NoError(t, verify(t.Context(), v, []byte("Bearer "+good)))
	unknown := strings.Split(mint("ES256", goodClaims(), map[string]any{"kid": "other"}), ".")
	bad := good[:len(good)-4]
	for i := range 1000 {
		require.Error(t, verify(t.Context(), v, fmt.Appendf(nil, "Bearer %s%04d", bad, i)))
		require.Error(t, verify(t.Context(), v, fmt.Appendf(nil, "Bearer %s.%s.%04d", unknown[0], unknown[1], i)))
	}
	require.True(t, cached(v, good))
	require.Len(t, v.verdicts.entries, 1)
}

func TestVerdictsAreBounded(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, func(c *Config) { c.CacheSize = 10 })
	for i := range 200 {
		token := mint("ES256", withClaim("jti", i), nil)
		require.NoError(t, verify(t.Context(), v, []byte("Bearer "+token)))
	}
	require.Len(t, v.verdicts.entries, 10)
	before := maps.Clone(v.verdicts.entries)
	for sum, d := range before {
		v.verdicts.set(sum, d)
	}
	require.Equal(t, before, v.verdicts.entries, "what was verified twice pushed something out")
}

// What a verifier decides may depend on nothing but the token, however many
// callers share it.
func TestConcurrentCallers(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, func(c *Config) { c.CacheSize = 16 })
	headers := make([][]byte, 60)
	for i := range headers {
		claims := withClaim("jti", i)
		if i%3 == 1 {
			claims["function"] = map[string]any{"permissions": []string{"dev:*"}}
		}
		token := mint("ES256", claims, nil)
		if i%3 == 2 {
			token = token[:len(token)-8] + "AAAAAAAA"
		}
		headers[i] = []byte("Bearer " + token)
	}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for i, h := range headers {
				err := verify(t.Context(), v, h)
				if want := []int{200, 403, 401}[i%3]; Status(err) != want {
					t.Errorf("token %d: %v, want %d", i, err, want)
				}
			}
		})
	}
	callers.Wait()
}

// published is an issuer's documents without a network.
type published struct {
	mu   sync.Mutex
	name string
	keys []map[string]any
}

func (p *published) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body := marshal(map[string]any{"keys": p.keys})
	if !strings.HasSuffix(req.URL.Path, "/keys") {
		body = marshal(map[string]string{"issuer": p.name, "jwks_uri": "https://gateway/keys"})
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func TestVerdictsDieWithTheirKey(t *testing.T) {
	t.Parallel()
	key := func(kid string) map[string]any {
		k := publicJWK(signers()[kid].Public())
		k["kid"] = kid
		return k
	}
	mint("ES256", goodClaims(), nil) // make the keys outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		p := &published{name: issuer, keys: []map[string]any{key("ES256")}}
		keys, err := jwks.NewRemote(jwks.Config{Authority: "https://gateway", Client: &http.Client{Transport: p}, Refresh: time.Minute})
		require.NoError(t, err)
		v := newVerifier(t, func(c *Config) { c.Keys = keys })
		stopped := make(chan struct{})
		go func() { keys.Run(t.Context()); close(stopped) }()
		t.Cleanup(func() { <-stopped })

		old, fresh := mint("ES256", goodClaims(), nil), mint("ES384", goodClaims(), nil)
		verifyToken := func(token string) error { return verify(t.Context(), v, []byte("Bearer "+token)) }
		change := func(f func()) {
			p.mu.Lock()
			f()
			p.mu.Unlock()
			time.Sleep(2 * time.Minute) // two background fetches
		}
		require.NoError(t, verifyToken(old))
		require.EqualError(t, verifyToken(fresh), unknownKid)

		change(func() { p.keys = append(p.keys, key("ES384")) })
		require.NoError(t, verifyToken(old))
		require.NoError(t, verifyToken(fresh))

		change(func() { p.keys = p.keys[1:] })
		require.True(t, cached(v, old))
		require.EqualError(t, verifyToken(old), unknownKid)
		require.NoError(t, verifyToken(fresh))

		change(func() { p.keys = []map[string]any{key("ES256")} })
		require.NoError(t, verifyToken(old))
		require.EqualError(t, verifyToken(fresh), unknownKid)

		// The issuer's new name: tokens of the old one are another issuer's.
		change(func() { p.name = "https://renamed" })
		require.EqualError(t, verifyToken(old), wrongIss)

		change(func() { p.name, p.keys = issuer, []map[string]any{} })
		require.ErrorIs(t, verifyToken(old), ErrUnavailable)
	})
}

// When the issuer has been away for too long, its keys' verdicts fall too.
func TestVerdictsDieOfAge(t *testing.T) {
	t.Parallel()
	token := []byte("Bearer " + mint("ES256", goodClaims(), nil))
	synctest.Test(t, func(t *testing.T) {
		k := publicJWK(signers()["ES256"].Public())
		k["kid"] = "ES256"
		p := &published{name: issuer, keys: []map[string]any{k}}
		keys, err := jwks.NewRemote(jwks.Config{Authority: "https://gateway", Client: &http.Client{Transport: p}, Keep: time.Hour})
		require.NoError(t, err)
		v := newVerifier(t, func(c *Config) { c.Keys = keys })
		stopped := make(chan struct{})
		go func() { keys.Run(t.Context()); close(stopped) }()
		t.Cleanup(func() { <-stopped })
		require.NoError(t, verify(t.Context(), v, token))

		rename := func(name string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.name = name
		}
		rename("no URL") // so the discovery document is refused
		time.Sleep(time.Hour - time.Second)
		require.NoError(t, verify(t.Context(), v, token))
		time.Sleep(time.Minute)
		require.ErrorIs(t, verify(t.Context(), v, token), ErrUnavailable)
		rename(issuer)
		time.Sleep(time.Second)
		require.NoError(t, verify(t.Context(), v, token))
	})
}

// Requests reuse their buffers: what was kept of one would become another's.
func TestVerifyKeepsNoBytes(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil)
	token := mint("ES256", goodClaims(), nil)
	buffer := []byte("Bearer " + token)
	require.NoError(t, verify(t.Context(), v, buffer))
	clear(buffer)
	require.NoError(t, verify(t.Context(), v, []byte("Bearer "+token)))
	require.ErrorIs(t, verify(t.Context(), v, buffer), ErrNoBearer)
}

// Whoever chooses their claims may not fill the memory with them.
func TestLongClaimsAreNotKept(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, func(c *Config) { c.Claims = []string{"sub", "long"} })
	for length, want := range map[int]bool{0: true, maxKept - len("fed:alice"): true, maxKept - len("fed:alice") + 1: false, 5000: false} {
		claims := withClaim("long", strings.Repeat("x", length))
		claims["other"] = strings.Repeat("x", 200) // not asked for
		token := mint("ES256", claims, nil)
		for range 2 {
			caller, err := v.Verify(t.Context(), []byte("Bearer "+token))
			require.NoError(t, err)
			require.Equal(t, []string{"fed:alice", strings.Repeat("x", length)}, caller.Claims)
		}
		require.Equal(t, want, cached(v, token), length)
	}
}

func TestCheapAnswersDoNotAllocate(t *testing.T) {
	header := func(token string) [][]byte { return [][]byte{[]byte("Bearer " + token)} }
	good := mint("ES256", goodClaims(), nil)
	for name, c := range map[string]struct {
		values [][]byte
		status int
		allocs float64
	}{
		"hit":             {header(good), 200, 0},
		"hit, forbidden":  {header(mint("ES256", withClaim("function", map[string]any{"permissions": []string{"dev:*"}}), nil)), 403, 0},
		"no header":       {nil, 401, 0},
		"no bearer":       {[][]byte{[]byte("Basic YTpi")}, 401, 0},
		"several headers": {slices.Concat(header(good), header(good)), 401, 0},
		"too long":        {header(strings.Repeat("A", MaxToken+1)), 401, 0},
		// Not for nothing, but for the same whatever is sent.
		"no token":            {header("x"), 401, 1},
		"8 KiB of characters": {header(strings.Repeat("A", MaxToken)), 401, 1},
		"8 KiB of dots":       {header(strings.Repeat(".", MaxToken)), 401, 1},
	} {
		v := newVerifier(t, func(c *Config) { c.Claims = []string{"sub"} })
		require.Equal(t, c.status, Status(verify(t.Context(), v, c.values...)), name)
		allocs := testing.AllocsPerRun(100, func() { _ = verify(t.Context(), v, c.values...) })
		require.LessOrEqual(t, allocs, c.allocs, name)
	}
}
