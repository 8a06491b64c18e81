package dashboard

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSlowProvider: while an API token is good nobody waits for the next one, and
// when it has ended all wait for the same.
func TestSlowProvider(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginAtProvider(t)
	var asked atomic.Int64
	answer := make(chan struct{})
	s.idp.refreshing.Store(func() {
		asked.Add(1)
		<-answer
	})
	s.clock.advance(30*time.Minute - renewBefore/2)
	for range 5 {
		require.Equal(t, http.StatusOK, b.get(t, "/ui/me").status, "the old token is good")
	}
	require.Eventually(t, func() bool { return asked.Load() == 1 }, 10*time.Second, time.Millisecond)

	s.clock.advance(renewBefore)
	pages := make(chan got, 5)
	for range cap(pages) {
		go func() { pages <- b.get(t, "/ui/me") }()
	}
	select {
	case <-pages:
		require.Fail(t, "nobody has waited")
	case <-time.After(50 * time.Millisecond):
	}
	s.clock.advance(-time.Hour) // the new token's time is the real one
	close(answer)
	for range cap(pages) {
		require.Equal(t, http.StatusOK, (<-pages).status, "the new one is waited for")
	}
	require.EqualValues(t, 1, asked.Load())
}

// TestRenewalIsTriedAgain: a provider that fails once does not end a session, and is
// not asked with each request.
func TestRenewalIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginAtProvider(t)
	var asked atomic.Int64
	s.idp.refreshing.Store(func() { asked.Add(1) })
	refuse := func(yes bool) {
		s.idp.mu.Lock()
		s.idp.refused = yes
		s.idp.mu.Unlock()
	}
	attempts := func(n int64) {
		t.Helper()
		for range 10 {
			require.Equal(t, http.StatusOK, b.get(t, "/ui/me").status)
		}
		require.Eventually(t, func() bool { return asked.Load() == n }, 10*time.Second, time.Millisecond)
		session := onlySession(s.dashboard)
		session.mu.Lock()
		done := session.renewal.done
		session.mu.Unlock()
		<-done
	}
	refuse(true)
	s.clock.advance(30*time.Minute - renewBefore/2)
	attempts(1)
	attempts(1)
	s.clock.advance(renewalPause)
	attempts(2)
	refuse(false)
	s.clock.advance(renewalPause)
	attempts(3)
	s.clock.advance(10 * time.Minute)
	require.Equal(t, http.StatusOK, b.get(t, "/ui/me").status)
	require.Contains(t, s.log.String(), "cannot be renewed")
}

// TestEndedDuringRenewal: a token that comes too late brings no session back.
func TestEndedDuringRenewal(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginAtProvider(t)
	held, answer := make(chan struct{}), make(chan struct{})
	s.idp.refreshing.Store(sync.OnceFunc(func() {
		close(held)
		<-answer
	}))
	s.clock.advance(31 * time.Minute)
	page := make(chan got)
	go func() { page <- b.get(t, "/ui/me") }()
	<-held
	session := onlySession(s.dashboard)
	s.dashboard.sessions.forgetAll("alice", s.idp.url)
	close(answer)
	require.Equal(t, http.StatusSeeOther, (<-page).status)
	require.Equal(t, credential{}, session.credential)
}

func onlySession(d *Dashboard) *session {
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	return d.sessions.order.Front().Value.(*entry).session
}

// TestCredentialsAreForgotten: also of sessions that nobody comes back to.
func TestCredentialsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSessions(2*time.Hour, 12*time.Hour, time.Now)
		secret := credential{authorization: "Basic x", refresh: "y"}
		id, left := s.begin("alice", "", secret)
		time.Sleep(time.Hour)
		kept, used := s.begin("alice", "", secret)
		has := func(it *session) bool {
			synctest.Wait()
			it.mu.Lock()
			defer it.mu.Unlock()
			return it.credential.refresh != ""
		}
		time.Sleep(time.Hour - time.Second)
		require.True(t, has(left))
		require.NotNil(t, s.find(keyOf(kept)))
		time.Sleep(time.Second)
		require.False(t, has(left))
		require.True(t, has(used))
		require.Same(t, left, s.find(keyOf(id)), "a form that comes too late is kept in it")
		for range 10 {
			time.Sleep(time.Hour)
			s.find(keyOf(kept))
		}
		require.True(t, has(used))
		time.Sleep(time.Hour)
		require.False(t, has(used), "12 hours after the login")

		// What is left waits for days. A session that begins meanwhile does not.
		_, next := s.begin("bob", "", secret)
		time.Sleep(2 * time.Hour)
		require.False(t, has(next))
		time.Sleep(keepEnded)
		synctest.Wait()
		require.Empty(t, s.byKey)
		require.Zero(t, s.order.Len())
	})
}
