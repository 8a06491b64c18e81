package gateway

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/gateway/events"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Auditing makes an event of each request to /system/.
type Auditing struct {
	Outbox *events.Outbox
	// Verbs are the methods of those requests.
	Verbs []string
}

// audit is the event of one request to /system/; nil = it has none.
type audit struct {
	gateway *Gateway
	ctx     *fasthttp.RequestCtx
	event   types.APIAccessEvent
}

// beginAudit returns the event of a request that has just come. The error is what
// to answer: what cannot be recorded, where it must be, is not done.
func (g *Gateway) beginAudit(ctx *fasthttp.RequestCtx, w wish) (*audit, error) {
	if g.config.Auditing == nil || !slices.Contains(g.config.Auditing.Verbs, w.method) {
		return nil, nil
	}
	if err := g.config.Auditing.Outbox.Ready(); err != nil {
		named(ctx, g.config.Log.Error()).Str("method", w.method).Str("path", clip(w.path)).Msgf("refused, as it cannot be audited: %v", err)
		return nil, &provider.Error{Status: http.StatusServiceUnavailable, Message: "this request must be audited (auditing_mandatory), and cannot be at the moment"}
	}
	// The query is left out: it may hold what the caller should not have put there.
	return &audit{g, ctx, types.APIAccessEvent{
		Path: shorten(w.path), Method: w.method, Actions: []string{}, Time: time.Now().UTC(),
		ResponseCode: http.StatusInternalServerError, // of a panic
	}}, nil
}

// by notes who sent the request; nobody who is known has no actor.
func (a *audit) by(who caller) {
	if a != nil {
		a.event.Actor = who.actor
	}
}

// about notes what the request is for, as far as that was found out.
func (a *audit) about(r *route, op operation) {
	if a == nil || r == nil {
		return
	}
	if r.action != "" {
		a.event.Actions = append(a.event.Actions, r.action)
	}
	a.event.CustomMessage = shorten(op.what)
	for i, t := range op.on {
		if t.namespace == "*" || i > 0 && t.namespace != a.event.Namespace {
			a.event.Namespace = ""
			return
		}
		a.event.Namespace = t.namespace
	}
}

// answered notes the answer.
func (a *audit) answered() {
	if a != nil {
		a.event.ResponseCode = a.ctx.Response.StatusCode()
	}
}

// end records the event, before the answer is on its way. It is deferred, as a
// panic is answered, too, after it.
func (a *audit) end() {
	if a == nil {
		return
	}
	if err := a.gateway.config.Auditing.Outbox.Append(a.event); err != nil {
		// It is done: the log is what is left to say so.
		named(a.ctx, a.gateway.config.Log.Error()).Str("method", a.event.Method).Str("path", clip(a.event.Path)).
			Int("status", a.event.ResponseCode).Msgf("its audit event could not be kept: %v", err)
	}
}

// maxEventText bounds what an event says in the words of others, in bytes, so that
// nobody pushes other events out of a spool with a few long paths.
const maxEventText = 1024

func shorten(s string) string {
	if len(s) <= maxEventText {
		return s
	}
	return strings.ToValidUTF8(s[:maxEventText], "") + "..."
}
