package gateway

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Dashboard is the pages for people, which share our host with functions. What
// keeps the two apart is here: a function's page would else be one of the
// dashboard's origin, and could do there whatever the person who looks at it may.
type Dashboard struct {
	// Handler answers below /ui/, and /auth/callback.
	Handler http.Handler
	// PublicURL is where browsers find the dashboard. It is then on that host
	// alone, and only there are functions kept apart; nil = on every host.
	PublicURL *url.URL
	// CookieMark is in the names of all its cookies.
	CookieMark string
}

const (
	dashboardPath = "/ui/"
	callbackPath  = "/auth/callback"
)

// owns reports whether a path is the dashboard's.
func (d *Dashboard) owns(path string) bool {
	return d != nil && (path == "/" || path == "/ui" || path == callbackPath || strings.HasPrefix(path, dashboardPath))
}

// isHere reports whether a request has come to the dashboard's host. A proxy in
// front must have left the Host as it was: where it has not, there is no dashboard
// that functions would have to be kept from.
func (d *Dashboard) isHere(ctx *fasthttp.RequestCtx) bool {
	return d.PublicURL == nil || sameHost(ctx.Host(), d.PublicURL)
}

// sameHost compares a Host header to a URL's, to which the port may be implied.
func sameHost(host []byte, u *url.URL) bool {
	if bytes.EqualFold(host, []byte(u.Host)) {
		return true
	}
	implied := ":80"
	if u.Scheme == "https" {
		implied = ":443"
	}
	withPort := func(host string) string {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return host + implied
		}
		return host
	}
	return strings.EqualFold(withPort(string(host)), withPort(u.Host))
}

// showDashboard answers a request for a page.
func (g *Gateway) showDashboard(ctx *fasthttp.RequestCtx, path, query string) {
	d := g.config.Dashboard
	if err := checkTarget(path, query); err != nil {
		g.answerError(ctx, "", err)
		return
	}
	if path == "/" || path == "/ui" {
		path = dashboardPath
		if d.isHere(ctx) {
			ctx.Response.Header.Set("Location", path)
			ctx.Response.SetStatusCode(http.StatusFound)
			return
		}
	}
	if !d.isHere(ctx) {
		ctx.Response.Header.Set("Location", d.PublicURL.Scheme+"://"+d.PublicURL.Host+path+query)
		ctx.Response.SetStatusCode(http.StatusFound)
		return
	}
	body, err := readBody(ctx, maxBody)
	if err != nil {
		g.answerError(ctx, "", bodyError(err))
		return
	}
	r, err := netRequest(g.life, ctx, path+query, bytes.Clone(body))
	if err != nil {
		g.answerError(ctx, "", badRequest("the request cannot be read: %s", err))
		return
	}
	// Its own conversion shares memory with ctx, which is another request's when a
	// stream's handler still runs.
	ctx.Request.SetBody(nil)
	fasthttpadaptor.NewFastHTTPHandlerFunc(func(w http.ResponseWriter, _ *http.Request) { d.Handler.ServeHTTP(w, r) })(ctx)
}

// netRequest is ctx's request as net/http has it, copied.
func netRequest(life context.Context, ctx *fasthttp.RequestCtx, target string, body []byte) (*http.Request, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: string(ctx.Method()), URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Host: string(ctx.Host()), RemoteAddr: ctx.RemoteAddr().String(),
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	for name, value := range ctx.Request.Header.All() {
		r.Header.Add(string(name), string(value))
	}
	return r.WithContext(life), nil
}

// hideCookies takes the dashboard's cookies out of a call. Browsers do not send
// them to functions, for their path.
func (d *Dashboard) hideCookies(ctx *fasthttp.RequestCtx) {
	if d == nil {
		return
	}
	h, mark, marked := &ctx.Request.Header, []byte(d.CookieMark), false
	for name, value := range reverseproxy.Fields(h) {
		marked = marked || equalFold(name, "Cookie") && bytes.Contains(bytes.ToLower(value), mark)
	}
	if !marked {
		return // what fasthttp writes anew, it writes without quotes
	}
	var names []string
	for name, value := range h.Cookies() {
		// One without a name is written as its value, which would then be its name.
		if bytes.Contains(bytes.ToLower(name), mark) || len(name) == 0 && bytes.Contains(bytes.ToLower(value), mark) {
			names = append(names, string(name))
		}
	}
	for _, name := range names {
		h.DelCookie(name)
	}
}

// isOwnCookie reports whether a field of a function's answer sets a cookie by the
// name of one of ours, which would make somebody act in another's session. The
// name may be in the value: browsers read "Set-Cookie: =a=b" as a cookie that they
// send as "a=b".
func (d *Dashboard) isOwnCookie(name, value []byte) bool {
	if len(name) != len("Set-Cookie") || !bytes.EqualFold(name, []byte("Set-Cookie")) {
		return false
	}
	pair, _, _ := bytes.Cut(value, []byte(";"))
	return bytes.Contains(bytes.ToLower(pair), []byte(d.CookieMark))
}

// sandboxPolicy gives a page an origin of its own, which none other has.
const sandboxPolicy = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"

// sandbox has browsers that take a function's answer for a page do so apart from
// ours. A policy of the function's own is kept, and can only add to that.
func (d *Dashboard) sandbox(ctx *fasthttp.RequestCtx) {
	if d == nil || isNoPage(ctx.Response.Header.ContentType()) || !d.isHere(ctx) {
		return
	}
	ctx.Response.Header.Add("Content-Security-Policy", sandboxPolicy)
}

// isNoPage reports whether browsers make no document with scripts of a media type.
// With a comma it is two, of which they take the last.
func isNoPage(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	kind = bytes.TrimSpace(kind)
	if bytes.IndexByte(contentType, ',') >= 0 {
		return false
	}
	if len(kind) > len("image/") && bytes.EqualFold(kind[:len("image/")], []byte("image/")) {
		return !bytes.Contains(bytes.ToLower(kind), []byte("svg")) && !bytes.Contains(bytes.ToLower(kind), []byte("xml"))
	}
	for _, harmless := range noPages {
		if len(kind) == len(harmless) && bytes.EqualFold(kind, []byte(harmless)) {
			return true
		}
	}
	return false
}

var noPages = []string{
	"application/json", "text/plain", "application/octet-stream", "text/css", "text/event-stream", "application/x-ndjson",
}
