package basicauth

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// tried is how many of n new guesses are told to be wrong.
func tried(g *Guesses, address string, n int) (told int) {
	for range n {
		g.mu.Lock()
		guess := fmt.Appendf(nil, "guess %d of %s", g.all+g.allKnown, address)
		g.mu.Unlock()
		if g.MayTell(address, guess, false) {
			told++
		}
	}
	return told
}

func TestGuesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(nil)
		password := []byte("the password")
		require.True(t, g.MayTell("ci", password, true))
		require.Equal(t, addressBurst, tried(g, "ci", 50))
		require.False(t, g.MayTell("ci", password, true), "that it is taken would tell that it is right")
		require.True(t, g.MayTell("operator", password, true), "others are not kept out")
		time.Sleep(addressEach)
		require.True(t, g.MayTell("ci", password, true), "nobody is for long")
		require.True(t, g.MayTell("ci", password, true), "and what is right costs nothing")
		require.Equal(t, 1, tried(g, "ci", 50))
		time.Sleep(time.Hour)
		require.Equal(t, addressBurst, tried(g, "ci", 50), "a bound forgets")
	})
}

// TestGuessesOfACrowd: who has many addresses gets no further than one with ten
// times as much, and keeps out none who was here before.
func TestGuessesOfACrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(nil)
		password := []byte("the password")
		require.True(t, g.MayTell("operator", password, true))
		told := 0
		for i := range 1000 { // of which two may share a slot
			told += tried(g, fmt.Sprint("bot-", i), addressBurst/2-1)
		}
		require.Equal(t, allBurst, told)
		require.False(t, g.MayTell("somebody", password, true))
		require.True(t, g.MayTell("operator", password, true))
		time.Sleep(allEach)
		require.True(t, g.MayTell("somebody", password, true))
		told = 0
		for i := range 600 {
			time.Sleep(time.Second / 10)
			told += tried(g, fmt.Sprint("bot-", i), 5)
		}
		require.InDelta(t, 600, told, 5, "in a minute")
		time.Sleep(rightFor)
		require.Equal(t, allBurst, func() (n int) {
			for i := range 100 {
				n += tried(g, fmt.Sprint("bot-", i), 10)
			}
			return n
		}())
		require.False(t, g.MayTell("operator", password, true), "that was long ago")
	})
}

// TestMadeUpAddresses: one host that says it is a proxy of many keeps out nobody who
// comes from elsewhere.
func TestMadeUpAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGuesses(nil)
		for g.proxy("192.0.2.1") == g.proxy("198.51.100.1") {
			g = NewGuesses(nil)
		}
		told := 0
		for i := range 600 {
			told += tried(g, Address("192.0.2.1:1", []string{fmt.Sprint("10.1.1.", i)}), addressBurst/2-1)
			time.Sleep(time.Second / 10)
			require.True(t, g.MayTell(Address(fmt.Sprintf("203.0.113.%d:1", i), nil), []byte("the password"), true))
			require.True(t, g.MayTell(Address("198.51.100.1:1", []string{fmt.Sprint("203.0.113.", i)}), []byte("the password"), true), "behind a proxy")
		}
		require.InDelta(t, proxyBurst+60*int(time.Second/proxyEach), told, 5, "in a minute")
	})
}

// TestOldPassword: a program that does not know of a new password keeps out nobody
// beside it.
func TestOldPassword(t *testing.T) {
	t.Parallel()
	g := NewGuesses(nil)
	for range 1000 {
		require.True(t, g.MayTell("office", []byte("old"), false))
	}
	require.True(t, g.MayTell("office", []byte("new"), true))
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		remote string
		passed []string
		want   string
	}{
		{remote: "192.0.2.1:1234", want: "192.0.2.1"},
		{remote: "[2001:db8:1:2:3::4]:1234", want: "2001:db8:1:2::/64"},
		{remote: "[fe80::1%eth0]:1234", want: "fe80::/64"},
		{remote: "[::ffff:192.0.2.1]:1234", want: "::ffff:192.0.2.1"},
		{remote: "192.0.2.1:1", passed: []string{"203.0.113.1"}, want: "192.0.2.1 203.0.113.1"},
		{remote: "192.0.2.1:1", passed: []string{"made up", "203.0.113.1, 2001:db8::1 "}, want: "192.0.2.1 2001:db8::/64"},
		{remote: "192.0.2.1:1", passed: []string{""}, want: "192.0.2.1 "},
		{remote: "192.0.2.1:1", passed: []string{"203.0.113.1:4567"}, want: "192.0.2.1 203.0.113.1"},
		{remote: "192.0.2.1:1", passed: []string{"[2001:db8::1]:4567"}, want: "192.0.2.1 2001:db8::/64"},
		{remote: "192.0.2.1:1", passed: []string{"[2001:db8::1]"}, want: "192.0.2.1 2001:db8::/64"},
		{remote: "@", want: ""},
	} {
		require.Equal(t, c.want, Address(c.remote, c.passed))
	}
}

func TestPass(t *testing.T) {
	t.Parallel()
	g := NewGuesses(nil)
	require.True(t, g.IsPass([]byte(g.Pass())))
	require.False(t, g.IsPass(nil))
	require.False(t, g.IsPass([]byte(NewGuesses(nil).Pass())))
}

func BenchmarkTell(b *testing.B) {
	g, header := NewGuesses(nil), []byte(New("admin", "ABCDEFGHIJKLMNOPQRSTUVWXYZ").Header())
	for b.Loop() {
		g.MayTell(Address("192.0.2.1:1234", nil), header, true)
	}
}
