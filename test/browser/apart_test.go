package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// ran says in the title whose page it was run as: "ran as null" is nobody's.
const ran = `<!doctype html><title>a page</title><script>document.title = "ran as " + self.origin</script>`

// hostile is a function that answers as it is asked to.
func hostile(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch r.URL.Path {
	case "/revalidated": // a browser's cache takes the header of a 304 over
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Cache-Control", "no-cache")
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Security-Policy", "default-src * 'unsafe-inline'")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "text/html")
	case "/headers":
		for name, values := range query {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", "text/plain")
	default:
		w.Header()["Content-Type"] = query["type"]
	}
	_, _ = io.WriteString(w, ran)
}

// runs deploys a function that a server of the test's answers for.
func (g *gateway) runs(t *testing.T, name string, function http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(function)
	t.Cleanup(server.Close)
	f := fmt.Sprintf("  %s: {image: gatehound/%[1]s, fprocess: sleep 1000, environment: {mode: http, upstream_url: %q}}\n", name, server.URL)
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "stack.yml"), []byte(stack+f), 0o600))
	require.Eventually(t, func() bool { return g.call(name) == http.StatusOK }, patience, 100*time.Millisecond, "%s is never ready", name)
}

// TestNoPageIsOurs: whatever a function answers, no script in it is run as one of
// the dashboard's origin.
func TestNoPageIsOurs(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.runs(t, "hostile", hostile)
	p := g.sit(t)
	p.logsInByPassword()
	title := func(path string) (title string) {
		// What is a download is no page.
		_ = chromedp.Run(p.ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(g.url+"/function/hostile"+path))
		p.do(chromedp.Title(&title))
		return title
	}
	require.Equal(t, "ran as null", title("?type=text/html"))
	for _, kind := range []string{
		"", "text/plain", "text/plain\u00a0", "image/ x", "image/<", "*/*", "text/plain, text/html", "text/plain;,text/html",
		"application/json", "image/svg+xml", "application/xhtml+xml", "multipart/x-mixed-replace; boundary=x",
	} {
		require.NotContains(t, title("?"+url.Values{"type": {kind}}.Encode()), g.url, "%q", kind)
	}
	for range 2 {
		require.Equal(t, "ran as null", title("/revalidated"))
	}
}

// TestStaysLoggedIn: a function does not log people out.
func TestStaysLoggedIn(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.runs(t, "hostile", hostile)
	p := g.sit(t)
	p.logsInByPassword()
	p.do(chromedp.Navigate(g.url + "/function/hostile/headers?Clear-Site-Data=" + url.QueryEscape(`"cookies", "storage"`)))
	p.opens("/ui/me")
	p.sees("Everything.")
}
