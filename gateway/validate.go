package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/gateway/provider"
)

// validate is what another gateway asks whose auth_proxy_url this is: 2xx says
// that it may do what its caller wants. It passes its caller's credentials on.
//
// OpenFaaS' gateway passes all of its caller's headers on and says nothing of
// the request itself: an X-Forwarded-Uri is its caller's then, who would name
// there what it is granted, and do something else. So a 2xx is for those who
// may do everything, unless we were told that the gateways which ask us
// describe the request themselves. Then our own table decides on what they
// describe, and nothing is run.
func (g *Gateway) validate(ctx *fasthttp.RequestCtx, _ string) {
	if g.config.Open {
		g.refuseStranger(ctx, "/validate", &provider.Error{Status: http.StatusForbidden, Message: "this API is open, and has no credentials to validate"})
		return
	}
	who, err := g.authenticate(ctx)
	if err != nil {
		g.refuseStranger(ctx, "/validate", err)
		return
	}
	if !g.config.ValidateForwarded {
		g.validateAll(ctx, who)
		return
	}
	w, host, err := g.described(ctx)
	if err == nil && who.byBrowser {
		err = g.foreignPage(ctx, host)
	}
	if err != nil {
		g.answerError(ctx, "", err)
		return
	}
	route, op, err := g.judge(ctx, w, who)
	if err == nil {
		plain(ctx, http.StatusOK, "OK")
	}
	g.conclude(ctx, w, route, op, who, err)
}

// validateAll answers 200 to those who may do everything.
func (g *Gateway) validateAll(ctx *fasthttp.RequestCtx, who caller) {
	op := operation{what: "everything", on: []target{{namespace: "*", name: "*"}}, run: func(context.Context) error { return nil }}
	var err error
	if who.byBrowser {
		err = g.foreignPage(ctx, string(ctx.Host()))
	}
	for _, action := range iam.Actions() {
		if err == nil && authorize(action, op, who, true) != nil {
			err = &provider.Error{Status: http.StatusForbidden, Message: fmt.Sprintf("insufficient permissions: want * on *, of which %s is missing. "+
				"The gateway that asks need not say what for; if it does, as gatehound, set validate_forwarded=true here", action)}
		}
	}
	if err == nil {
		plain(ctx, http.StatusOK, "OK")
	}
	g.conclude(ctx, wish{elsewhere: true}, &route{method: clip(string(ctx.Method())), action: "*"}, op, who, err)
}

// described returns the request to /system/ that another gateway describes, and
// the host that was asked for it.
func (g *Gateway) described(ctx *fasthttp.RequestCtx) (w wish, host string, err error) {
	w = wish{body: func() ([]byte, error) { return readBody(ctx, maxBody) }, elsewhere: true}
	if w.method, err = forwarded(ctx, "X-Forwarded-Method"); err != nil {
		return wish{}, "", err
	}
	uri, err := forwarded(ctx, "X-Forwarded-Uri")
	if err != nil {
		return wish{}, "", err
	}
	if host, err = forwarded(ctx, "X-Forwarded-Host"); err != nil {
		return wish{}, "", err
	}
	w.path, w.query, err = splitForwarded(uri)
	return w, host, err
}

// splitForwarded splits an X-Forwarded-Uri into the path and the query with its
// question mark.
func splitForwarded(uri string) (path, query string, err error) {
	if !strings.HasPrefix(uri, administration) {
		return "", "", badRequest("X-Forwarded-Uri %q: want a path below %s", clip(uri), administration)
	}
	path = uri
	if i := strings.IndexByte(uri, '?'); i >= 0 {
		path, query = uri[:i], uri[i:]
	}
	return path, query, checkTarget(path, query)
}

// forwarded returns the value of a header that describes a request. A second
// one, also one that is only spelt alike to CGI programs, has not been written
// by the gateway that asks.
func forwarded(ctx *fasthttp.RequestCtx, name string) (string, error) {
	var values []string
	for n, value := range ctx.Request.Header.All() {
		if strings.EqualFold(foldHeader(string(n)), name) {
			values = append(values, string(value))
		}
	}
	if len(values) != 1 || values[0] == "" {
		return "", badRequest("there are %d headers %s: with validate_forwarded=true, the gateway that asks has to set exactly one", len(values), name)
	}
	return values[0], nil
}
