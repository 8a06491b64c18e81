package watchdog

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Who made an error, as queue workers and faas-cli want to know it.
const (
	internalHeader = "X-OpenFaaS-Internal"
	byWatchdog     = "of-watchdog"
	byMiddleware   = "faas-middleware"
)

// serve is the whole way of a request: recover, health checks, authentication,
// limit, function.
//
// Paths are compared in one form, the raw request target's. Whatever is not
// exactly a health check, such as /%5f/health or //_/health, needs a token.
func (w *Watchdog) serve(ctx *fasthttp.RequestCtx) {
	r, admitted := ctx.UserValue(admittedKey{}).(*request)
	if admitted {
		r.outcome = failed // unless it ends well
	} else {
		r = newRequest(w, ctx, ctx.Time())
	}
	defer r.finish(ctx)
	defer w.recover(ctx)

	switch string(pathOf(ctx)) {
	case "/_/health":
		w.serveHealth(ctx)
		return
	case "/_/ready":
		w.serveReady(ctx)
		return
	}
	if (admitted || w.admit(ctx, r)) && (r.signature == nil || w.admitBody(ctx, r)) {
		if err := w.identity.rewrite(&ctx.Request.Header, r.caller); err != nil {
			panic(err) // what was parsed once is good to be parsed again
		}
		call := executor.Call{Target: originForm(ctx.Request.Header.RequestURI()), Timeout: shorter(w.settings.ExecTimeout, r.timeout)}
		call.DropTrailers = len(w.identity.headers) > 0
		// What a function takes for another request of its caller's is harmless
		// unless that is more than the caller could send: with somebody's name
		// on it, or past the token.
		call.CloseAfterBody = len(w.identity.headers) > 0 || w.verifier != nil && r.caller == nil
		call.Traceparent = r.startSpan(ctx)
		r.outcome = w.invoke(ctx, call)
	}
}

// admittedKey is where expect leaves the *request for serve.
type admittedKey struct{}

// expect decides on a request whose client waits to be invited to send the
// body: whoever is refused need not send it.
func (w *Watchdog) expect(ctx *fasthttp.RequestCtx) (invite bool) {
	switch string(pathOf(ctx)) {
	case "/_/health", "/_/ready":
		return true
	}
	r := newRequest(w, ctx, time.Now()) // ctx.Time is that of the request before
	defer func() {
		if !invite {
			r.finish(ctx)
		}
	}()
	defer w.recover(ctx)
	if !w.admit(ctx, r) {
		return false
	}
	// The client may leave before serve: the connection then gives back the slot.
	r.status, r.length, r.outcome = statusClientGone, 0, clientClosed
	r.client.OnDone(r.done)
	ctx.SetUserValue(admittedKey{}, r)
	return true
}

// admit counts a request, checks its token and takes its slot, or answers it
// and returns false. Of a request whose signature decides it only reads that.
func (w *Watchdog) admit(ctx *fasthttp.RequestCtx, r *request) bool {
	var one [1][]byte
	h, authorization := headersOf(ctx, one[:0])
	r.begin(ctx, originForm(ctx.Request.Header.RequestURI()), h)

	// Before the limit: who has no token must not use it up.
	if w.webhooks != nil && (w.verifier == nil || w.webhooks.signed(ctx)) {
		return w.admitHeader(ctx, r)
	}
	if w.verifier != nil && w.public(ctx) {
		w.metrics.auth["skipped"].Inc()
	} else if w.verifier != nil {
		caller, err := w.verifier.Verify(w.life, authorization...)
		w.metrics.auth[authResult(err)].Inc()
		if err != nil {
			r.outcome = refused
			w.refuse(ctx, err)
			return false
		}
		r.caller = caller
	}
	return w.takeSlot(ctx, r)
}

// takeSlot takes one of max_inflight, or answers and returns false.
func (w *Watchdog) takeSlot(ctx *fasthttp.RequestCtx, r *request) bool {
	if w.limit != nil {
		if !w.limit.take(w.life) {
			r.outcome = refused
			ctx.Response.Header.Set(internalHeader, byMiddleware)
			ctx.Response.Header.Set("Retry-After", "1")
			fail(ctx, http.StatusTooManyRequests, "text/plain",
				fmt.Sprintf("Concurrent request limit exceeded. Max concurrent requests: %d\n", w.settings.MaxInflight))
			return false
		}
		r.slot = true
	}
	return true
}

// pathOf returns the path of the request target as it came.
func pathOf(ctx *fasthttp.RequestCtx) []byte {
	path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?"))
	return path
}

func (w *Watchdog) serveHealth(ctx *fasthttp.RequestCtx) {
	switch {
	case !ctx.IsGet():
		ctx.SetStatusCode(http.StatusMethodNotAllowed)
	case !w.healthy():
		ctx.SetStatusCode(http.StatusServiceUnavailable)
	default:
		ctx.SetBodyString("OK")
	}
}

func (w *Watchdog) serveReady(ctx *fasthttp.RequestCtx) {
	switch {
	case !ctx.IsGet():
		ctx.SetStatusCode(http.StatusMethodNotAllowed)
	case !w.healthy(), !w.function.Ready(), w.keys != nil && !w.keys.Ready():
		ctx.SetStatusCode(http.StatusServiceUnavailable)
	case w.limit != nil && w.limit.full():
		ctx.SetStatusCode(http.StatusTooManyRequests)
	case w.settings.ReadyPath != "":
		w.askFunction(ctx)
	}
}

// askFunction answers with what the function says at ready_path. Nobody needs a
// token for that, so nothing of the caller's reaches the function: else
// /_/ready would be a way around jwt_auth.
func (w *Watchdog) askFunction(ctx *fasthttp.RequestCtx) {
	h := &ctx.Request.Header
	if n := h.ContentLength(); n > 0 || n == -1 {
		ctx.SetConnectionClose()
		fail(ctx, http.StatusBadRequest, "text/plain; charset=utf-8", "/_/ready takes no body\n")
		return
	}
	host, protocol := string(h.Host()), string(h.Protocol())
	h.Reset()
	h.DisableNormalizing()
	h.SetProtocol(protocol)
	h.SetHost(host)
	ctx.Request.SetRequestURI(w.settings.ReadyPath) // and not h's: what was parsed of the old one goes, too
	w.invoke(ctx, executor.Call{Target: []byte(w.settings.ReadyPath), Timeout: w.settings.ExecTimeout})
}

// refuse answers a request that may not pass.
func (w *Watchdog) refuse(ctx *fasthttp.RequestCtx, err error) {
	status, header, body := auth.Refusal(err)
	if w.settings.JWTAuthDebug {
		w.log.Printf("Refused with %d: %s", status, escape(err.Error()))
	}
	ctx.SetStatusCode(status)
	for _, h := range header {
		ctx.Response.Header.Set(h[0], h[1])
	}
	ctx.SetBodyString(body)
}

func (w *Watchdog) invoke(ctx *fasthttp.RequestCtx, call executor.Call) outcome {
	err := w.function.Invoke(ctx, call)
	if err == nil {
		return answered
	}
	err = whose(err, ctx.Conn().(*reverseproxy.Client))
	status, internal := executor.Status(err)
	w.metrics.failures[failureCause(err, status)].Inc()
	w.log.Printf("Call failed with %d: %s", status, escape(err.Error()))
	if status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge {
		ctx.SetConnectionClose() // where this request ends is not certain
	}
	if internal {
		ctx.Response.Header.Set(internalHeader, byWatchdog)
	}
	body := statusText(status)
	switch {
	case errors.Is(err, executor.ErrFailed):
		body = err.Error()
	case errors.Is(err, reverseproxy.ErrUnreachable):
		body += ": the function did not answer, or broke off"
	}
	fail(ctx, status, "text/plain; charset=utf-8", body+"\n")
	return outcomeOf(err)
}

// recover keeps one request's panic from ending the process. What was thrown
// may hold anything of the request, so the log has the place alone.
func (w *Watchdog) recover(ctx *fasthttp.RequestCtx) {
	if v := recover(); v != nil {
		w.log.Printf("BUG: panic (%T) while serving a request\n%s", v, debug.Stack())
		ctx.Response.Reset()
		ctx.Response.Header.Set(internalHeader, byWatchdog)
		fail(ctx, http.StatusInternalServerError, "text/plain; charset=utf-8", "Internal Server Error\n")
	}
}

func fail(ctx *fasthttp.RequestCtx, status int, contentType, body string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType(contentType)
	ctx.SetBodyString(body)
}

// statusClientGone stands in log and metrics for an answer that nobody was
// there to read; nginx' number.
const statusClientGone = 499

// headers are those the watchdog itself reads.
type headers struct {
	timeout string
	callID  string
	probe   bool // from the kubelet
}

// headersOf finds headers whatever their case: names are not normalized, since
// they are passed on as they came. Every Authorization counts, so that nobody
// shows us one and the function another: their values are appended to room.
func headersOf(ctx *fasthttp.RequestCtx, room [][]byte) (h headers, authorization [][]byte) {
	authorization = room
	for name, value := range reverseproxy.Fields(&ctx.Request.Header) {
		switch {
		case equalFold(name, "Authorization"):
			authorization = append(authorization, value)
		case equalFold(name, "X-Timeout"):
			h.timeout = string(value)
		case equalFold(name, "X-Call-Id"):
			h.callID = string(value)
		}
	}
	h.probe = bytes.HasPrefix(ctx.UserAgent(), []byte("kube-probe"))
	return h, authorization
}

func equalFold(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}

// shorter returns limit, or the positive duration in header if that is less.
// limit 0 = none.
func shorter(limit time.Duration, header string) time.Duration {
	if header == "" {
		return limit
	}
	d, err := time.ParseDuration(header)
	if err != nil || d <= 0 || limit > 0 && d > limit {
		return limit
	}
	return d
}

// originForm returns target without the scheme and host that a client may send
// to a proxy (RFC 9112, section 3.2.2).
func originForm(target []byte) []byte {
	if len(target) > 0 && target[0] == '/' {
		return target
	}
	_, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok {
		return target
	}
	switch i := bytes.IndexAny(rest, "/?"); {
	case i < 0:
		return []byte("/")
	case rest[i] == '?':
		return append([]byte("/"), rest[i:]...)
	default:
		return rest[i:]
	}
}
