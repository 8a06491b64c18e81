package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/openfaas/faas-provider/types"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

// authenticate returns who sent a request: the administrator, the bearer of an
// API token, or with an open API anybody. The error is what to answer.
func (g *Gateway) authenticate(ctx *fasthttp.RequestCtx) (caller, error) {
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
		return caller{name: "anybody", granted: everything, byBrowser: true}, nil
	}
	right := g.config.Admin.Match(authorization)
	if g.config.Admin.Set() {
		if err := g.boundGuesses(ctx, basicauth.Sent(authorization), right); err != nil {
			return caller{}, err
		}
	}
	if right {
		name := g.config.Admin.User()
		return caller{name: name, actor: &types.Actor{Sub: name}, granted: everything, byBrowser: true}, nil
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
	who, err := g.bearer(bounded, bytes.Clone(token)) // it is kept: see again
	var refusal *provider.Error
	if err != nil && !errors.As(err, &refusal) {
		named(ctx, g.config.Log.Error()).Msgf("verifying an API token: %v", err)
		err = &provider.Error{Status: http.StatusInternalServerError, Message: "API tokens cannot be verified"}
	}
	return who, err
}

// boundGuesses counts a password that was sent, nil = none was, and refuses to tell
// whether it is right when too many wrong ones were tried. The dashboard counts those
// of its form itself.
func (g *Gateway) boundGuesses(ctx *fasthttp.RequestCtx, sent []byte, right bool) error {
	if sent == nil || g.config.Guesses.IsPass(ctx.Request.Header.Peek(basicauth.PassHeader)) {
		return nil
	}
	var forwardedFor []string
	for _, value := range headerValues(ctx, "X-Forwarded-For") {
		forwardedFor = append(forwardedFor, string(value))
	}
	if g.config.Guesses.MayTell(basicauth.Address(ctx.RemoteAddr().String(), forwardedFor), sent, right) {
		return nil
	}
	return &provider.Error{Status: http.StatusTooManyRequests, Message: "too many wrong passwords were tried: try again in a second"}
}

// bearer returns who has an API token.
func (g *Gateway) bearer(ctx context.Context, token []byte) (caller, error) {
	id, err := g.config.Exchange.Authenticate(ctx, token)
	var refusal *exchange.Error
	switch {
	case err == nil:
		name, issuer := id.Subject()
		again := func(ctx context.Context) (caller, error) { return g.bearer(ctx, token) }
		// The subject is the token's own, as upstream's events have it.
		actor := &types.Actor{Sub: shorten("fed:" + name), Name: shorten(id.FullName()), Issuer: g.config.Issuer.URL(), FedIssuer: shorten(issuer)}
		return caller{name: name, issuer: issuer, actor: actor, granted: id.Granted, until: id.Expires(), again: again}, nil
	case !errors.As(err, &refusal):
		return caller{}, err
	case refusal.Code == exchange.TemporarilyUnavailable:
		return caller{}, &provider.Error{Status: http.StatusServiceUnavailable, Message: refusal.Description}
	default:
		return caller{}, &provider.Error{Status: http.StatusUnauthorized, Message: "invalid API token: " + refusal.Description}
	}
}

// everything is granted to those whom no policy limits.
func everything(string) []iam.Resource { return []iam.Resource{"*"} }

// proxyHeaders are those by which proxies say that they have passed a request on
// (RFC 7239, RFC 9110 §7.6.3, and what was usual before).
var proxyHeaders = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// foreignPage refuses what a page of another origin has a browser send: the
// browser adds a remembered password by itself, and an open API wants none.
// Whatever can change something comes with an Origin then.
// host is the one that the caller asked.
func (g *Gateway) foreignPage(ctx *fasthttp.RequestCtx, host string) error {
	for _, origin := range headerValues(ctx, "Origin") {
		u, err := url.Parse(string(origin))
		own := err == nil && strings.EqualFold(u.Host, host)
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
	for n, value := range reverseproxy.Fields(&ctx.Request.Header) { // All would take the quotes off cookies
		if equalFold(n, name) {
			values = append(values, value)
		}
	}
	return values
}
