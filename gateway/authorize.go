package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/gateway/provider"
)

// request is one request to /system/ of a caller who is known.
type request struct {
	ctx       *fasthttp.RequestCtx
	parameter string // the path's last segment, where the route has one
	query     url.Values
	caller    caller
}

// operation is what a request asks for: it has been read, and nothing has been
// done yet.
type operation struct {
	// what it is about, for messages and the log.
	what string
	// on is what the route's action must be granted on, all of it.
	on []target
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
	name, issuer string // for the log; issuer is "" without a token
	granted      func(action string) []iam.Resource
	until        time.Time // when the token ends; zero = never
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
func (g *Gateway) administer(ctx *fasthttp.RequestCtx, path string) {
	who, err := g.authenticate(ctx)
	if err != nil {
		// Before the look-up: a stranger does not learn which routes exist.
		g.metrics.authorized("", "unauthenticated")
		g.config.Log.Info().Str("method", clip(string(ctx.Method()))).Str("path", clip(path)).Str("remote", ctx.RemoteAddr().String()).Msgf("refused: %v", err)
		g.answerError(ctx, "", err)
		return
	}
	route, parameter := g.find(ctx, path)
	if route == nil {
		return
	}
	op, err := read(route, ctx, parameter, who)
	if err != nil {
		g.answerError(ctx, op.what, err)
		return
	}
	err = authorize(route.action, op, who)
	if err == nil {
		bounded, cancel := g.boundOperation()
		err = op.run(bounded)
		cancel()
	}
	if err != nil {
		g.answerError(ctx, op.what, err)
	}
	result := "allowed"
	if isForbidden(err) {
		result = "denied"
	}
	g.metrics.authorized(route.action, result)
	if result == "denied" || route.changes() {
		g.logOperation(route, op, who, ctx.Response.StatusCode(), result)
	}
}

func read(route *route, ctx *fasthttp.RequestCtx, parameter string, who caller) (operation, error) {
	query, err := url.ParseQuery(string(ctx.URI().QueryString()))
	if err != nil {
		return operation{}, badRequest("the query cannot be read: %s", err)
	}
	return route.read(&request{ctx: ctx, parameter: parameter, query: query, caller: who})
}

// authorize returns a 403 unless action is granted on everything that op is
// about.
func authorize(action string, op operation, who caller) error {
	for _, t := range op.on {
		if !who.may(action, t) {
			return forbidden(action, t)
		}
	}
	return nil
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
func (g *Gateway) logOperation(route *route, op operation, who caller, status int, result string) {
	level := zerolog.InfoLevel
	if result == "denied" {
		level = zerolog.WarnLevel
	}
	e := g.config.Log.WithLevel(level).Str("subject", clip(who.name))
	if who.issuer != "" {
		e = e.Str("issuer", clip(who.issuer))
	}
	e.Str("action", route.action).Str("resource", op.what).Int("status", status).Msgf("%s %s", route.method, result)
}

// authenticate returns who sent a request: the administrator, the bearer of an
// API token, or with an open API anybody. The error is what to answer.
func (g *Gateway) authenticate(ctx *fasthttp.RequestCtx) (caller, error) {
	everything := func(string) []iam.Resource { return []iam.Resource{"*"} }
	authorization := headerValues(ctx, "Authorization")
	if g.config.Open {
		if !isLoopbackHost(ctx.Host()) {
			// A page of the web whose name was made to point here (DNS rebinding).
			return caller{}, &provider.Error{Status: http.StatusForbidden, Message: "this API is open, and only for requests to localhost or a loopback address"}
		}
		for _, name := range proxyHeaders {
			if len(headerValues(ctx, name)) > 0 {
				// Loopback is the proxy's address then, and not the caller's.
				return caller{}, &provider.Error{Status: http.StatusForbidden, Message: "this API is open, and not to requests that a proxy passes on: the header " + name + " says so"}
			}
		}
		return caller{name: "anybody", granted: everything}, g.foreignPage(ctx)
	}
	if g.config.Admin.Match(authorization) {
		return caller{name: g.config.Admin.User(), granted: everything}, g.foreignPage(ctx)
	}
	token, err := auth.Bearer(authorization...)
	if errors.Is(err, auth.ErrNoBearer) {
		return caller{}, &provider.Error{Status: http.StatusUnauthorized, Message: "invalid credentials"}
	}
	if err != nil {
		return caller{}, &provider.Error{Status: http.StatusUnauthorized, Message: err.Error()}
	}
	bounded, cancel := bound()
	defer cancel()
	id, err := g.config.Exchange.Authenticate(bounded, token)
	var refusal *exchange.Error
	switch {
	case err == nil:
		name, issuer := id.Subject()
		return caller{name: name, issuer: issuer, granted: id.Granted, until: id.Expires()}, nil
	case !errors.As(err, &refusal):
		g.config.Log.Error().Msgf("verifying an API token: %v", err)
		return caller{}, &provider.Error{Status: http.StatusInternalServerError, Message: "API tokens cannot be verified"}
	case refusal.Code == exchange.TemporarilyUnavailable:
		return caller{}, &provider.Error{Status: http.StatusServiceUnavailable, Message: refusal.Description}
	default:
		return caller{}, &provider.Error{Status: http.StatusUnauthorized, Message: "invalid API token: " + refusal.Description}
	}
}

// proxyHeaders are those by which proxies say that they have passed a request on
// (RFC 7239, RFC 9110 §7.6.3, and what was usual before).
var proxyHeaders = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// foreignPage refuses what a page of another origin has a browser send: the
// browser adds a remembered password by itself, and an open API wants none.
// Whatever can change something comes with an Origin then.
func (g *Gateway) foreignPage(ctx *fasthttp.RequestCtx) error {
	for _, origin := range headerValues(ctx, "Origin") {
		u, err := url.Parse(string(origin))
		own := err == nil && strings.EqualFold(u.Host, string(ctx.Host()))
		// A proxy in front may have changed the Host.
		if !own && !strings.HasPrefix(g.config.Issuer.URL()+"/", string(origin)+"/") {
			return &provider.Error{Status: http.StatusForbidden, Message: "requests of other sites' pages are refused"}
		}
	}
	return nil
}

func isLoopbackHost(host []byte) bool {
	name := string(host)
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

// headerValues returns the values of all headers of that name. Names come as
// the client wrote them.
func headerValues(ctx *fasthttp.RequestCtx, name string) [][]byte {
	var values [][]byte
	for n, value := range ctx.Request.Header.All() {
		if bytes.EqualFold(n, []byte(name)) {
			values = append(values, value)
		}
	}
	return values
}

// answerError answers a request to /system/ that is refused or has failed.
func (g *Gateway) answerError(ctx *fasthttp.RequestCtx, what string, err error) {
	var e *provider.Error
	switch {
	case errors.Is(err, provider.ErrNotFound):
		plain(ctx, http.StatusNotFound, what+" not found")
	case errors.As(err, &e):
		plain(ctx, e.Status, e.Message)
		switch e.Status {
		case http.StatusInternalServerError, http.StatusInsufficientStorage:
			g.config.Log.Error().Msg(e.Message)
		case http.StatusUnauthorized:
			if g.config.Admin.Set() {
				ctx.Response.Header.Add("WWW-Authenticate", `Basic realm="Restricted"`)
			}
			ctx.Response.Header.Add("WWW-Authenticate", `Bearer realm="Restricted"`)
		case http.StatusServiceUnavailable:
			ctx.Response.Header.Set("Retry-After", "1")
		}
	case errors.Is(err, context.DeadlineExceeded):
		g.config.Log.Error().Msg(err.Error())
		plain(ctx, http.StatusGatewayTimeout, fmt.Sprintf("the functions provider gave no answer within the upstream_timeout of %s", g.config.UpstreamTimeout))
	default:
		g.config.Log.Error().Msg(err.Error())
		plain(ctx, http.StatusBadGateway, "the functions provider cannot be reached")
	}
}
