package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// size makes the window this wide, in light or dark.
func (p *person) size(ctx context.Context, width int64, scheme string) error {
	if err := emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500).Do(ctx); err != nil {
		return err
	}
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}).Do(ctx)
}

// looks looks at the page that is there, at all sizes, in light and dark: it must
// not be wider than the window, nothing may have jumped while it was loaded, and it
// must keep nobody out. With SCREENSHOTS, a folder, it leaves pictures there.
func (p *person) looks(name string) {
	p.Helper()
	p.doesNotJump(name)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 768, 320} {
			p.do(chromedp.ActionFunc(func(ctx context.Context) error { return p.size(ctx, width, scheme) }))
			what := fmt.Sprintf("%s-%d-%s", name, width, scheme)
			p.picture(what)
			var wide int64
			p.ask(`document.documentElement.scrollWidth`, &wide)
			require.LessOrEqual(p, wide, width, "%s: the page is wider than the window", what)
			if width == 1280 && scheme == "light" || width == 320 && scheme == "dark" { // it takes its time
				p.keepsNobodyOut(what)
			}
		}
	}
	p.do(chromedp.ActionFunc(func(ctx context.Context) error { return p.size(ctx, 1280, "light") }))
}

func (p *person) picture(name string) {
	p.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	var png []byte
	p.do(chromedp.FullScreenshot(&png, 100))
	require.NoError(p, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
}

// keepsNobodyOut has axe-core look for what people with a screen reader, a
// keyboard or weak eyes cannot use: all its rules but those that are no standard's
// and no good practice yet.
func (p *person) keepsNobodyOut(what string) {
	p.Helper()
	if violations := p.keptOut(); len(violations) > 0 {
		pretty, _ := json.MarshalIndent(violations, "", "  ")
		p.Errorf("%s: %s", what, pretty)
	}
}

// keptOut are axe-core's findings; none without it.
func (p *person) keptOut() (violations []any) {
	p.Helper()
	if axe == "" {
		return nil
	}
	var found string
	p.do(chromedp.Evaluate(axe+"\n;0", nil))
	p.ask(`axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.map(v => ({
		rule: v.id, help: v.help, where: v.nodes.map(n => n.target.join(" ") + ": " + n.failureSummary)}))))`, &found)
	require.NoError(p, json.Unmarshal([]byte(found), &violations))
	return violations
}

// doesNotJump checks what was moved about while the page was loaded: the sum of
// layout shifts, of which browsers call up to 0.1 good.
func (p *person) doesNotJump(name string) {
	p.Helper()
	require.Less(p, p.jumps(), 0.01, "%s: things jump", name)
}

func (p *person) jumps() (shift float64) {
	p.Helper()
	p.ask(`new Promise(done => {
		let sum = 0
		const add = list => list.getEntries().forEach(e => { if (!e.hadRecentInput) sum += e.value })
		const o = new PerformanceObserver(add)
		o.observe({type: "layout-shift", buffered: true})
		requestAnimationFrame(() => setTimeout(() => { add({getEntries: () => o.takeRecords()}); done(sum) }))
	})`, &shift)
	return shift
}

// bytes is what came over the network for the page that is there.
func (p *person) bytes() int {
	p.Helper()
	var n int
	p.ask(`performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource")).reduce((n, e) => n + e.transferSize, 0)`, &n)
	return n
}
