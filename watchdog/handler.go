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

// slotGrace is how long a request waits for a slot of max_inflight before it is
// refused. A client can have the whole answer a moment before its slot is free;
// its next request, on another connection, must not be refused for that.
const slotGrace = 10 * time.Millisecond

// serve is the whole way of a request: recover, health checks, authentication,
// limit, function.
//
// Paths are compared in one form, the raw request target's. Whatever is not
// exactly a health check, such as /%5f/health or //_/health, needs a token.
func (w *Watchdog) serve(ctx *fasthttp.RequestCtx) {
	r := &request{watchdog: w, start: time.Now(), outcome: failed, client: ctx.Conn().(*reverseproxy.Client)}
	defer r.finish(ctx)
	defer w.recover(ctx)

	target := originForm(ctx.Request.Header.RequestURI())
	switch path, _, _ := bytes.Cut(ctx.Request.Header.RequestURI(), []byte("?")); string(path) {
	case "/_/health":
		w.serveHealth(ctx)
		return
	case "/_/ready":
		w.serveReady(ctx)
		return
	}

	h := headersOf(ctx)
	r.begin(ctx, target, h)

	// Before the limit: who has no token must not use it up.
	if w.verifier != nil {
		if err := w.verifier.Verify(w.life, h.authorization...); err != nil {
			r.outcome = refused
			w.refuse(ctx, err)
			return
		}
	}

	if w.slots != nil {
		if !w.takeSlot() {
			r.outcome = refused
			ctx.Response.Header.Set(internalHeader, byMiddleware)
			fail(ctx, http.StatusTooManyRequests, "text/plain",
				fmt.Sprintf("Concurrent request limit exceeded. Max concurrent requests: %d\n", w.settings.MaxInflight))
			return
		}
		r.slot = true
	}

	r.outcome = w.invoke(ctx, executor.Call{Target: target, Timeout: shorter(w.settings.ExecTimeout, h.timeout)})
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
	case w.slots != nil && len(w.slots) == cap(w.slots):
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
	h.SetRequestURI(w.settings.ReadyPath)
	w.invoke(ctx, executor.Call{Target: []byte(w.settings.ReadyPath), Timeout: w.settings.ExecTimeout})
}

// refuse answers a request that may not pass. faas-cli compares the realm.
func (w *Watchdog) refuse(ctx *fasthttp.RequestCtx, err error) {
	status := auth.Status(err)
	if w.settings.JWTAuthDebug {
		w.log.Printf("Refused with %d: %s", status, escape(err.Error()))
	}
	by := byMiddleware
	switch status {
	case http.StatusUnauthorized:
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer realm=IAM function invoke")
	case http.StatusServiceUnavailable:
		ctx.Response.Header.Set("Retry-After", "1")
		by = byWatchdog
	}
	ctx.Response.Header.Set(internalHeader, by)
	fail(ctx, status, "text/plain; charset=utf-8", err.Error()+"\n")
}

func (w *Watchdog) takeSlot() bool {
	select {
	case w.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(slotGrace)
	defer timer.Stop()
	select {
	case w.slots <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

func (w *Watchdog) invoke(ctx *fasthttp.RequestCtx, call executor.Call) outcome {
	err := w.function.Invoke(ctx, call)
	if err == nil {
		return answered
	}
	err = whose(err, ctx.Conn().(*reverseproxy.Client))
	status, internal := executor.Status(err)
	w.log.Printf("Call failed with %d: %s", status, escape(err.Error()))
	if status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge {
		ctx.SetConnectionClose() // where this request ends is not certain
	}
	if internal {
		ctx.Response.Header.Set(internalHeader, byWatchdog)
	}
	body := statusText(status)
	if errors.Is(err, executor.ErrFailed) {
		body = err.Error()
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

// headers are those the watchdog itself reads.
type headers struct {
	authorization [][]byte
	timeout       string
	callID        string
	probe         bool // from the kubelet
}

// headersOf finds headers whatever their case: names are not normalized, since
// they are passed on as they came. Every Authorization counts, so that nobody
// shows us one and the function another.
func headersOf(ctx *fasthttp.RequestCtx) (h headers) {
	for name, value := range ctx.Request.Header.All() {
		switch {
		case equalFold(name, "Authorization"):
			h.authorization = append(h.authorization, value)
		case equalFold(name, "X-Timeout"):
			h.timeout = string(value)
		case equalFold(name, "X-Call-Id"):
			h.callID = string(value)
		}
	}
	h.probe = bytes.HasPrefix(ctx.UserAgent(), []byte("kube-probe"))
	return h
}

func equalFold(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}

// shorter returns limit, or the positive duration in header if that is less.
// limit 0 = none.
func shorter(limit time.Duration, header string) time.Duration {
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
