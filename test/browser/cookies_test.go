package browser

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestCookiesOverTLS: behind a proxy that ends TLS nobody but the dashboard's host
// can set its cookies, and functions never see them.
func TestCookiesOverTLS(t *testing.T) {
	t.Parallel()
	g := start(t)
	to, err := url.Parse(g.url)
	require.NoError(t, err)
	dashboard := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
	}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Host, "other.") {
			dashboard.ServeHTTP(w, r)
			return
		}
		for _, prefix := range []string{"__Host-", "__Secure-", ""} {
			for _, path := range []string{"/", "/ui/", "/ui/login"} {
				w.Header().Add("Set-Cookie", prefix+"gatehound-session=theirs; Secure; Domain=gatehound.test; Path="+path)
			}
		}
		w.Header().Add("Set-Cookie", "a=1; Domain=gatehound.test")
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // of a browser that does not know the certificate yet
	front.StartTLS()
	t.Cleanup(front.Close)
	_, port, err := net.SplitHostPort(front.Listener.Addr().String())
	require.NoError(t, err)

	p := g.sit(t)
	p.do(security.SetIgnoreCertificateErrors(true), chromedp.Navigate("https://other.gatehound.test:"+port+"/"))
	cookies := func() (all []*network.Cookie) {
		p.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
			all, err = network.GetCookies().WithURLs([]string{"https://dash.gatehound.test:" + port + "/ui/login"}).Do(ctx)
			return err
		}))
		return all
	}
	require.NotEmpty(t, cookies(), "it has set some")
	g.url = "https://dash.gatehound.test:" + port
	p.logsInByPassword()
	var ours []*network.Cookie
	for _, c := range cookies() {
		if strings.HasPrefix(c.Name, "__Host-") {
			ours = append(ours, c)
		}
	}
	require.Len(t, ours, 1)
	require.Equal(t, "__Host-gatehound-session", ours[0].Name)
	require.True(t, ours[0].HTTPOnly && ours[0].Secure && ours[0].Path == "/" && ours[0].Domain == "dash.gatehound.test", "%+v", ours[0])

	var text string
	p.do(chromedp.Navigate(g.url+"/function/env"), chromedp.Evaluate(`document.body.innerText`, &text))
	require.Contains(t, text, "Http_Method=GET")
	require.Contains(t, text, "Http_Cookie=a=1\n")
}
