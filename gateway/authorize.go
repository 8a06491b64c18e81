package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

// wish is what somebody wants of /system/: a caller of ours, or one of a gateway
// that asks us.
type wish struct {
	method, path string
	query        string // with its question mark
	body         func() ([]byte, error)
	// elsewhere says that we only judge it, and another gateway does it.
	elsewhere bool
}

// request is one request to /system/ of a caller who is known.
type request struct {
	ctx       *fasthttp.RequestCtx
	parameter string // the path's last segment, where the route has one
	query     url.Values
	body      func() ([]byte, error)
	caller    caller
	// needsBody says that an empty body is hardly what the caller sent: the
	// gateway that asks us has not passed it on.
	needsBody bool
}

// operation is what a request asks for: it has been read, and nothing has been
// done yet.
type operation struct {
	// what it is about, for messages and the log.
	what string
	// on is what the route's action must be granted on, all of it.
	on []target
	// mayNeed is an action that run may find to be needed as well; "" = none.
	mayNeed string
	// run does it and writes the answer. Its error is answered for it.
	run func(ctx context.Context) error
}

// target is what an action is granted on: one function or secret; with the
// name "*" a namespace; "*" in "*" what is in no namespace. No such name
// exists, so that it matches a "*" in a policy and nothing else.
type target struct {
	namespace, name string
	// some says that a grant on something in there is enough: the answer has
	// only what is granted.
	some bool
}

// caller is who sent a request to /system/.
type caller struct {
	name, issuer string       // for the log; issuer is "" without a token
	actor        *types.Actor // for audit events; nil = it is not known who it is
	granted      func(action string) []iam.Resource
	until        time.Time // when the token ends; zero = never
	// byBrowser says that a browser adds the credentials by itself.
	byBrowser bool
	// again finds out anew who this is, for what outlives its request; nil = it
	// cannot change.
	again func(ctx context.Context) (caller, error)
}

func (c caller) may(action string, t target) bool {
	for _, r := range c.granted(action) {
		if t.some && r.Overlaps(iam.Resource(t.namespace+":"+t.name)) || !t.some && r.Matches(t.namespace, t.name) {
			return true
		}
	}
	return false
}

// administer answers a request to /system/. This is the one place where it is
// decided who may: first who it is, then what is wanted, then whether that is
// granted, and only then is anything done.
func (g *Gateway) administer(ctx *fasthttp.RequestCtx, path, query string) {
	w := wish{method: string(ctx.Method()), path: path, query: query, body: func() ([]byte, error) { return readBody(ctx, maxBody) }}
	audit, err := g.beginAudit(ctx, w)
	if err != nil {
		g.answerError(ctx, "", err)
		return
	}
	defer audit.end()
	g.carryOut(ctx, w, audit)
	audit.answered()
}

// carryOut does what w wants, if its sender may.
func (g *Gateway) carryOut(ctx *fasthttp.RequestCtx, w wish, audit *audit) {
	if err := checkTarget(w.path, w.query); err != nil {
		g.answerError(ctx, "", audit.byStranger(err))
		return
	}
	who, err := g.admit(ctx, &w)
	audit.by(who)
	if err != nil {
		g.refuseStranger(ctx, w.path, audit.byStranger(err))
		return
	}
	route, op, err := g.judge(ctx, w, who)
	audit.about(route, op)
	if err == nil {
		bounded, cancel := g.boundOperation()
		err = op.run(bounded)
		cancel()
	}
	g.conclude(ctx, w, route, op, who, err)
}

// admit returns who sent a request, as we or the auth plugin know them. What a
// plugin has read of the body is what w has from then on.
func (g *Gateway) admit(ctx *fasthttp.RequestCtx, w *wish) (caller, error) {
	if g.plugin != nil {
		// It may go by a cookie.
		if err := g.foreignPage(ctx, string(ctx.Host())); err != nil {
			return caller{}, err
		}
		g.config.Dashboard.hideCookies(ctx)
		who, err := g.plugin.admit(ctx, w)
		var refusal *pluginRefusal
		if err == nil || errors.As(err, &refusal) {
			if tooMany := g.boundGuesses(ctx, basicauth.SentSomehow(headerValues(ctx, "Authorization")), err == nil); tooMany != nil {
				return caller{}, tooMany
			}
		}
		return who, err
	}
	who, err := g.authenticate(ctx)
	if err == nil && who.byBrowser {
		err = g.foreignPage(ctx, string(ctx.Host()))
	}
	return who, err
}

// refuseStranger answers who is not known, before any look-up: a stranger does
// not learn which routes exist.
func (g *Gateway) refuseStranger(ctx *fasthttp.RequestCtx, path string, err error) {
	g.metrics.authorized("", "unauthenticated")
	named(ctx, g.config.Log.Info()).Str("method", clip(string(ctx.Method()))).Str("path", clip(path)).Str("remote", ctx.RemoteAddr().String()).Msgf("refused: %v", err)
	g.answerError(ctx, "", err)
}

// checkTarget refuses what readers of a request target (RFC 9112 §3.2) read in
// more than one way: to some, it ends at a #.
func checkTarget(path, query string) error {
	if !visible(path) || !visible(query) || strings.Contains(path+query, "#") {
		return badRequest("the request target has a # or another character that must be percent-encoded")
	}
	return nil
}

// visible reports whether s is of visible ASCII characters alone.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// judge finds out what a wish is about and whether that is granted. Nothing is
// done yet. Without op.run it is not known what it is about.
func (g *Gateway) judge(ctx *fasthttp.RequestCtx, w wish, who caller) (*route, operation, error) {
	route, parameter, err := g.find(ctx, w.method, w.path)
	if err != nil {
		return nil, operation{}, err
	}
	query, err := url.ParseQuery(strings.TrimPrefix(w.query, "?"))
	if err != nil {
		return route, operation{}, badRequest("the query cannot be read: %s", err)
	}
	for name, values := range query {
		// Of several we take the first, and an auth plugin perhaps the last.
		if len(slices.Compact(values)) > 1 {
			return route, operation{}, badRequest("the query has %q with different values", clip(name))
		}
	}
	op, err := route.read(&request{ctx: ctx, parameter: parameter, query: query, body: w.body, caller: who, needsBody: w.elsewhere})
	if err != nil {
		return route, operation{}, err
	}
	return route, op, authorize(route.action, op, who, w.elsewhere)
}

// authorize reports what is missing. With elsewhere, all must be granted that
// might come up: no list is filtered there, and nobody asks again.
func authorize(action string, op operation, who caller, elsewhere bool) error {
	for _, t := range op.on {
		t.some = t.some && !elsewhere
		if !who.may(action, t) {
			return forbidden(action, t)
		}
		if elsewhere && op.mayNeed != "" && !who.may(op.mayNeed, t) {
			return forbidden(op.mayNeed, t)
		}
	}
	return nil
}

// conclude answers err, if there is one, and counts and logs what came of w.
func (g *Gateway) conclude(ctx *fasthttp.RequestCtx, w wish, route *route, op operation, who caller, err error) {
	if err != nil {
		g.answerError(ctx, op.what, err)
	}
	if op.run == nil {
		return
	}
	result := "allowed"
	if isForbidden(err) {
		result = "denied"
	}
	g.metrics.authorized(route.action, result)
	if result == "denied" || route.changes() {
		if w.elsewhere {
			result += " to another gateway"
		}
		g.logOperation(ctx, route.method, route.action, op.what, who, result)
	}
}

func forbidden(action string, t target) error {
	return &provider.Error{Status: http.StatusForbidden, Message: fmt.Sprintf("insufficient permissions: want %s on %s:%s", action, t.namespace, t.name)}
}

func isForbidden(err error) bool {
	var e *provider.Error
	return errors.As(err, &e) && e.Status == http.StatusForbidden
}

func badRequest(format string, args ...any) error {
	return &provider.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// logOperation says who has done what. Neither bodies nor queries are in it:
// they may hold secrets.
func (g *Gateway) logOperation(ctx *fasthttp.RequestCtx, method, action, what string, who caller, result string) {
	level := zerolog.InfoLevel
	if strings.HasPrefix(result, "denied") {
		level = zerolog.WarnLevel
	}
	e := named(ctx, g.config.Log.WithLevel(level)).Str("subject", clip(who.name))
	if who.issuer != "" {
		e = e.Str("issuer", clip(who.issuer))
	}
	e.Str("action", action).Str("resource", what).Int("status", ctx.Response.StatusCode()).Msgf("%s %s", method, result)
}

// answerError answers a request to /system/ that is refused or has failed.
func (g *Gateway) answerError(ctx *fasthttp.RequestCtx, what string, err error) {
	var e *provider.Error
	var refusal *pluginRefusal
	switch {
	case errors.As(err, &refusal):
		refusal.answer(ctx)
	case errors.Is(err, provider.ErrNotFound):
		plain(ctx, http.StatusNotFound, what+" not found")
	case errors.As(err, &e):
		plain(ctx, e.Status, e.Message)
		switch e.Status {
		case http.StatusInternalServerError, http.StatusInsufficientStorage:
			named(ctx, g.config.Log.Error()).Msg(e.Message)
		case http.StatusUnauthorized:
			if g.config.Admin.Set() {
				ctx.Response.Header.Add("WWW-Authenticate", `Basic realm="Restricted"`)
			}
			ctx.Response.Header.Add("WWW-Authenticate", `Bearer realm="Restricted"`)
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			ctx.Response.Header.Set("Retry-After", "1")
		}
	case errors.Is(err, context.DeadlineExceeded):
		named(ctx, g.config.Log.Error()).Msg(err.Error())
		plain(ctx, http.StatusGatewayTimeout, fmt.Sprintf("the functions provider gave no answer within the upstream_timeout of %s", g.config.UpstreamTimeout))
	default:
		named(ctx, g.config.Log.Error()).Msg(err.Error())
		plain(ctx, http.StatusBadGateway, "the functions provider cannot be reached")
	}
}
