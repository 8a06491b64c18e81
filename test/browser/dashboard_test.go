package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
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

// TestSeparation: a function's page is on our host, and gets at nothing of ours.
func TestSeparation(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.expect("127.0.0.1") // whatever it is that the browser tells of what it keeps out
	p.expect("sandbox")
	p.logsIn(member)
	p.sees("hello")
	p.opens("/function/evil")
	p.waits(`document.title !== "evil"`, "the page's script does not run")
	var title string
	p.ask(`document.title`, &title)
	require.Equal(t, "fetch: kept out; cookie: kept out; storage: kept out; frame: kept out; parent: kept out; worker: kept out", title)

	// A form sent from there does nothing, either.
	p.ask(`const f = document.createElement("form"); f.method = "post"; f.action = "/ui/logout/everywhere"; document.body.append(f); f.submit(); 0`, nil)
	p.waits(`location.pathname === "/ui/logout/everywhere" && document.readyState === "complete"`, "the form is not sent")
	p.opens("/ui/")
	p.sees("Log out", "hello")
}

// TestReturn: who is sent to log in comes to where they wanted to go.
func TestReturn(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.opens("/ui/functions/openfaas-fn/hello")
	p.sees("Log in")
	p.do(chromedp.Click(`a[href^="/ui/login/provider"]`, chromedp.ByQuery))
	p.atProvider(member)
	p.sees("hello", "needs a token", "Called at")
	p.expect("status of 403")
	p.opens("/ui/functions/elsewhere/hello")
	p.sees("Not authorized", "Function:Get", "elsewhere:hello", "id2")
	p.looks("forbidden")
}

func TestKeyboard(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.opens("/ui/login")
	p.do(chromedp.KeyEvent(kb.Tab))
	p.waits(`document.activeElement.textContent === "Skip to the content" && document.activeElement.getBoundingClientRect().top >= 0`, "the way past the navigation is not the first stop")
	p.do(chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	p.waits(`document.activeElement.closest("main") !== null`, "it does not lead to the content")
	var outline string
	p.ask(`getComputedStyle(document.activeElement).outlineStyle`, &outline)
	require.Equal(t, "solid", outline, "one sees where one is")
	p.do(chromedp.KeyEvent(kb.Tab))
	p.do(chromedp.KeyEvent("admin" + kb.Tab + p.gateway.password(t) + kb.Enter))
	p.sees("Log out", "upper")
}

// TestWithoutScript: what there is script for is a comfort.
func TestWithoutScript(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.do(emulation.SetScriptExecutionDisabled(true))
	p.logsInByPassword()
	p.clicks("Show")
	p.sees("upper")
	p.clicks("env")
	p.sees("Calls per minute")
	p.clicks("Log out")
	p.sees("Log in")
}
