package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// invoke forwards one function call: after is what follows /function/ in the
// path, query the query with its question mark.
func (g *Gateway) invoke(ctx *fasthttp.RequestCtx, after, query []byte, started time.Time) {
	label, rest := after, []byte("/")
	if i := bytes.IndexByte(after, '/'); i >= 0 {
		label, rest = after[:i], after[i:]
	}
	f, ok := g.functionName(label)
	if !ok {
		setRequestID(ctx)
		plain(ctx, http.StatusNotFound, fmt.Sprintf("%q is not the name of a function: want /function/<name> or /function/<name>.<namespace>", clip(string(label))))
		return
	}
	if err := g.identify(ctx, started); err != nil {
		g.answerError(ctx, "", err)
		return
	}
	g.config.Dashboard.hideCookies(ctx)
	endpoint, ready := g.config.Provider.Ready(f)
	if !ready {
		var err error
		waiting, stop := g.attend(ctx)
		endpoint, err = g.config.Provider.Endpoint(waiting, f)
		stop()
		if err != nil {
			g.refuseEndpoint(ctx, f, err)
			return
		}
	}

	if endpoint.Prefix != "" && climbs(rest) {
		plain(ctx, http.StatusBadRequest, `the path has a ".." segment or a bad percent-encoding`)
		return
	}
	counted, meter := g.metrics.functions.invoked(f), g.meter(f, endpoint)
	target := make([]byte, 0, len(endpoint.Prefix)+len(rest)+len(query))
	target = append(append(append(target, endpoint.Prefix...), rest...), query...)
	withheld := g.withheld
	if g.config.Dashboard.isHere(ctx) {
		withheld = g.withheldHere
	}
	err := endpoint.Upstream.Forward(ctx, reverseproxy.Options{
		Target:      target,
		Host:        endpoint.Host,
		Timeout:     g.config.UpstreamTimeout,
		IdleTimeout: g.config.UpstreamTimeout,
		Withhold:    withheld,
	})
	if err != nil {
		g.refuse(ctx, f, err)
	} else {
		g.config.Dashboard.sandbox(ctx)
	}
	counted.end(ctx.Response.StatusCode())
	if meter != nil {
		meter(ctx)
	}
}

// invokeAsync refuses a call that is to be queued, and the deletion of one that
// was: there is no queue yet, and a 404 would be taken for a missing function.
func (g *Gateway) invokeAsync(ctx *fasthttp.RequestCtx, after string) {
	label, _, _ := strings.Cut(after, "/")
	switch method := string(ctx.Method()); {
	case method == http.MethodPost:
		f, ok := g.functionName([]byte(label))
		if !ok {
			plain(ctx, http.StatusNotFound, fmt.Sprintf("%q is not the name of a function: want /async-function/<name> or /async-function/<name>.<namespace>", clip(label)))
			return
		}
		plain(ctx, http.StatusNotImplemented, fmt.Sprintf("async calls are not implemented in this release: call /function/%s", f))
	case method == http.MethodDelete && label != "":
		plain(ctx, http.StatusNotImplemented, "async calls are not implemented in this release: there is none to delete")
	default:
		ctx.Response.Header.Set("Allow", "POST, DELETE")
		plain(ctx, http.StatusMethodNotAllowed, clip(method)+" is not allowed here, try POST or DELETE")
	}
}

// climbs reports whether path may have a ".." segment, encoded or not. What
// stands behind a provider's prefix must stay there: whoever resolves the path
// on the way (a service mesh, a reverse proxy) would else turn a call to a
// function into one to the provider's /system/, which nobody has authorized.
func climbs(path []byte) bool {
	decoded, err := url.PathUnescape(string(path))
	if err != nil {
		return true // there is no telling what others make of it
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(decoded, `\`, "/"), "/") {
		if segment, _, _ = strings.Cut(segment, ";"); segment == ".." { // with a parameter, to Java servers
			return true
		}
	}
	return false
}

const (
	// attendAfter is how old a call is before its client is looked for.
	attendAfter = 30 * time.Millisecond
	attendEvery = 200 * time.Millisecond
)

// attend returns a context for what a call waits for before it is forwarded, a
// function that starts say. It ends when the client goes away, unless the request
// body, of which nothing has been read yet, hides that.
func (g *Gateway) attend(ctx *fasthttp.RequestCtx) (waiting context.Context, stop func()) {
	waiting, cancel := context.WithCancelCause(context.Background())
	conn := ctx.Conn()
	timer := time.AfterFunc(attendAfter, func() {
		for !reverseproxy.Gone(conn) {
			select {
			case <-waiting.Done():
				return
			case <-time.After(attendEvery):
			}
		}
		cancel(reverseproxy.ErrClientGone)
	})
	return waiting, func() {
		// What was waited for is not the client's time to send its request.
		if !timer.Stop() && g.config.ReadTimeout > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(g.config.ReadTimeout))
		}
		cancel(nil)
	}
}

// refuseEndpoint answers a call for which the provider named no place to go.
func (g *Gateway) refuseEndpoint(ctx *fasthttp.RequestCtx, f provider.Function, err error) {
	log := func(e *zerolog.Event) { named(ctx, e).Str("function", f.String()).Msg(err.Error()) }
	var refusal *provider.Error
	switch {
	case errors.Is(err, provider.ErrNotFound):
		plain(ctx, http.StatusNotFound, fmt.Sprintf("function %q not found in namespace %q", f.Name, f.Namespace))
	case errors.As(err, &refusal):
		if err != error(refusal) {
			log(g.config.Log.Warn()) // it has more to say than callers are told
		}
		// It does not start, say. Worth another try, as by the queue's workers.
		if refusal.Status == http.StatusServiceUnavailable {
			ctx.Response.Header.Set("Retry-After", "1")
		}
		plain(ctx, refusal.Status, refusal.Message)
	case errors.Is(err, reverseproxy.ErrClientGone):
		log(g.config.Log.Warn())
		plain(ctx, statusClientGone, "client closed the connection")
	case errors.Is(err, context.DeadlineExceeded):
		log(g.config.Log.Error())
		plain(ctx, http.StatusGatewayTimeout, fmt.Sprintf("the functions provider did not say in time whether there is a function %s", f))
	default:
		log(g.config.Log.Error())
		plain(ctx, http.StatusBadGateway, "the functions provider cannot be reached")
	}
}

// statusClientGone is nginx's "client closed request". Nobody reads the answer;
// the status is for the metrics and the log.
const statusClientGone = 499

// refuse answers a call that the function did not.
func (g *Gateway) refuse(ctx *fasthttp.RequestCtx, f provider.Function, err error) {
	status, line := http.StatusBadGateway, fmt.Sprintf("function %s cannot be reached", f)
	switch {
	case errors.Is(err, reverseproxy.ErrTimeout):
		status, line = http.StatusGatewayTimeout, fmt.Sprintf("function %s gave no answer within the upstream_timeout of %s", f, g.config.UpstreamTimeout)
	case errors.Is(err, reverseproxy.ErrBadBody):
		status, line = http.StatusBadRequest, "the request body is broken or ended early"
	case errors.Is(err, reverseproxy.ErrClientGone):
		status, line = statusClientGone, "client closed the connection"
	}
	named(ctx, g.config.Log.Warn()).Str("function", f.String()).Int("status", status).Msg(err.Error())
	plain(ctx, status, line)
}

// functionName reads "name" or "name.namespace".
func (g *Gateway) functionName(label []byte) (provider.Function, bool) {
	f, dotted, ok := parseFunction(string(label))
	if !dotted {
		f.Namespace = g.config.DefaultNamespace
	}
	return f, ok
}

// parseFunction reads "name", which has no namespace, or "name.namespace".
func parseFunction(label string) (f provider.Function, dotted, ok bool) {
	f.Name = label
	if i := strings.LastIndexByte(label, '.'); i >= 0 {
		f.Name, f.Namespace, dotted = label[:i], label[i+1:], true
	}
	return f, dotted, config.ValidName(f.Name) && (!dotted || config.ValidName(f.Namespace))
}

// identify gives a call and its answer X-Call-Id, the caller's if it sent one,
// and X-Start-Time in nanoseconds. Names come in the case in which the caller
// wrote them, so what is replaced is looked for by hand.
//
// It takes the administrator's password out of the call. A browser that
// remembers it sends it by itself to whatever of our origin answers 401 with our
// realm (RFC 7617 §2), and every function can. Functions can tell that it is gone, so
// that whoever is told too much already gets an error.
func (g *Gateway) identify(ctx *fasthttp.RequestCtx, started time.Time) error {
	h := &ctx.Request.Header
	var callID []byte
	var replaced []string
	var tooMany error
	for name, value := range reverseproxy.Fields(h) { // All would take the quotes off cookies
		switch {
		case equalFold(name, callIDHeader):
			if len(callID) == 0 {
				callID = bytes.Clone(value)
			}
		case equalFold(name, startTimeHeader):
		case equalFold(name, "Authorization") && g.config.Admin.Names([][]byte{value}):
			right := g.config.Admin.Match([][]byte{value})
			if err := g.boundGuesses(ctx, value, right); err != nil {
				tooMany = err
			}
			if !right {
				continue
			}
		default:
			continue
		}
		replaced = append(replaced, string(name))
	}
	for _, name := range replaced {
		h.Del(name)
	}
	if len(callID) == 0 {
		callID = appendID(make([]byte, 0, 36))
	}
	startTime := strconv.AppendInt(make([]byte, 0, 20), started.UnixNano(), 10)
	h.SetCanonical([]byte(callIDHeader), callID)
	h.SetCanonical([]byte(startTimeHeader), startTime)
	// Set before the answer comes, they win over the function's own.
	ctx.Response.Header.SetCanonical([]byte(callIDHeader), callID)
	ctx.Response.Header.SetCanonical([]byte(startTimeHeader), startTime)
	return tooMany
}

// equalFold compares field names without regard to case. Most differ in length.
func equalFold(name []byte, other string) bool {
	return len(name) == len(other) && strings.EqualFold(string(name), other)
}

// clip bounds what an error says back of what a client sent.
func clip(s string) string { return s[:min(len(s), 80)] }
