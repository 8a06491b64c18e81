package dashboard

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/login"
)

// TestProviderComesLater: a provider that is down when the gateway starts is asked
// again, but not by everybody who comes.
func TestProviderComesLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.idp.down.Store(true)
	b := s.browser(t)
	down := b.get(t, "/ui/login/provider")
	require.Equal(t, http.StatusBadGateway, down.status)
	require.Contains(t, down.body, "cannot be asked at the moment")
	s.browser(t).loginByPassword(t)
	s.idp.down.Store(false)
	require.Equal(t, http.StatusBadGateway, b.get(t, "/ui/login/provider").status, "it has just been asked")
	s.clock.advance(discoveryPause)
	require.Equal(t, http.StatusOK, b.loginAtProvider(t).status)
}

// TestProviderGoesDown: who is logged in goes on until the API token ends, and logs
// in again when the provider is back.
func TestProviderGoesDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser(t)
	b.loginAtProvider(t)
	s.idp.down.Store(true)
	require.Equal(t, http.StatusOK, b.get(t, "/ui/").status)
	s.clock.advance(30*time.Minute - renewBefore/2)
	for range 3 {
		require.Equal(t, http.StatusOK, b.get(t, "/ui/me").status)
	}
	s.clock.advance(renewBefore)
	require.Equal(t, "/ui/login?ended=1&next=%2Fui%2Fme", b.get(t, "/ui/me").location())
	require.Equal(t, http.StatusOK, b.get(t, "/ui/login").status)
	s.idp.down.Store(false)
	s.clock.advance(-time.Hour)
	require.Contains(t, b.follow(t, "/ui/login/provider?next=/ui/me").body, "<code>alice</code>")
}

// TestNobodyTrustsTheProvider: it is said before somebody logs in there for nothing.
func TestNobodyTrustsTheProvider(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	lack := "primary_issuer: no JwtIssuer trusts " + s.idp.url + ", so nobody can log in there"
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.dashboard.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	warnings := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Count(s.log.String(), lack) == n }, 10*time.Second, 10*time.Millisecond)
	}
	b := s.browser(t)
	trusting := s.objects.Load()
	empty := func() *iam.Set {
		set, problems := iam.Compile(iam.Objects{})
		require.Empty(t, problems)
		return set
	}
	warnings(0)
	s.objects.Store(empty())
	warnings(1)
	page := b.get(t, "/ui/login")
	require.Contains(t, page.body, "No JwtIssuer trusts "+s.idp.url)
	require.Contains(t, page.body, "&#34;dashboard&#34; among spec.aud")
	require.NotContains(t, page.body, `href="/ui/login/provider`)
	require.Contains(t, page.body, `name="password"`)
	require.Equal(t, http.StatusServiceUnavailable, b.get(t, "/ui/login/provider").status)
	for range 3 { // others change theirs
		s.objects.Store(empty())
		time.Sleep(1500 * time.Millisecond)
	}
	warnings(1)
	s.clock.advance(time.Minute)
	s.objects.Store(empty())
	warnings(2)
	s.objects.Store(trusting)
	require.Contains(t, b.get(t, "/ui/login").body, `href="/ui/login/provider`)
	require.Equal(t, http.StatusOK, b.loginAtProvider(t).status)

	warnings(2)

	// With or without a slash at the end is the provider's choice.
	slash := &Dashboard{config: Config{Objects: s.objects.Load, Provider: &login.Config{Issuer: s.idp.url + "/"}}}
	require.Empty(t, slash.lack())
}
