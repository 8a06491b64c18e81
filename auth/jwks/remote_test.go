package jwks_test

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

// provider is an issuer without a network, so that synctest can move the
// clock: an http.RoundTripper that answers for https://issuer.
type provider struct {
	mu            sync.Mutex
	issuer        string
	keys          []byte
	down          error
	hang          chan struct{}        // if set, answers wait for it to be closed
	slow          func() time.Duration // if set, how long an answer is on its way
	fetches       int                  // of the key set
	pending, most int                  // answers that are awaited, and have been at once
}

func (p *provider) RoundTrip(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	hang := p.hang
	if strings.HasSuffix(req.URL.Path, "/keys") {
		p.fetches++
	}
	p.pending++
	p.most = max(p.most, p.pending)
	p.mu.Unlock()
	defer p.set(func() { p.pending-- })
	if hang != nil {
		select {
		case <-hang:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	p.mu.Lock()
	down, body, slow := p.down, string(p.keys), p.slow
	if !strings.HasSuffix(req.URL.Path, "/keys") {
		body = fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://issuer/keys"}`, p.issuer)
	}
	p.mu.Unlock()
	if slow != nil {
		select {
		case <-time.After(slow()):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if down != nil {
		return nil, down
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

func (p *provider) awaited() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending
}

func (p *provider) peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// start returns a key set of p that runs until the test ends. Refresh 5m,
// Cooldown 10s.
func (p *provider) start(t *testing.T) *jwks.Remote {
	t.Helper()
	r := p.remote(t)
	run(t, r)
	return r
}

// run runs r until the test ends.
func run(t *testing.T, r *jwks.Remote) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

func (p *provider) remote(t *testing.T) *jwks.Remote {
	t.Helper()
	r, err := jwks.NewRemote(jwks.Config{Authority: "https://issuer", Client: &http.Client{Transport: p}, Logf: t.Logf})
	require.NoError(t, err)
	return r
}

func ec(t testing.TB, kid string) jwk {
	return publicJWK(t, kid, ecKey(t, elliptic.P256()).Public())
}

func mustKey(t *testing.T, r *jwks.Remote, kid string) *jwks.Key {
	t.Helper()
	k, err := r.Key(t.Context(), kid, "ES256")
	require.NoError(t, err)
	return k
}

func TestKeyWithoutRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		r := p.remote(t)
		require.False(t, r.Ready())
		require.True(t, r.Fetched().IsZero())
		require.Empty(t, r.Issuer())
		require.Zero(t, p.count())
		require.Equal(t, "a", mustKey(t, r, "a").ID())
		require.True(t, r.Ready())
		require.Equal(t, time.Now(), r.Fetched())
		require.Equal(t, "https://issuer", r.Issuer())
		_, err := r.Key(t.Context(), "a", "RS256")
		require.ErrorIs(t, err, jwks.ErrAlgorithm)
		_, err = r.Key(t.Context(), "a", "none")
		require.ErrorIs(t, err, jwks.ErrAlgorithm)
		require.Equal(t, 1, p.count())
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := ec(t, "a"), ec(t, "b")
		p := &provider{issuer: "https://issuer", keys: keySet(a)}
		r := p.start(t)
		keyA := mustKey(t, r, "a")

		// A new key is found as soon as a token names it, and the key that
		// stays is the same one, so verdicts made with it live on.
		p.set(func() { p.keys = keySet(a, b) })
		keyB := mustKey(t, r, "b")
		require.Same(t, keyA, mustKey(t, r, "a"))
		require.False(t, keyA.Withdrawn())

		// A key that leaves is withdrawn by the next background fetch.
		p.set(func() { p.keys = keySet(b) })
		time.Sleep(6 * time.Minute)
		require.True(t, keyA.Withdrawn())
		require.False(t, keyB.Withdrawn())
		_, err := r.Key(t.Context(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnknownKey)

		// Coming back does not revive what was decided before.
		p.set(func() { p.keys = keySet(a, b) })
		time.Sleep(6 * time.Minute)
		require.NotSame(t, keyA, mustKey(t, r, "a"))
		require.True(t, keyA.Withdrawn())

		// The same kid with other material is another key.
		p.set(func() { p.keys = keySet(ec(t, "b")) })
		time.Sleep(6 * time.Minute)
		require.True(t, keyB.Withdrawn())
		require.NotSame(t, keyB, mustKey(t, r, "b"))

		// So is the same key of an issuer with another name.
		keyB = mustKey(t, r, "b")
		p.set(func() { p.issuer = "https://renamed" })
		time.Sleep(6 * time.Minute)
		require.Equal(t, "https://renamed", r.Issuer())
		require.True(t, keyB.Withdrawn())

		// An issuer that publishes nothing vouches for nothing.
		keyB = mustKey(t, r, "b")
		p.set(func() { p.keys = keySet() })
		time.Sleep(6 * time.Minute)
		require.True(t, keyB.Withdrawn())
		require.False(t, r.Ready())
		_, err = r.Key(t.Context(), "b", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		r := p.start(t)
		keyA := mustKey(t, r, "a")

		for _, damage := range []func(){
			func() { p.down = errors.New("connection refused") },
			func() { p.down, p.keys = nil, []byte("<html>") },
			func() { p.keys, p.issuer = keySet(ec(t, "evil")), "not a URL" },
		} {
			p.set(damage)
			fetched := r.Fetched()
			time.Sleep(time.Hour)
			require.True(t, r.Ready())
			require.Equal(t, fetched, r.Fetched())
			require.Same(t, keyA, mustKey(t, r, "a"))
			require.False(t, keyA.Withdrawn())
			_, err := r.Key(t.Context(), "evil", "ES256")
			require.ErrorIs(t, err, jwks.ErrUnknownKey)
		}
	})
}

// While there are no keys at all, readiness comes within a second of the
// gateway's return, however long it was away, and is not asked for in a spin.
func TestReadySoonAfterFirstOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), down: errors.New("no such host")}
		r := p.start(t)
		time.Sleep(time.Hour)
		require.False(t, r.Ready())
		_, err := r.Key(t.Context(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		p.set(func() { p.down = nil })
		time.Sleep(time.Second)
		require.True(t, r.Ready())
		require.Equal(t, 1, p.count())
	})
}

// The same without Run, as a caller that only asks for keys has it.
func TestKeySoonAfterFirstOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), down: errors.New("no such host")}
		r := p.remote(t)
		_, err := r.Key(t.Context(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		p.set(func() { p.down = nil })
		_, err = r.Key(t.Context(), "a", "ES256") // not asked again at once
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		time.Sleep(time.Second)
		mustKey(t, r, "a")
	})
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", hang: make(chan struct{})}
		r := p.start(t)
		time.Sleep(4 * time.Second) // the fetch under way has a second left
		start := time.Now()
		_, err := r.Key(context.Background(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		require.Equal(t, 5*time.Second, time.Since(start))
		time.Sleep(5 * time.Second) // the fetch it left behind ends too
	})
}

func TestFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"issuer up": false, "issuer down": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
				r := p.start(t)
				mustKey(t, r, "a")
				require.Equal(t, 1, p.count())
				if down {
					p.set(func() { p.keys = []byte("garbage") })
				}

				var callers sync.WaitGroup
				for i := range 50 {
					callers.Go(func() {
						for j := range 60 { // one a second for a minute
							_, err := r.Key(t.Context(), fmt.Sprintf("random %d %d", i, j), "ES256")
							if !errors.Is(err, jwks.ErrUnknownKey) {
								t.Errorf("random kid: %v", err)
							}
							time.Sleep(time.Second)
						}
					})
				}
				callers.Wait()
				// At 0s, 10s, … 50s, at most, beside the first.
				require.LessOrEqual(t, p.count(), 1+6)
				require.Greater(t, p.count(), 1)
			})
		})
	}
}

// All at once: one fetch, then none until the cooldown has passed.
func TestFloodAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), slow: func() time.Duration { return time.Millisecond }}
		r := p.start(t)
		mustKey(t, r, "a")
		for turn := range 3 {
			var callers sync.WaitGroup
			for i := range 1000 {
				callers.Go(func() {
					for j := range 34 {
						_, err := r.Key(t.Context(), fmt.Sprint(turn, " ", i, " ", j), "ES256")
						if !errors.Is(err, jwks.ErrUnknownKey) {
							t.Errorf("random kid: %v", err)
						}
					}
				})
			}
			callers.Wait()
			require.Equal(t, 1+turn+1, p.count())
			time.Sleep(10 * time.Second)
		}
	})
}

// While the issuer hangs, holders of a known key are not kept waiting, and
// others not forever.
func TestHangingIssuer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		r := p.start(t)
		mustKey(t, r, "a")
		hang := make(chan struct{})
		p.set(func() { p.hang = hang; p.keys = keySet(ec(t, "a"), ec(t, "b")) })

		var waiting sync.WaitGroup
		start := time.Now()
		waiting.Go(func() { // starts the fetch and waits for it
			_, err := r.Key(context.Background(), "b", "ES256")
			if !errors.Is(err, jwks.ErrUnknownKey) && !errors.Is(err, jwks.ErrUnavailable) {
				t.Errorf("hanging issuer: %v", err)
			}
			if d := time.Since(start); d != 5*time.Second {
				t.Errorf("waited %s", d)
			}
		})
		synctest.Wait()
		mustKey(t, r, "a")
		require.Zero(t, time.Since(start))

		// A caller that gives up leaves the fetch to the others.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Key(ctx, "c", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		waiting.Wait()

		// The one who started it leaves; the one who joined gets the key.
		time.Sleep(time.Minute)
		ctx, cancel = context.WithCancel(t.Context())
		waiting.Go(func() { _, _ = r.Key(ctx, "b", "ES256") })
		synctest.Wait()
		waiting.Go(func() {
			if _, err := r.Key(context.Background(), "b", "ES256"); err != nil {
				t.Errorf("joined a fetch whose starter left: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		p.set(func() { p.hang = nil })
		close(hang)
		waiting.Wait()
	})
}

// The fetch under way may be older than the key: it does not count as the
// answer.
func TestKeyPublishedDuringFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := ec(t, "a"), ec(t, "b")
		p := &provider{issuer: "https://issuer", keys: keySet(a)}
		stale := &staleOnce{provider: p, release: make(chan struct{})}
		r, err := jwks.NewRemote(jwks.Config{Authority: "https://issuer", Client: &http.Client{Transport: stale}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		synctest.Wait() // its first answer is on the way, with a alone
		p.set(func() { p.keys = keySet(a, b) })
		got := make(chan error)
		go func() {
			_, err := r.Key(ctx, "b", "ES256")
			got <- err
		}()
		synctest.Wait()
		close(stale.release)
		require.NoError(t, <-got)
	})
}

type staleOnce struct {
	*provider
	late    atomic.Bool
	release chan struct{}
}

func (s *staleOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.provider.RoundTrip(req)
	if strings.HasSuffix(req.URL.Path, "/keys") && s.late.CompareAndSwap(false, true) {
		<-s.release
	}
	return res, err
}

// Rotation under load: run with -race.
func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stays := ec(t, "stays")
		p := &provider{issuer: "https://issuer", keys: keySet(stays)}
		r := p.start(t)
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for i := range 100 {
					if k, err := r.Key(t.Context(), "stays", "ES256"); err != nil || k.Withdrawn() {
						t.Errorf("the key that stays: %v", err)
					}
					_, _ = r.Key(t.Context(), fmt.Sprint("turn ", i/10), "ES256")
					r.Ready()
					r.Issuer()
					time.Sleep(time.Second)
				}
			})
		}
		for i := range 10 {
			p.set(func() { p.keys = keySet(stays, ec(t, fmt.Sprint("turn ", i))) })
			time.Sleep(5 * time.Second)
			require.NoError(t, r.Refetch(t.Context()))
			time.Sleep(5 * time.Second)
		}
		readers.Wait()
	})
}

func TestStatic(t *testing.T) {
	t.Parallel()
	keys, _, err := jwks.Parse(keySet(ec(t, "a")))
	require.NoError(t, err)
	r := jwks.NewStatic("https://issuer", keys)
	require.True(t, r.Ready())
	require.Equal(t, "https://issuer", r.Issuer())
	k, err := r.Key(t.Context(), "a", "ES256")
	require.NoError(t, err)
	require.Same(t, keys[0], k)
	_, err = r.Key(t.Context(), "b", "ES256")
	require.ErrorIs(t, err, jwks.ErrUnknownKey)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx)
	_, err = jwks.NewStatic("https://issuer", nil).Key(t.Context(), "a", "ES256")
	require.ErrorIs(t, err, jwks.ErrUnavailable)
}

func TestLogsChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lines []string // Logf is not called concurrently
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), down: errors.New("connection refused")}
		r, err := jwks.NewRemote(jwks.Config{
			Authority: "https://issuer", Client: &http.Client{Transport: p},
			Logf: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) },
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		time.Sleep(time.Hour)
		p.set(func() { p.down = nil })
		time.Sleep(time.Hour)
		p.set(func() { p.keys = keySet(ec(t, "a"), jwk{"kid": "odd", "kty": "lattice"}) })
		time.Sleep(time.Hour)
		p.set(func() { p.down = errors.New("no route to host") })
		time.Sleep(time.Hour)
		p.set(func() { p.down = nil })
		time.Sleep(time.Hour)
		cancel()
		synctest.Wait()
		require.Len(t, lines, 5, strings.Join(lines, "\n"))
		for i, part := range []string{"connection refused", "fetched 1 keys", "lattice", "no route", "fetched 1 keys"} {
			if part == "lattice" {
				part = `"odd"`
			}
			require.Contains(t, lines[i], part)
		}
	})
}

// An issuer whose connections break is one line, though each attempt comes from
// another port.
func TestLogsBrokenConnectionsOnce(t *testing.T) {
	t.Parallel()
	attempts := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0) // a reset
			c.Close()
		}
		attempts <- struct{}{}
	}))
	defer server.Close()
	lines := make(chan string, 100)
	r, err := jwks.NewRemote(jwks.Config{
		Authority: server.URL, Logf: func(format string, args ...any) { lines <- fmt.Sprintf(format, args...) },
	})
	require.NoError(t, err)
	go r.Run(t.Context())
	for range 4 {
		<-attempts
	}
	require.Len(t, lines, 1)
	line := <-lines
	require.Contains(t, line, "reset by peer")
	require.NotContains(t, line, "->")
}
