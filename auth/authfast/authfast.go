// Package authfast lets only callers with a function token into a fasthttp
// handler. What a token must say is package auth's business.
package authfast

import (
	"bytes"
	"context"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
)

// Middleware returns a handler that calls next for requests v accepts, whose
// [Caller] next can ask for, and answers all others as fwatchdog does. All paths
// and methods need a token: leave health checks to another handler.
//
// fasthttp reads a body before it calls a handler, unless the server has
// StreamRequestBody: with that, whoever is refused need not send more than 8 KiB.
func Middleware(v *auth.Verifier, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		// Names come in any case where the server does not normalize them.
		// Every one counts, so that nobody shows us one and next another.
		var values [][]byte
		for name, value := range ctx.Request.Header.All() {
			if bytes.EqualFold(name, []byte("Authorization")) {
				values = append(values, value)
			}
		}
		// Not ctx: it is reused when this returns, and whoever waits on a
		// context may look at it a moment longer. The wait is 5s at most.
		caller, err := v.Verify(context.Background(), values...)
		if err != nil {
			status, header, body := auth.Refusal(err)
			ctx.SetStatusCode(status)
			for _, h := range header {
				ctx.Response.Header.Set(h[0], h[1])
			}
			ctx.SetBodyString(body)
			return
		}
		ctx.SetUserValue(callerKey{}, caller)
		next(ctx)
	}
}

type callerKey struct{}

// Caller returns whom a request speaks for that came through Middleware, else
// nil. It is shared with other requests and must not be changed.
func Caller(ctx *fasthttp.RequestCtx) *auth.Caller {
	caller, _ := ctx.UserValue(callerKey{}).(*auth.Caller)
	return caller
}
