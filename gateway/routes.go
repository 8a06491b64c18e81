package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/gateway/provider"
)

// administration is the path that API tokens and the administrator's password
// are for.
const administration = "/system/"

// route is one line of the table: what answers a method on a path.
type route struct {
	method string
	// path is compared byte by byte; a trailing "{}" stands for one segment,
	// which is the route's parameter.
	path string

	// answer is set outside of /system/, where everybody may come in.
	answer func(ctx *fasthttp.RequestCtx, parameter string)

	// action is what must be granted on what the request is about; "" = any
	// caller who is known may.
	action string
	// read is set below /system/. It finds out what the request is about, and
	// does nothing yet: see administer.
	read func(r *request) (operation, error)
}

// table lists everything the gateway answers besides /function/. Where the
// namespace and the name come from is with each of the functions in the last
// column.
func (g *Gateway) table() []route {
	public := func(method, path string, answer func(*fasthttp.RequestCtx, string)) route {
		return route{method: method, path: path, answer: answer}
	}
	guarded := func(method, path, action string, read func(*request) (operation, error)) route {
		return route{method: method, path: path, action: action, read: read}
	}
	routes := []route{
		public("GET", "/healthz", g.health),
		public("GET", issuer.DiscoveryPath, document(func() []byte { return g.config.Issuer.Discovery(tokenPath) })),
		public("GET", issuer.KeysPath, document(g.config.Issuer.JWKS)),
		public("POST", tokenPath, g.exchangeToken),
		public("GET", "/openapi.json", describeAPI("application/json", openAPIJSON())),
		public("GET", "/openapi.yaml", describeAPI("application/yaml", openAPI)),

		guarded("GET", "/system/info", "System:Info", g.info),
		guarded("GET", "/system/functions", "Function:List", g.listFunctions),
		guarded("POST", "/system/functions", "Function:Create", g.deploy),
		guarded("PUT", "/system/functions", "Function:Update", g.update),
		guarded("DELETE", "/system/functions", "Function:Delete", g.deleteFunction),
		guarded("GET", "/system/function/{}", "Function:Get", g.describe),
		guarded("POST", "/system/scale-function/{}", "Function:Scale", g.scale),
		guarded("GET", "/system/logs", "Function:Logs", g.logs),
		guarded("GET", "/system/secrets", "Secret:List", g.listSecrets),
		guarded("POST", "/system/secrets", "Secret:Create", g.createSecret),
		guarded("PUT", "/system/secrets", "Secret:Update", g.updateSecret),
		guarded("DELETE", "/system/secrets", "Secret:Delete", g.deleteSecret),
		guarded("GET", "/system/namespaces", "Namespace:List", g.listNamespaces),
		guarded("GET", "/system/namespace/{}", "Namespace:Get", g.describeNamespace),
		guarded("POST", "/system/namespace/{}", "Namespace:Create", g.createNamespace),
		guarded("POST", "/system/namespace/", "Namespace:Create", g.createNamespace),
		guarded("PUT", "/system/namespace/{}", "Namespace:Update", g.updateNamespace),
		guarded("DELETE", "/system/namespace/{}", "Namespace:Delete", g.deleteNamespace),
		guarded("POST", "/system/alert", "Function:Scale", g.alert),
		guarded("POST", "/system/telemetry", "", g.telemetry),
	}
	if g.plugin == nil {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			routes = append(routes, public(method, "/validate", g.validate)) // it asks for credentials itself
		}
	}
	for path, body := range g.config.Documents {
		routes = append(routes, public("GET", path, document(func() []byte { return body })))
	}
	return routes
}

func (r route) match(path string) (parameter string, ok bool) {
	prefix, hasParameter := strings.CutSuffix(r.path, "{}")
	if !hasParameter {
		return "", path == r.path
	}
	parameter, ok = strings.CutPrefix(path, prefix)
	return parameter, ok && parameter != "" && !strings.Contains(parameter, "/")
}

// changes reports whether the route is for more than looking.
func (r route) changes() bool { return r.method != http.MethodGet }

// find returns the route of a request, and the path's last segment where it has
// a parameter. The error is what to answer.
func (g *Gateway) find(ctx *fasthttp.RequestCtx, method, path string) (*route, string, error) {
	var allowed []string
	for i := range g.routes {
		r := &g.routes[i]
		parameter, matches := r.match(path)
		switch {
		case !matches:
		case r.method == method || r.method == http.MethodGet && method == http.MethodHead:
			return r, parameter, nil
		default:
			allowed = append(allowed, r.method)
		}
	}
	if allowed == nil {
		return nil, "", &provider.Error{Status: http.StatusNotFound, Message: "no such page"}
	}
	ctx.Response.Header.Set("Allow", strings.Join(allowed, ", "))
	return nil, "", &provider.Error{Status: http.StatusMethodNotAllowed, Message: fmt.Sprintf("%s is not allowed here, try %s", clip(method), strings.Join(allowed, " or "))}
}

// bound limits work done for a request that is not a function call. It does
// not derive from the request: fasthttp reuses that once the handler returns.
func bound() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 15*time.Second)
}

// boundOperation limits what the provider is asked to do: some pull an image
// before they answer.
func (g *Gateway) boundOperation() (context.Context, context.CancelFunc) {
	if g.config.UpstreamTimeout == 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), g.config.UpstreamTimeout)
}
