package exchange

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

// TestHangingProvider: while one provider hangs, the others' subjects are
// served.
func TestHangingProvider(t *testing.T) {
	t.Parallel()
	good, hanging := newProvider(t, nil), newProvider(t, make(chan struct{}))
	policy, role := invoke("invoke", "alice", "*")
	g := newGateway(t, compile(t, iam.Objects{
		Issuers:  []iam.JwtIssuer{good.trusted("good", "1h"), hanging.trusted("hanging", "1h")},
		Policies: []iam.Policy{policy}, Roles: []iam.Role{role},
	}))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })

	waiting := make(chan error, 8)
	stuck := hanging.token(t, nil)
	for range cap(waiting) {
		go func() {
			_, err := g.exchange(t, stuck, "")
			waiting <- err
		}()
	}
	require.Eventually(t, func() bool { return hanging.fetches.Load() > 0 }, 5*time.Second, time.Millisecond)

	start := time.Now()
	token := good.token(t, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := g.exchange(t, token, "function"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Less(t, time.Since(start), 3*time.Second)
	select {
	case err := <-waiting:
		t.Fatalf("answered without keys: %v", err)
	default:
	}

	close(hanging.hang)
	for range cap(waiting) {
		require.NoError(t, <-waiting)
	}
	// One discovery document and one key set for all; on a busy machine a first
	// fetch may take so long that a second one is begun.
	require.LessOrEqual(t, good.fetches.Load(), int32(6))
	stop()
	running.Wait()
}

// TestTrustFollowsTheObjects: an issuer is trusted as long as it is in the set;
// one that stays keeps its keys.
func TestTrustFollowsTheObjects(t *testing.T) {
	t.Parallel()
	stays, leaves := newProvider(t, nil), newProvider(t, nil)
	policy, role := invoke("invoke", "alice", "*")
	set := func(issuers ...iam.JwtIssuer) *iam.Set {
		return compile(t, iam.Objects{Issuers: issuers, Policies: []iam.Policy{policy}, Roles: []iam.Role{role}})
	}
	g := newGateway(t, set(stays.trusted("stays", "1h"), leaves.trusted("leaves", "1h")))
	for _, p := range []*provider{stays, leaves} {
		_, err := g.exchange(t, p.token(t, nil), "")
		require.NoError(t, err)
	}

	g.objects.Store(set(stays.trusted("stays", "30m")))
	res, err := g.exchange(t, stays.token(t, nil), "")
	require.NoError(t, err)
	require.Equal(t, 1800, res.ExpiresIn)
	require.EqualValues(t, 2, stays.fetches.Load(), "fetched again for nothing")
	_, err = g.exchange(t, leaves.token(t, nil), "")
	requireRefused(t, err, InvalidRequest, "is not a registered JwtIssuer")

	// The keys come from issInternal, but must be the issuer's (Discovery 1.0,
	// 4.3): a document of another issuer does not do.
	moved := stays.trusted("stays", "30m")
	moved.Spec.IssInternal = leaves.URL
	g.objects.Store(set(moved))
	_, err = g.exchange(t, stays.token(t, nil), "")
	requireRefused(t, err, TemporarilyUnavailable, stays.URL)

	front := newProvider(t, nil)
	front.Config.Handler = stays.Config.Handler
	moved.Spec.IssInternal = front.URL
	g.objects.Store(set(moved))
	_, err = g.exchange(t, stays.token(t, nil), "")
	require.NoError(t, err)
}

// A second issuer may give its subjects the names that roles have been written
// for, when these do not say whose they mean.
func TestRolesOfAnyIssuer(t *testing.T) {
	t.Parallel()
	p, policy := newProvider(t, nil), policy("dev", "Function:Invoke", "*")
	first, second := p.trusted("first", "1h"), p.trusted("second", "1h")
	second.Spec.Iss += "/second"
	own := p.trusted("own", "1h")
	own.Spec.Iss = gatewayURL
	role := func(name, key string) iam.Role {
		return iam.Role{Metadata: iam.Metadata{Name: name}, Spec: iam.RoleSpec{Policy: []string{"dev"}, Condition: iam.Condition{"StringEqual": {key: {"x"}}}}}
	}
	set := func(issuers []iam.JwtIssuer, roles ...iam.Role) *iam.Set {
		return compile(t, iam.Objects{Issuers: issuers, Policies: []iam.Policy{policy}, Roles: roles})
	}
	one, two := []iam.JwtIssuer{first, own}, []iam.JwtIssuer{first, own, second}
	named, pointed, open := role("named", "jwt:iss"), role("pointed", "jwt:/iss"), role("open", "jwt:sub")

	var warnings []string
	g := newGateway(t, set(one, named, open), func(c *Config) {
		c.Warnf = func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	})
	g.objects.Store(set(two, named, pointed))
	g.current()
	require.Empty(t, warnings)
	for range 2 {
		g.objects.Store(set(two, named, pointed, open))
		g.current()
		require.Len(t, warnings, 1, "once, until it changes")
	}
	require.Regexp(t, `^2 JwtIssuers are trusted, .* jwt:iss to the condition of open$`, warnings[0])
	var many []iam.Role
	for n := range 7 {
		many = append(many, role(fmt.Sprint("r", n), "jwt:sub"))
	}
	g.objects.Store(set(two, many...))
	g.current()
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[1], "of r0, r1, r2, r3, r4 and 2 more")
}

// stuckTransport lets fetches wait until they are given up.
type stuckTransport struct{ began, ended chan string }

func (s stuckTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	s.began <- r.URL.Host
	<-r.Context().Done()
	s.ended <- r.URL.Host
	return nil, r.Context().Err()
}

func next(t *testing.T, hosts <-chan string) string {
	select {
	case host := <-hosts:
		return host
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no fetch began or ended")
		return ""
	}
}

// TestRunStopsFetching: the background fetches of an issuer begin without any
// request, and end when it is no longer trusted or Run ends.
func TestRunStopsFetching(t *testing.T) {
	t.Parallel()
	policy, role := invoke("invoke", "alice", "*")
	set := func(hosts ...string) *iam.Set {
		o := iam.Objects{Policies: []iam.Policy{policy}, Roles: []iam.Role{role}}
		for _, h := range hosts {
			o.Issuers = append(o.Issuers, iam.JwtIssuer{
				Metadata: iam.Metadata{Name: h}, Spec: iam.JwtIssuerSpec{Iss: "http://" + h, Aud: []string{"x"}}})
		}
		return compile(t, o)
	}
	g := newGateway(t, set("a", "b"))
	transport := stuckTransport{make(chan string, 99), make(chan string, 99)}
	var err error
	g.Exchanger, err = New(Config{Issuer: g.issuer, Objects: g.objects.Load, Client: &http.Client{Transport: transport}})
	require.NoError(t, err)
	g.current() // before Run: key sets made earlier are fetched too

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	// A first fetch that hangs is given a second one: any may come twice.
	see := func(events chan string, hosts ...string) {
		for missing := hosts; len(missing) > 0; {
			host := next(t, events)
			missing = slices.DeleteFunc(missing, func(h string) bool { return h == host })
		}
	}
	see(transport.began, "a", "b")

	g.objects.Store(set("b", "c"))
	see(transport.ended, "a")
	see(transport.began, "c")

	stop()
	running.Wait()
	see(transport.ended, "b", "c")
}
