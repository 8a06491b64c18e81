package jwks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/test/freeport"
)

// Keys outlive an outage for Keep, to the moment, however the issuer fails.
func TestKeep(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(p *provider){
		"down":    func(p *provider) { p.down = errors.New("connection refused") },
		"garbage": func(p *provider) { p.keys = []byte("<html>") },
		"hangs":   func(p *provider) { p.hang = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				good := keySet(ec(t, "a"))
				p := &provider{issuer: "https://issuer", keys: good}
				var lines []string
				r, err := jwks.NewRemote(jwks.Config{
					Authority: "https://issuer", Client: &http.Client{Transport: p},
					Logf: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) },
				})
				require.NoError(t, err)
				run(t, r)
				keyA := mustKey(t, r, "a")
				fetched := r.Fetched()
				p.set(func() { fail(p) })

				time.Sleep(24*time.Hour - time.Second)
				require.Same(t, keyA, mustKey(t, r, "a"))
				require.False(t, keyA.Withdrawn())
				time.Sleep(time.Second)
				synctest.Wait()
				require.True(t, keyA.Withdrawn())
				require.False(t, r.Ready())
				require.Equal(t, fetched, r.Fetched())
				require.Equal(t, "https://issuer", r.Issuer())
				_, err = r.Key(t.Context(), "a", "ES256")
				require.ErrorIs(t, err, jwks.ErrUnavailable)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, 1, strings.Count(strings.Join(lines, "\n"), "no longer used: last fetched 24h0m0s ago"), lines)

				p.set(func() { p.down, p.hang, p.keys = nil, nil, good })
				time.Sleep(600 * time.Millisecond)
				require.True(t, r.Ready())
				require.NotSame(t, keyA, mustKey(t, r, "a"))
				require.True(t, keyA.Withdrawn())
				synctest.Wait()
				require.Contains(t, lines[len(lines)-1], "fetched 1 keys")
			})
		})
	}
}

// A Keep below the usual refresh must not make a healthy issuer's keys come
// and go.
func TestKeepShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), slow: func() time.Duration { return time.Second }}
		r, err := jwks.NewRemote(jwks.Config{Authority: "https://issuer", Client: &http.Client{Transport: p}, Keep: time.Minute})
		require.NoError(t, err)
		run(t, r)
		keyA := mustKey(t, r, "a")
		for range 3600 {
			time.Sleep(time.Second)
			require.True(t, r.Ready())
		}
		require.False(t, keyA.Withdrawn())
	})
}

func TestRefetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := ec(t, "a"), ec(t, "b")
		p := &provider{issuer: "https://issuer", keys: keySet(a, b)}
		r := p.start(t)
		keyA := mustKey(t, r, "a")
		_, err := r.Key(t.Context(), "x", "ES256") // the cooldown begins
		require.ErrorIs(t, err, jwks.ErrUnknownKey)
		n := p.count()

		p.set(func() { p.keys = keySet(b) })
		require.NoError(t, r.Refetch(t.Context()))
		require.True(t, keyA.Withdrawn())
		require.Equal(t, n+1, p.count())

		p.set(func() { p.down = errors.New("no route to host") })
		require.ErrorContains(t, r.Refetch(t.Context()), "no route to host")
		mustKey(t, r, "b")

		// The caller may leave; the fetch goes on, and ends after 5s.
		hang := make(chan struct{})
		p.set(func() { p.down, p.hang, p.keys = nil, hang, keySet(a, b) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.Refetch(ctx), context.DeadlineExceeded)
		p.set(func() { p.hang = nil })
		close(hang)
		synctest.Wait()
		mustKey(t, r, "a")
	})
	require.NoError(t, jwks.NewStatic("https://issuer", nil).Refetch(t.Context()))
}

// It waits for no fetch that began before, and what that one brings later is
// too old.
func TestRefetchOvertakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := ec(t, "a"), ec(t, "b")
		p := &provider{issuer: "https://issuer", keys: keySet(a)}
		r := p.start(t)
		keyA := mustKey(t, r, "a")

		late := 4 * time.Second
		p.set(func() { p.slow = func() time.Duration { defer func() { late = 0 }(); return late } })
		waited := make(chan error)
		go func() { // starts a fetch, which is answered with a alone
			_, err := r.Key(t.Context(), "b", "ES256")
			waited <- err
		}()
		synctest.Wait()
		p.set(func() { p.keys = keySet(b) })
		start := time.Now()
		require.NoError(t, r.Refetch(t.Context()))
		require.True(t, keyA.Withdrawn())
		require.NoError(t, <-waited) // has no reason to wait any longer
		require.Zero(t, time.Since(start))
		time.Sleep(10 * time.Second)
		mustKey(t, r, "b")
		_, err := r.Key(t.Context(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnknownKey)
	})
}

// The same with an answer that nothing can stop any more.
func TestOvertakenAnswerIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		stale := &staleOnce{provider: p, release: make(chan struct{})}
		r, err := jwks.NewRemote(jwks.Config{Authority: "https://issuer", Client: &http.Client{Transport: stale}})
		require.NoError(t, err)
		run(t, r) // its first answer is on the way, with a alone
		p.set(func() { p.keys = keySet(ec(t, "b")) })
		require.NoError(t, r.Refetch(t.Context()))
		keyB := mustKey(t, r, "b")
		close(stale.release)
		synctest.Wait()
		require.False(t, keyB.Withdrawn())
		_, err = r.Key(t.Context(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnknownKey)
	})
}

func TestRefetchIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		r := p.start(t)
		p.set(func() { p.slow = func() time.Duration { return time.Second } })
		n := p.count()
		var callers sync.WaitGroup
		refetch := func() {
			for range 100 {
				callers.Go(func() {
					if err := r.Refetch(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		refetch()
		time.Sleep(500 * time.Millisecond) // the first is under way: too old for these
		refetch()
		time.Sleep(time.Second)
		refetch()
		callers.Wait()
		require.Equal(t, n+2, p.count())
		require.Equal(t, 1, p.peak())
	})
}

// Whatever the order in which answers arrive, no state follows a newer one:
// what Refetch has withdrawn stays withdrawn.
func TestAnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		version := func(i int) string { return fmt.Sprint("version ", i) }
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, version(0))), slow: func() time.Duration { return time.Duration(rand.IntN(1000)) * time.Millisecond }}
		r, err := jwks.NewRemote(jwks.Config{
			Authority: "https://issuer", Client: &http.Client{Transport: p},
			Refresh: 100 * time.Millisecond, Cooldown: 100 * time.Millisecond,
		})
		require.NoError(t, err)
		run(t, r)
		for i := 1; i <= 100; i++ {
			p.set(func() { p.keys = keySet(ec(t, version(i))) })
			if i%2 == 0 {
				go func() { _ = r.Refetch(t.Context()) }()
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
			}
			require.NoError(t, r.Refetch(t.Context()))
			mustKey(t, r, version(i))
			for old := max(0, i-3); old < i; old++ {
				_, err := r.Key(t.Context(), version(old), "ES256")
				require.ErrorIs(t, err, jwks.ErrUnknownKey)
			}
		}
		time.Sleep(10 * time.Second) // what is under way ends
	})
}

// An issuer that took connections and never answered, then came back: what
// hangs is not waited for. One that is only slow gets its 5s all the same.
func TestReadySoonAfterHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), hang: make(chan struct{})}
		r := p.start(t)
		time.Sleep(time.Minute)
		require.False(t, r.Ready())
		require.LessOrEqual(t, p.peak(), 11) // two a second, for 5s each
		p.set(func() { p.hang = nil })       // for new requests
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		require.True(t, r.Ready())
		require.Zero(t, p.awaited()) // and have been given up
	})
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a")), slow: func() time.Duration { return 2 * time.Second }}
		r := p.start(t)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.True(t, r.Ready())
	})
}

// The same on a network, where the old connections stay open.
func TestReadySoonAfterHangingListener(t *testing.T) {
	t.Parallel()
	address := "127.0.0.1:" + freeport.Take() // it is listened on twice
	hanging, err := net.Listen("tcp", address)
	require.NoError(t, err)
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := hanging.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	r, err := jwks.NewRemote(jwks.Config{Authority: "http://" + address, Logf: t.Logf})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { r.Run(ctx); close(stopped) }()
	defer func() { cancel(); <-stopped }()
	defer func() {
		for c := range accepted {
			c.Close()
		}
	}()
	first := <-accepted // a fetch hangs, for 5s
	defer first.Close()
	require.NoError(t, hanging.Close())

	back, err := net.Listen("tcp", address)
	require.NoError(t, err)
	good := keySet(ec(t, "a"))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == wellKnown {
			fmt.Fprintf(w, `{"issuer":"http://%[1]s","jwks_uri":"http://%[1]s/keys"}`, address)
			return
		}
		w.Write(good)
	})}
	go srv.Serve(back)
	defer srv.Close()
	start := time.Now()
	require.Eventually(t, r.Ready, 10*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(start), 3*time.Second)
}

// A body that comes a byte a second is not waited for longer than one that
// does not come.
func TestSlowDrip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{issuer: "https://issuer", keys: keySet(ec(t, "a"))}
		r, err := jwks.NewRemote(jwks.Config{Authority: "https://issuer", Client: &http.Client{Transport: dripping{p}}})
		require.NoError(t, err)
		start := time.Now()
		require.ErrorContains(t, r.Refetch(t.Context()), "no complete answer in time")
		require.Equal(t, 5*time.Second, time.Since(start))
		require.False(t, r.Ready())
	})
}

type dripping struct{ *provider }

func (d dripping) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := d.provider.RoundTrip(req)
	if err == nil {
		res.Body = io.NopCloser(drip{req.Context(), res.Body})
	}
	return res, err
}

// drip reads as a connection's body does, which ends with the context.
type drip struct {
	ctx  context.Context
	from io.Reader
}

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return d.from.Read(b[:1])
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}
