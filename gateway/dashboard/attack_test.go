package dashboard

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSessionsOfOne: who logs in often logs nobody out but himself.
func TestSessionsOfOne(t *testing.T) {
	t.Parallel()
	s := newSessions(time.Hour, time.Hour, time.Now)
	other, _ := s.begin("bob", "idp", credential{})
	namesake, _ := s.begin("alice", "another idp", credential{})
	first, _ := s.begin("alice", "idp", credential{})
	second, _ := s.begin("alice", "idp", credential{})
	for range maxOfOne - 2 {
		s.begin("alice", "idp", credential{})
	}
	require.NotNil(t, s.find(keyOf(first)))
	s.begin("alice", "idp", credential{})
	require.Nil(t, s.find(keyOf(second)), "the one idle for the longest time makes room")
	for range 2 * maxOfOne {
		s.begin("alice", "idp", credential{})
	}
	require.Nil(t, s.find(keyOf(first)))
	require.NotNil(t, s.find(keyOf(other)))
	require.NotNil(t, s.find(keyOf(namesake)))
	require.Len(t, s.byKey, maxOfOne+2)
}

// TestOpenSessions: where nobody logs in all sessions are anybody's, and one is
// begun by each request without a cookie.
func TestOpenSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Open, c.Password, c.Provider = true, false, nil })
	b := s.browser(t)
	require.NotEmpty(t, b.get(t, "/ui/me").header.Get("Set-Cookie"))
	for range 2 * maxOfOne {
		s.browser(t).get(t, "/ui/login")
	}
	require.Empty(t, b.get(t, "/ui/me").header.Get("Set-Cookie"), "the session goes on")
}

// TestLongForms: strangers do not have us keep what only people who have logged in
// may send.
func TestLongForms(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	send := func(path, cookie string, size int) int {
		r, err := http.NewRequest("POST", s.url+path, strings.NewReader("a="+strings.Repeat("a", size-2)))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Cookie", cookie)
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		response.Body.Close()
		return response.StatusCode
	}
	id, session := s.dashboard.sessions.begin("alice", "", credential{})
	for _, c := range []struct {
		cookie string
		most   int
	}{
		{"", maxStrangersForm}, {CookieMark + "session=nobody", maxStrangersForm}, {CookieMark + "session=" + id, maxForm},
	} {
		require.NotEqual(t, http.StatusRequestEntityTooLarge, send("/ui/deploy", c.cookie, c.most), c.cookie)
		require.Equal(t, http.StatusRequestEntityTooLarge, send("/ui/deploy", c.cookie, c.most+1), c.cookie)
	}

	// Nor does much of nothing count as little.
	session.end()
	empty := url.Values{csrfField: {session.csrf}, "a": make([]string, 9000), "b": {strings.Repeat("b", maxDraft-100_000)}}
	r, err := http.NewRequest("POST", s.url+"/ui/deploy", strings.NewReader(empty.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", fmt.Sprintf("%ssession=%s", CookieMark, id))
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusSeeOther, response.StatusCode)
	require.Nil(t, session.draft)
}

// TestGuessesOfOthers: behind a proxy, who guesses passwords keeps out nobody else.
func TestGuessesOfOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	try := func(password, address string) got {
		return s.browser(t).send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {password}}, "X-Forwarded-For: 203.0.113.1, "+address)
	}
	for i := 0; try(fmt.Sprint(i), "192.0.2.1").status == http.StatusUnauthorized; i++ {
		require.Less(t, i, 50)
	}
	limited := try("pw", "192.0.2.1")
	require.Equal(t, http.StatusTooManyRequests, limited.status)
	require.Equal(t, "1", limited.header.Get("Retry-After"))
	require.Contains(t, limited.body, "Too many wrong passwords")
	require.Equal(t, http.StatusSeeOther, try("pw", "192.0.2.2").status)
}
