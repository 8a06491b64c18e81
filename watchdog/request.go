package watchdog

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/webhook"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// request is what is kept of a request until its response is out, which for a
// stream is long after the handler has returned.
type request struct {
	watchdog *Watchdog
	client   *reverseproxy.Client
	start    time.Time
	counted  bool // false for health checks
	slot     bool // took one of max_inflight
	freeOnce sync.Once
	doneOnce sync.Once
	span     *span        // nil = not traced
	caller   *auth.Caller // nil = nobody in particular
	stream   bool         // the response goes on after the handler

	method, target, callID, timeout string
	probe                           bool
	signature                       *webhook.Signature // what is to decide; nil = a token, or nothing

	status  int
	outcome outcome
	length  int64 // of the body; -1 = unknown
	body    body
}

// body is a response's that streams.
type body interface {
	// Sent returns how many bytes it had so far.
	Sent() int64
	// Err says at its end why it was cut off; nil = it was not.
	Err() error
}

func newRequest(w *Watchdog, ctx *fasthttp.RequestCtx, start time.Time) *request {
	return &request{watchdog: w, start: start, outcome: failed, client: ctx.Conn().(*reverseproxy.Client)}
}

// begin counts the request. Everything that is needed later is copied: the
// server reuses ctx.
func (r *request) begin(ctx *fasthttp.RequestCtx, target []byte, h headers) {
	r.counted = true
	r.method, r.target, r.callID, r.probe = reverseproxy.Method(&ctx.Request.Header), string(target), h.callID, h.probe
	r.timeout = h.timeout
	r.watchdog.metrics.inFlight.Inc()
	r.watchdog.activity.begin(r.start)
}

// finish is the handler's end. Of a hijacked request it must not touch the
// header, nor the response's body. A response that streams, or a connection that was
// hijacked, is not done yet: the connection tells when.
func (r *request) finish(ctx *fasthttp.RequestCtx) {
	now := time.Now()
	var seconds [24]byte
	ctx.Response.Header.SetBytesV("X-Duration-Seconds", appendSeconds(seconds[:0], now.Sub(r.start), 6))
	if !r.watchdog.accepting.Load() && !ctx.Hijacked() {
		ctx.SetConnectionClose() // the next request is for whoever stays up
	}
	if !r.counted {
		return
	}
	r.status = ctx.Response.StatusCode()
	if !ctx.Response.IsBodyStream() && !ctx.Hijacked() {
		r.length = int64(len(ctx.Response.Body()))
		r.doneAt(now)
		return
	}
	r.stream = true
	r.length = int64(max(ctx.Response.Header.ContentLength(), -1))
	r.body, _ = ctx.Response.BodyStream().(body)
	// A client has the end of a stream before the connection knows. Its next
	// request must not be refused for that, so the slot is free once the
	// function has given its whole answer; an upgrade has no such moment.
	switch stream, ends := ctx.Response.BodyStream().(interface{ OnEnd(func()) }); {
	case ends:
		stream.OnEnd(r.freeSlot)
	case !ctx.Response.IsBodyStream() && r.status != http.StatusSwitchingProtocols:
		r.freeSlot()
	}
	r.client.OnDone(r.done)
}

// freeSlot gives back the slot, if there is one to give back.
func (r *request) freeSlot() {
	if r.slot {
		r.freeOnce.Do(r.watchdog.limit.free)
	}
}

// done does its work once: when the response is out or the connection is gone.
func (r *request) done() { r.doneAt(time.Now()) }

func (r *request) doneAt(now time.Time) { r.doneOnce.Do(func() { r.account(now) }) }

func (r *request) account(now time.Time) {
	w, took := r.watchdog, now.Sub(r.start)
	r.freeSlot()
	w.activity.end(now)
	w.tracer.end(r.span, r.method, r.target, r.status)
	w.metrics.observe(r.method, r.status, took)
	if r.probe {
		return
	}
	a := access{method: r.method, target: redact(r.target), status: r.status, length: r.length, took: took, outcome: r.outcome}
	if r.stream {
		var err error
		if r.body != nil {
			a.length, err = r.body.Sent(), r.body.Err()
		}
		if a.cutOff = whose(err, r.client); a.cutOff != nil {
			a.outcome = outcomeOf(a.cutOff)
		}
	}
	if w.settings.LogCallID {
		a.callID = r.callID
		if a.callID == "" {
			a.callID = "none"
		}
	}
	if w.access != nil {
		a.json(w.access)
		return
	}
	w.lines.write(a, now)
}

// appendSize writes n bytes in decimal units with four significant digits.
func appendSize(dst []byte, n int64) []byte {
	if n < 1000 {
		return append(strconv.AppendInt(dst, n, 10), 'B')
	}
	size, i := float64(n), 0
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for ; size >= 1000 && i < len(units)-1; i++ {
		size /= 1000
	}
	return append(strconv.AppendFloat(dst, size, 'g', 4, 64), units[i]...)
}

// escape keeps clients from writing log lines of their own, or to a terminal.
func escape(s string) string { return string(appendEscaped(nil, s)) }

func appendEscaped(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; ' ' <= c && c <= '~' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// redact hides the values of query parameters whose names speak of a secret:
// those with token, secret, password, assertion, signature, authorization or jwt
// in them (RFC 6750, section 2.3, puts access_token there), and Azure's sig.
func redact(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok {
		return target
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		raw, _, hasValue := strings.Cut(p, "=")
		name, err := url.QueryUnescape(raw)
		if err != nil {
			name = raw
		}
		name = strings.ToLower(name)
		for _, secret := range []string{"token", "secret", "password", "assertion", "signature", "authorization", "jwt", "sig"} {
			if hasValue && strings.Contains(name, secret) && (secret != "sig" || name == secret) {
				params[i] = raw + "=[hidden]"
			}
		}
	}
	return path + "?" + strings.Join(params, "&")
}
