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
	// MaxForm is how many bytes of a body are read, which is kept in memory: strangers
	// need no more than a login's; nil = as many as for the API.
	MaxForm func(*http.Request) int
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
	return d != nil && (d.PublicURL == nil || sameHost(ctx.Host(), d.PublicURL))
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
	life := g.life // ends what is followed, which only GET does
	if !ctx.IsGet() {
		life = context.WithoutCancel(life) // what is being done is waited for when we stop
	}
	r, err := netRequest(life, ctx, path+query)
	if err != nil {
		g.answerError(ctx, "", badRequest("the request cannot be read: %s", err))
		return
	}
	limit := maxBody
	if d.MaxForm != nil {
		limit = d.MaxForm(r)
	}
	body, err := readBody(ctx, limit)
	if err != nil {
		g.answerError(ctx, "", bodyError(err, limit))
		return
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(bytes.Clone(body))), int64(len(body))
	// Its own conversion shares memory with ctx, which is another request's when a
	// stream's handler still runs.
	ctx.Request.SetBody(nil)
	fasthttpadaptor.NewFastHTTPHandlerFunc(func(w http.ResponseWriter, _ *http.Request) { d.Handler.ServeHTTP(w, r) })(ctx)
}

// netRequest is ctx's request as net/http has it, copied, without the body.
func netRequest(life context.Context, ctx *fasthttp.RequestCtx, target string) (*http.Request, error) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: string(ctx.Method()), URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Host: string(ctx.Host()), RemoteAddr: ctx.RemoteAddr().String(),
	}
	for name, value := range ctx.Request.Header.All() {
		r.Header.Add(string(name), string(value))
	}
	return r.WithContext(life), nil
}

// hideCookies takes the dashboard's cookies out of a request before functions or auth
// plugins see it: over TLS browsers send them with every request.
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
	var others []byte
	for name, value := range h.Cookies() {
		// One without a name is written as its value, which would then be its name.
		if bytes.Contains(bytes.ToLower(name), mark) || len(name) == 0 && bytes.Contains(bytes.ToLower(value), mark) {
			continue
		}
		if len(others) > 0 {
			others = append(others, "; "...)
		}
		if len(name) > 0 {
			others = append(append(others, name...), '=')
		}
		others = append(others, value...)
	}
	h.DelAllCookies() // one by one takes time for the square of their number
	if len(others) > 0 {
		h.SetBytesV("Cookie", others)
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

// isOurs reports whether a field of a function's answer is the dashboard's to
// send, on its host: our cookies, and what browsers take for the whole host, of
// whatever page of it they have it.
func (d *Dashboard) isOurs(name, value []byte) bool {
	switch len(name) {
	case len("NEL"): // has them tell somebody which of our pages are looked at
		return bytes.EqualFold(name, []byte("NEL"))
	case len("Alt-Svc"): // and fetch those elsewhere
		return bytes.EqualFold(name, []byte("Alt-Svc"))
	case len("Report-To"):
		return bytes.EqualFold(name, []byte("Report-To"))
	case len("Set-Cookie"):
		return d.isOwnCookie(name, value)
	case len("Clear-Site-Data"): // logs people out
		return bytes.EqualFold(name, []byte("Clear-Site-Data"))
	case len("Service-Worker-Allowed"):
		return bytes.EqualFold(name, []byte("Service-Worker-Allowed"))
	case len("Strict-Transport-Security"): // takes back that we are there with TLS alone
		return bytes.EqualFold(name, []byte("Strict-Transport-Security"))
	}
	return false
}

// sandboxPolicy gives a page an origin of its own, which none other has.
const sandboxPolicy = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"

// sandbox has browsers that take a function's answer for a page do so apart from
// ours. A policy of the function's own is kept, and can only add to that.
func (d *Dashboard) sandbox(ctx *fasthttp.RequestCtx) {
	if isNoPage(ctx.Response.Header.ContentType()) && !amends(ctx) || !d.isHere(ctx) {
		return
	}
	ctx.Response.Header.Add("Content-Security-Policy", sandboxPolicy)
}

// amends reports whether browsers may take the header of an answer for that of an
// earlier one, which they have in their cache and which may be a page: they then
// keep its Content-Type, and forget its policy (RFC 9111 sections 3.4, 4.3.4 and
// 4.3.5).
func amends(ctx *fasthttp.RequestCtx) bool {
	status := ctx.Response.StatusCode()
	return status == http.StatusNotModified || status == http.StatusPartialContent || ctx.IsHead()
}

// isNoPage reports whether browsers make no document with scripts of a media type.
// What is none by the rules (WHATWG MIME Sniffing, section 4.4) they may guess at
// by the body; with a comma it is two, of which they take the last.
func isNoPage(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	kind = bytes.Trim(kind, " \t")
	if bytes.IndexByte(contentType, ',') >= 0 {
		return false
	}
	if len(kind) > len("image/") && bytes.EqualFold(kind[:len("image/")], []byte("image/")) {
		subtype := bytes.ToLower(kind[len("image/"):])
		odd := bytes.ContainsFunc(subtype, func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-') })
		return !odd && !bytes.Contains(subtype, []byte("svg")) && !bytes.Contains(subtype, []byte("xml"))
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
