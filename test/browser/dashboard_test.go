package browser

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLooking: the checks of all pages find what is wrong with one.
func TestLooking(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.opens("/ui/login")
	p.sees("Log in")
	p.ask(`document.querySelector("main").append(document.createElement("input")); 0`, nil)
	if axe != "" {
		require.Len(t, p.keptOut(), 1, "a field without a label")
	}
	require.Zero(t, p.jumps())
	p.ask(`new Promise(done => { document.querySelector("main").style.marginTop = "200px"; requestAnimationFrame(() => setTimeout(done, 50)) }).then(() => 0)`, nil)
	require.Greater(t, p.jumps(), 0.01)
	p.ask(`console.error("a fault"); fetch("http://example.com").catch(() => 0).then(() => 0)`, nil)
	p.waits("true", "")
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Contains(t, p.faults, `console.error: "a fault"`)
	require.Contains(t, strings.Join(p.faults, "\n"), "Content Security Policy")
	p.faults = nil
}

func TestFirstPage(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.opens("/")
	p.sees("Log in")
	n := p.bytes()
	require.Greater(t, n, 1000)
	require.Less(t, n, 100<<10, "the first page's bytes")
	t.Logf("the first page has %d bytes", n)
	p.looks("login")
}

func TestPassword(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.expect("status of 401")
	p.opens("/ui/")
	p.fills("Name", "admin")
	p.fills("Password", "a guess")
	p.clicks("Log in")
	p.sees("The name or the password is wrong.")
	p.looks("login-wrong")
	p.logsInByPassword()
	p.sees("env", "hello", "upper", "needs a token", "open to everybody")
	require.Less(t, p.bytes(), 100<<10)
	for range 30 {
		g.call("env")
		g.call("hello")
	}
	p.opens("/ui/")
	p.looks("functions")
	p.clicks("env")
	p.sees("Calls per minute", "200 OK", "Details")
	p.looks("function")
	p.clicks("Figures")
	p.sees("this minute")
	p.looks("function-figures")
	p.clicks("Who am I")
	p.sees("admin", "Everything.")
	p.looks("me-admin")
	p.expect("status of 404")
	p.opens("/ui/functions/openfaas-fn/nobody")
	p.sees("Not Found")
	p.looks("not-found")
	p.opens("/ui/?namespace=empty")
	p.sees("There are no functions here yet")
	p.looks("no-functions")
	p.clicks("Log out")
	p.sees("Log in")
	p.opens("/ui/")
	p.cannotSee("upper")
}

func TestProvider(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.logsIn(member)
	p.sees("Functions", "hello")
	p.clicks("Who am I")
	p.sees("id2", "look", "members", "Function:Invoke")
	p.looks("me")
	other := g.sit(t)
	other.logsIn(member)
	other.sees("hello")
	p.clicks("Log out everywhere")
	p.waits(`location.pathname === "/ui/login"`, "does not come back from the provider's logout")
	other.opens("/ui/")
	other.sees("Log in")
}

func TestStranger(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.expect("status of 403")
	p.logsIn(stranger)
	p.sees("Not authorized", "id1")
	p.looks("stranger")
}
