package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// route is one line of the table: what answers a method on a path. Paths below
// /system/ are for the administrator alone: see dispatch.
type route struct {
	method string
	// path is compared byte by byte; a trailing "{}" stands for one segment,
	// which the handler gets as its parameter.
	path   string
	handle func(ctx *fasthttp.RequestCtx, parameter string)
}

func (r route) match(path string) (parameter string, ok bool) {
	prefix, hasParameter := strings.CutSuffix(r.path, "{}")
	if !hasParameter {
		return "", path == r.path
	}
	parameter, ok = strings.CutPrefix(path, prefix)
	return parameter, ok && parameter != "" && !strings.Contains(parameter, "/")
}

// table lists everything the gateway answers besides /function/.
func (g *Gateway) table() []route {
	routes := []route{
		{http.MethodGet, "/healthz", g.health},
		{http.MethodGet, issuer.DiscoveryPath, document(func() []byte { return g.config.Issuer.Discovery(tokenPath) })},
		{http.MethodGet, issuer.KeysPath, document(g.config.Issuer.JWKS)},
		{http.MethodPost, tokenPath, g.exchangeToken},

		{http.MethodGet, "/system/info", g.info},
		{http.MethodGet, "/system/functions", g.listFunctions},
		{http.MethodGet, "/system/function/{}", g.describeFunction},
	}
	for path, body := range g.config.Documents {
		routes = append(routes, route{http.MethodGet, path, document(func() []byte { return body })})
	}
	return routes
}

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
		g.config.Log.Error().Msgf("token exchange: %v", err)
		plain(ctx, http.StatusInternalServerError, "the token could not be issued")
		return
	}
	g.metrics.exchanged(refusal.Code)
	g.config.Log.Info().Str("error", refusal.Code).Str("remote", ctx.RemoteAddr().String()).Msgf("token exchange refused: %s", refusal.Description)
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

// maxForm bounds what is read of a token request; package exchange is
// stricter about what is in it.
const maxForm = 64 << 10

var errBodyTooLarge = errors.New("the request body is too large")

// readBody reads a request body of at most limit bytes. fasthttp's own limit
// does not hold for streamed bodies.
func readBody(ctx *fasthttp.RequestCtx, limit int) ([]byte, error) {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		body := ctx.Request.Body()
		if len(body) > limit {
			return nil, errBodyTooLarge
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, int64(limit)+1))
	switch {
	case err != nil:
		return nil, errors.New("the request body is broken or ended early")
	case len(body) > limit:
		return nil, errBodyTooLarge
	}
	return body, nil
}

func (g *Gateway) info(ctx *fasthttp.RequestCtx, _ string) {
	release, revision := config.Version()
	answerJSON(ctx, http.StatusOK, types.ProviderInfo{
		Name:          "gatehound",
		Orchestration: "processes",
		Version:       &types.VersionInfo{Release: release, SHA: revision},
	})
}

func (g *Gateway) listFunctions(ctx *fasthttp.RequestCtx, _ string) {
	if functions, ok := g.functionsIn(ctx); ok {
		answerJSON(ctx, http.StatusOK, functions)
	}
}

func (g *Gateway) describeFunction(ctx *fasthttp.RequestCtx, name string) {
	functions, ok := g.functionsIn(ctx)
	if !ok {
		return
	}
	for _, f := range functions {
		if f.Name == name {
			answerJSON(ctx, http.StatusOK, f)
			return
		}
	}
	plain(ctx, http.StatusNotFound, fmt.Sprintf("function %q not found", clip(name)))
}

// functionsIn lists the functions of the namespace that the query names, or of
// the default one, or answers why it cannot.
func (g *Gateway) functionsIn(ctx *fasthttp.RequestCtx) ([]types.FunctionStatus, bool) {
	namespace := cmp.Or(string(ctx.QueryArgs().Peek("namespace")), g.config.DefaultNamespace)
	if !config.ValidName(namespace) {
		plain(ctx, http.StatusBadRequest, fmt.Sprintf("namespace %q: want a DNS label", clip(namespace)))
		return nil, false
	}
	bounded, cancel := bound()
	defer cancel()
	functions, err := g.config.Provider.List(bounded, namespace)
	if err != nil {
		g.config.Log.Error().Msg(err.Error())
		plain(ctx, statusOf(err), "the functions provider cannot be reached")
		return nil, false
	}
	return functions, true
}

// bound limits work done for a request that is not a function call. It does
// not derive from the request: fasthttp reuses that once the handler returns.
func bound() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 15*time.Second)
}
