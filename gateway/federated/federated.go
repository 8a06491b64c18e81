// Package federated is the gateway of a customer's cluster for who runs
// functions there from outside: bearer tokens of one OpenID provider and one
// audience come in, the local gateway's basic auth goes out, so that nobody
// outside holds that password. It owns which requests pass, what of them does,
// and what of the answer. It does not look at what a token may do: whoever gets
// one for the audience administers the cluster.
//
// The password goes to /system/ alone. Calls to functions carry no credentials
// at all: a gateway asks for none there, and would pass them on to the function.
package federated

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/program"
)

// Config holds what a federated gateway is made of. Every field is needed unless
// its comment says otherwise.
type Config struct {
	// Upstream is the local gateway.
	Upstream *reverseproxy.Upstream
	// Host is the local gateway's name in requests to it. The caller's own could
	// lead the password to another server behind the same address.
	Host string
	// Credentials are the local gateway's, as they are at the time.
	Credentials func() basicauth.Credentials
	// Keys are the issuer's, whose name must be in a token's iss; somebody has to
	// run them.
	Keys *jwks.Remote
	// Audience must be in a token's aud.
	Audience string
	// AllowInvoke lets calls to functions through.
	AllowInvoke bool
	// ReadTimeout bounds reading one request; 0 = no limit.
	ReadTimeout time.Duration
	// DrainTimeout bounds how long running calls are waited for at shutdown;
	// 0 = not at all.
	DrainTimeout time.Duration
	// UpstreamTimeout bounds the wait for an answer to begin, and each silence in
	// it after that, but for logs; 0 = no limit.
	UpstreamTimeout time.Duration
	Log             zerolog.Logger
}

// Gateway is the server. Make one with New.
type Gateway struct {
	config  Config
	metrics *metrics
	server  *fasthttp.Server
	// draining tells clients to send their next request to another gateway.
	draining atomic.Bool
}

// New returns a gateway that serves nothing yet.
func New(c Config) *Gateway {
	g := &Gateway{config: c, metrics: newMetrics()}
	g.server = reverseproxy.NewServer(g.serve, program.ServerLog{Log: c.Log})
	g.server.ReadTimeout = c.ReadTimeout
	g.server.IdleTimeout = 3 * time.Minute
	return g
}

// Serve answers on l until ctx ends and the calls then running are done, for
// which they have DrainTimeout.
func (g *Gateway) Serve(ctx context.Context, l *reverseproxy.Listener) error {
	return program.Serve(ctx, g.server, l, g.config.DrainTimeout, func() { g.draining.Store(true) }, g.config.Log)
}

// serve answers one request: which route it is for comes first, whose it is
// next, and only then does anything of it reach the local gateway.
func (g *Gateway) serve(ctx *fasthttp.RequestCtx) {
	started := time.Now()
	c := &call{ctx: ctx, method: string(ctx.Method())}
	defer func() {
		// fasthttp does not recover: a panic would end every other call.
		if p := recover(); p != nil {
			// The value of p may hold what the client sent, a token say: its type
			// and the place have to do.
			g.config.Log.Error().Bytes("stack", debug.Stack()).Msgf("panic while serving %s: %T", clip(c.method), p)
			ctx.Response.Reset()
			ctx.SetConnectionClose()
			c.answer(failed, http.StatusInternalServerError, "internal error")
		}
		g.metrics.served(c, time.Since(started))
		g.log(c, time.Since(started))
	}()
	if g.draining.Load() {
		ctx.SetConnectionClose()
	}

	target := ctx.Request.Header.RequestURI()
	if string(target) == "/healthz" {
		g.health(c)
		return
	}
	status, problem := c.judge(target, g.config.AllowInvoke)
	if status != 0 {
		c.answer(refused, status, problem)
		return
	}
	if !passes(c.method) {
		ctx.Response.Header.Set("Allow", methods)
		c.answer(refused, http.StatusMethodNotAllowed, "this method is not passed on, try one of "+methods)
		return
	}
	if g.authenticate(c) {
		g.forward(c)
	}
}

// result is what became of a request, for metrics and the log.
type result string

const (
	forwarded       result = "forwarded"       // and answered by the local gateway
	refused         result = "refused"         // not a route, or not a request, to pass on
	unauthenticated result = "unauthenticated" // no token, or a bad one
	noKeys          result = "no_keys"         // the issuer's keys are not there yet
	denied          result = "denied"          // the local gateway does not take our credentials
	failed          result = "failed"          // the local gateway did not answer
	health          result = "health"          // asked after our own, good or not
)

// call is one request on its way.
type call struct {
	ctx     *fasthttp.RequestCtx
	method  string
	route   route
	path    string
	subject string // of a verified token alone
	result  result
	err     error // for the log: it holds nothing of a token
}

// answer answers c ourselves with one line of text.
func (c *call) answer(r result, status int, line string) {
	c.result = r
	c.ctx.Response.SetStatusCode(status)
	c.ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	c.ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	c.ctx.Response.SetBodyString(line + "\n")
}

// health is for who sends us requests, and tells whether tokens can be verified.
func (g *Gateway) health(c *call) {
	if g.config.Keys.Ready() {
		c.answer(health, http.StatusOK, "OK")
		return
	}
	c.answer(health, http.StatusServiceUnavailable, "the issuer's keys are not available yet")
}

// log tells who has done what, and who was turned away. Neither queries nor
// bodies are in it: they may hold secrets.
func (g *Gateway) log(c *call, took time.Duration) {
	level := zerolog.DebugLevel
	switch {
	case c.result == denied, c.result == failed:
		level = zerolog.ErrorLevel
	case c.result == unauthenticated, c.result == noKeys:
		level = zerolog.InfoLevel
	case c.result == forwarded && c.route == system && c.method != http.MethodGet && c.method != http.MethodHead:
		level = zerolog.InfoLevel
	}
	e := g.config.Log.WithLevel(level)
	if c.subject != "" {
		e = e.Str("subject", clip(c.subject))
	}
	if c.err != nil {
		e = e.Str("reason", c.err.Error())
	}
	e.Str("method", clip(c.method)).Str("path", clip(c.path)).Str("remote", c.ctx.RemoteAddr().String()).
		Int("status", c.ctx.Response.StatusCode()).Dur("ms", took).Msg(string(c.result))
}

// clip bounds what the log says of what a client sent.
func clip(s string) string { return s[:min(len(s), 200)] }
