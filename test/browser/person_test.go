package browser

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// person uses a browser, with cookies of their own.
type person struct {
	*testing.T
	ctx     context.Context
	gateway *gateway
	profile cdp.BrowserContextID

	mu       sync.Mutex
	faults   []string // what the browser's console says is wrong
	expected []string // parts of what is right all the same
}

// sit has a person sit down at a browser. When they leave, the browser's console
// must have had no errors.
func (g *gateway) sit(t *testing.T) *person {
	t.Helper()
	// As chromedp.WithNewBrowserContext does it, but for the new window, without
	// which Chromium opens none for another profile.
	all := cdp.WithExecutor(chromium, chromedp.FromContext(chromium).Browser)
	profile, err := target.CreateBrowserContext().WithDisposeOnDetach(true).Do(all)
	require.NoError(t, err)
	return g.window(t, profile)
}

// another is a second window of the same person's, with the same cookies.
func (p *person) another() *person {
	p.Helper()
	return p.gateway.window(p.T, p.profile)
}

func (g *gateway) window(t *testing.T, profile cdp.BrowserContextID) *person {
	t.Helper()
	all := cdp.WithExecutor(chromium, chromedp.FromContext(chromium).Browser)
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(profile).WithNewWindow(true).Do(all)
	require.NoError(t, err)
	ctx, leave := chromedp.NewContext(chromium, chromedp.WithTargetID(id))
	t.Cleanup(leave)
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	t.Cleanup(cancel)
	p := &person{T: t, ctx: ctx, gateway: g, profile: profile, expected: []string{"/favicon.ico"}} // the provider has none
	chromedp.ListenTarget(ctx, p.listen)
	require.NoError(t, chromedp.Run(ctx)) // whose context is the window's: it ends with it
	p.do(log.Enable(), runtime.Enable(), chromedp.ActionFunc(func(ctx context.Context) error { return p.size(ctx, 1280, "light") }))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Empty(t, p.faults, "the console")
	})
	return p
}

func (p *person) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.fault(e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			p.fault(fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			p.fault(e.Entry.Text + " " + e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		p.fault("a dialog: " + e.Message)
		go func() { _ = chromedp.Run(p.ctx, page.HandleJavaScriptDialog(true)) }()
	}
}

func (p *person) fault(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.expected {
		if strings.Contains(what, part) {
			return
		}
	}
	p.faults = append(p.faults, what)
}

// expect says that the console will have what contains part.
func (p *person) expect(part string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, part)
}

func (p *person) do(actions ...chromedp.Action) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience/2)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.Fatalf("%v, at %s", err, p.state())
	}
}

// ask runs a script in the page.
func (p *person) ask(script string, answer any) {
	p.Helper()
	p.do(chromedp.Evaluate(script, answer, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
}

// state says where the browser is, for who reads of a failure.
func (p *person) state() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	var url, text string
	_ = chromedp.Run(ctx, chromedp.Location(&url), chromedp.Evaluate(`document.body.innerText`, &text))
	return url + "\n" + text
}

// opens opens a page of the gateway's by its address.
func (p *person) opens(path string) {
	p.Helper()
	p.do(chromedp.Navigate(p.gateway.url + path))
}

// sees waits until these words are to be read, as they are on the screen.
func (p *person) sees(words ...string) {
	p.Helper()
	for _, w := range words {
		p.waits(fmt.Sprintf(`document.readyState === "complete" && document.body.innerText.includes(%q)`, w), "never sees "+w)
	}
}

// waits until a script says true. A page that is just left answers with an error.
func (p *person) waits(script, otherwise string) {
	p.Helper()
	deadline := time.Now().Add(patience / 2)
	for {
		var is bool
		ctx, cancel := context.WithDeadline(p.ctx, deadline)
		err := chromedp.Run(ctx, chromedp.Evaluate(script, &is))
		cancel()
		if err == nil && is {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("%s, at %s", otherwise, p.state())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// cannotSee checks that words are not on the page that is there.
func (p *person) cannotSee(words ...string) {
	p.Helper()
	var text string
	p.ask(`document.body.innerText`, &text)
	for _, w := range words {
		require.NotContains(p, text, w)
	}
}

// clicks clicks on the link or button of this name.
func (p *person) clicks(name string) {
	p.Helper()
	p.do(chromedp.Click(fmt.Sprintf(`//main//*[self::a or self::button or self::summary][normalize-space()=%[1]q] | //header//*[self::a or self::button][normalize-space()=%[1]q]`, name), chromedp.BySearch, chromedp.NodeVisible))
}

// field is a selector of the field with this label.
func (p *person) field(label string) string {
	p.Helper()
	var id string
	p.waits(fmt.Sprintf(`[...document.querySelectorAll("label")].some(l => l.textContent.trim() === %q && l.control)`, label), "no field "+label)
	p.ask(fmt.Sprintf(`[...document.querySelectorAll("label")].find(l => l.textContent.trim() === %q).control.id`, label), &id)
	require.NotEmpty(p, id, "the field %s has an id", label)
	return "#" + id
}

// fills a field in, in place of what is there.
func (p *person) fills(label, value string) {
	p.Helper()
	p.ask(fmt.Sprintf(`{ const f = document.querySelector(%q); f.focus(); f.select() }`, p.field(label)), nil)
	p.do(input.InsertText(value))
}

// chooses an option by its text; the page may be left by that.
func (p *person) chooses(label, option string) {
	p.Helper()
	p.do(chromedp.SendKeys(p.field(label), option, chromedp.ByQuery))
}

// logsInByPassword is the administrator's way.
func (p *person) logsInByPassword() {
	p.Helper()
	p.opens("/ui/")
	p.fills("Name", "admin")
	p.fills("Password", p.gateway.password(p.T))
	p.clicks("Log in")
	p.sees("Log out")
}

// logsIn goes by the provider's form.
func (p *person) logsIn(user string) {
	p.Helper()
	p.opens("/ui/login")
	p.do(chromedp.Click(`a[href^="/ui/login/provider"]`, chromedp.ByQuery))
	p.atProvider(user)
}

// atProvider fills the provider's form in.
func (p *person) atProvider(user string) {
	p.Helper()
	p.do(chromedp.WaitVisible(`input[name=username]`, chromedp.ByQuery),
		chromedp.SendKeys(`input[name=username]`, user, chromedp.ByQuery),
		chromedp.SendKeys(`input[name=password]`, theirPassword+kb.Enter, chromedp.ByQuery))
	p.waits(fmt.Sprintf(`location.origin === %q && document.readyState === "complete"`, p.gateway.url), "never comes back from the provider")
}
