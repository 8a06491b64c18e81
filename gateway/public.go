package gateway

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/exchange"
)

const tokenPath = "/oauth/token"

func (g *Gateway) health(ctx *fasthttp.RequestCtx, _ string) {
	plain(ctx, http.StatusOK, "OK")
}

// document serves a JSON document as it is at the moment. How long caches may
// keep it adds to what a new key has to be published before it signs.
func document(body func() []byte) func(*fasthttp.RequestCtx, string) {
	return func(ctx *fasthttp.RequestCtx, _ string) {
		ctx.Response.Header.SetContentType("application/json")
		ctx.Response.Header.Set("Cache-Control", "public, max-age=60")
		ctx.Response.SetBody(body())
	}
}

// answerJSON answers with v.
func answerJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		plain(ctx, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBody(body)
}

// exchangeToken is the token endpoint of RFC 8693.
func (g *Gateway) exchangeToken(ctx *fasthttp.RequestCtx, _ string) {
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.Header.Set("Pragma", "no-cache")
	response, err := g.exchangeRequest(ctx)
	if err == nil {
		g.metrics.exchanged("ok")
		answerJSON(ctx, http.StatusOK, response)
		return
	}
	var refusal *exchange.Error
	if !errors.As(err, &refusal) {
		g.metrics.exchanged("server_error")
		named(ctx, g.config.Log.Error()).Msgf("token exchange: %v", err)
		plain(ctx, http.StatusInternalServerError, "the token could not be issued")
		return
	}
	g.metrics.exchanged(refusal.Code)
	named(ctx, g.config.Log.Info()).Str("error", refusal.Code).Str("remote", ctx.RemoteAddr().String()).Msgf("token exchange refused: %s", refusal.Description)
	answerJSON(ctx, refusal.Status(), refusal)
}

func (g *Gateway) exchangeRequest(ctx *fasthttp.RequestCtx) (exchange.Response, error) {
	body, err := readBody(ctx, maxForm)
	if err != nil {
		return exchange.Response{}, &exchange.Error{Code: exchange.InvalidRequest, Description: err.Error()}
	}
	request, err := exchange.ParseRequest(string(body), string(ctx.URI().QueryString()))
	if err != nil {
		return exchange.Response{}, err
	}
	bounded, cancel := bound()
	defer cancel()
	return g.config.Exchange.Exchange(bounded, request)
}
