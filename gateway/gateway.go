// Package gateway is the API gateway: one HTTP server with the function proxy,
// the token exchange, our issuer's documents and the administration API. It
// owns routes, their protection and the proxy's headers. Who may get which
// token is decided in package exchange, how functions run in the providers
// below, and no state is kept here, so that gateways can stand side by side.
package gateway

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/program"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Config holds what a gateway is made of. Every field is needed unless its
// comment says otherwise.
type Config struct {
	Provider provider.Provider
	// Issuer signs our tokens; its documents are served as they are at the time.
	Issuer *issuer.Issuer
	// Exchange answers POST /oauth/token.
	Exchange *exchange.Exchanger
	// Admin may do everything on the administration API; zero = there are API
	// tokens only.
	Admin basicauth.Credentials
	// Guesses counts wrong passwords, together with the dashboard's; nil = those at the
	// API alone.
	Guesses *basicauth.Guesses
	// Open lets everybody who can reach us do everything there, and is for
	// loopback alone.
	Open bool
	// AuthPlugin is asked, in our place, who may do what below /system/
	// (auth_proxy_url); nil = we decide.
	AuthPlugin *url.URL
	// AuthPassBody sends it the request bodies, too.
	AuthPassBody bool
	// ValidateForwarded says that the gateways that ask our /validate set
	// X-Forwarded-Method and X-Forwarded-Uri themselves: see validate.
	ValidateForwarded bool
	// DefaultNamespace is meant when a function's name has none.
	DefaultNamespace string
	// Prometheus is the "host:port" of the Prometheus that counts invocations of
	// all gateways; "" = our own counters are shown.
	Prometheus string
	// Documents are further static JSON documents to serve with GET, by path;
	// nil = none. The development identity provider's are such.
	Documents map[string][]byte
	// Dashboard has the pages for people; nil = there are none.
	Dashboard *Dashboard
	// ReadTimeout bounds reading one request; 0 = no limit.
	ReadTimeout time.Duration
	// DrainTimeout bounds how long running calls are waited for at shutdown;
	// 0 = not at all.
	DrainTimeout time.Duration
	// UpstreamTimeout bounds the wait for a function's answer to begin, and
	// each silence in it after that, and what the provider is asked to do;
	// 0 = no limit.
	UpstreamTimeout time.Duration
	// Auditing records requests to /system/; nil = nobody does.
	Auditing *Auditing
	// Metering records function calls; nil = nobody does.
	Metering *Metering
	// RecheckEvery is how often it is looked whether those who follow a log may
	// still do so; 0 = 10s.
	RecheckEvery time.Duration
	Log          zerolog.Logger
}

// Gateway is the server. Make one with New.
type Gateway struct {
	config  Config
	plugin  *plugin // nil = none
	routes  []route
	metrics *metrics
	counts  *counts // nil = those of metrics
	hours   *hours
	server  *fasthttp.Server
	// withheld says what of functions' answers is not passed on, and withheldHere
	// where the dashboard is; nil = nothing.
	withheld, withheldHere func(name, value []byte) bool
	// deploying has one deployment of a function at a time: who may only create
	// would else replace what has been made since it was found missing.
	deploying turns
	// draining tells clients to send their next request to another gateway.
	draining atomic.Bool
	// life ends when draining begins, and ends what is followed without an end.
	life    context.Context
	endLife context.CancelFunc
}

// New returns a gateway that serves nothing yet.
func New(c Config) *Gateway {
	c.RecheckEvery = cmp.Or(c.RecheckEvery, 10*time.Second)
	if c.Guesses == nil {
		c.Guesses = basicauth.NewGuesses(nil)
	}
	g := &Gateway{config: c, plugin: newPlugin(c), metrics: newMetrics(c.Provider, c.Log)}
	if c.Prometheus != "" {
		g.counts = newCounts(c.Prometheus, c.Log)
	}
	if c.Auditing != nil {
		g.metrics.registry.MustRegister(c.Auditing.Outbox)
	}
	if c.Metering != nil {
		g.metrics.registry.MustRegister(c.Metering.Outbox)
	}
	if c.Dashboard != nil {
		g.withheld, g.withheldHere = c.Dashboard.isOwnCookie, c.Dashboard.isOurs
	}
	g.hours = newHours(c, g.metrics.functions)
	g.routes = g.table()
	g.life, g.endLife = context.WithCancel(context.Background())
	g.server = reverseproxy.NewServer(g.serve, program.ServerLog{Log: c.Log})
	g.server.ReadTimeout = c.ReadTimeout
	g.server.IdleTimeout = 3 * time.Minute
	return g
}

// Serve answers on l until ctx ends and the calls then running are done, for
// which they have DrainTimeout.
func (g *Gateway) Serve(ctx context.Context, l *reverseproxy.Listener) error {
	defer g.endLife()
	defer g.plugin.close()
	go g.hours.ours.Run(g.life)
	return program.Serve(ctx, g.server, l, g.config.DrainTimeout, func() {
		g.draining.Store(true)
		g.endLife()
	}, g.config.Log)
}

// serve answers one request. Routing looks at the request target as it came
// and never decodes it, so that what was routed, what was authorized and what
// is forwarded cannot differ.
func (g *Gateway) serve(ctx *fasthttp.RequestCtx) {
	started := time.Now()
	defer func() {
		// fasthttp does not recover: a panic would end every other call.
		if p := recover(); p != nil {
			// The value of p may hold what the client sent, a token say: its type
			// and the place have to do.
			named(ctx, g.config.Log.Error()).Bytes("stack", debug.Stack()).Msgf("panic while serving %s: %T", ctx.Method(), p)
			ctx.Response.Reset()
			ctx.SetConnectionClose()
			plain(ctx, http.StatusInternalServerError, "internal error")
		}
	}()

	path, rest, ok := splitTarget(ctx.Request.Header.RequestURI())
	if !ok {
		plain(ctx, http.StatusBadRequest, "the request target must be a path that begins with /")
		return
	}
	if g.draining.Load() {
		ctx.SetConnectionClose()
	}
	if after, isCall := bytes.CutPrefix(path, []byte("/function/")); isCall {
		g.invoke(ctx, after, rest, started)
	} else {
		g.dispatch(ctx, string(path), string(rest))
	}
	if e := g.config.Log.Debug(); e.Enabled() {
		named(ctx, e).Str("method", string(ctx.Method())).Bytes("path", path).Int("status", ctx.Response.StatusCode()).
			Dur("ms", time.Since(started)).Msg("request")
	}
}

// splitTarget splits a request target into its path and the query with its
// question mark. The absolute form (RFC 9112 §3.2.2) is cut down to its path.
func splitTarget(target []byte) (path, query []byte, ok bool) {
	if after, absolute := bytes.CutPrefix(target, []byte("http://")); absolute {
		end := bytes.IndexAny(after, "/?")
		if end < 0 || after[end] == '?' {
			return nil, nil, false
		}
		target = after[end:]
	}
	if len(target) == 0 || target[0] != '/' {
		return nil, nil, false
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		return target[:i], target[i:], true
	}
	return target, nil, true
}

// dispatch answers everything but function calls.
func (g *Gateway) dispatch(ctx *fasthttp.RequestCtx, path, query string) {
	setRequestID(ctx)
	if strings.HasPrefix(path, administration) {
		g.administer(ctx, path, query)
	} else if g.config.Dashboard.owns(path) {
		g.showDashboard(ctx, path, query)
	} else if after, isAsync := strings.CutPrefix(path, "/async-function/"); isAsync {
		g.invokeAsync(ctx, after)
	} else if route, parameter, err := g.find(ctx, string(ctx.Method()), path); err != nil {
		g.answerError(ctx, "", err)
	} else {
		route.answer(ctx, parameter)
	}
}

// plain answers with one line of text.
func plain(ctx *fasthttp.RequestCtx, status int, line string) {
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.Response.SetBodyString(line + "\n")
}
