package watchdog

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
)

const (
	spanQueue     = 2048            // spans that wait to be sent
	spanBatch     = 512             // spans in one request
	spanDelay     = time.Second     // how long a span waits for others
	spanTimeout   = 5 * time.Second // of one request to the collector
	spanFarewell  = 2 * time.Second // for what is left at the end
	maxSpanString = 1024            // bytes of a path, or of a tracestate (W3C asks for 512)
)

// span is one invocation in a trace (W3C Trace Context).
type span struct {
	trace, id, parent string // in hex; parent "" = a new trace
	state             string // tracestate
	start, end        time.Time
	method, path      string
	status            int
}

// tracer exports spans by OTLP/HTTP in its JSON form. It never makes a request
// wait: when its queue is full, or the collector fails, spans are dropped and
// counted. nil = no tracing: trace headers pass through untouched.
type tracer struct {
	url      string
	headers  map[string]string
	service  string
	function string
	client   *http.Client
	logf     func(format string, args ...any)

	queue   chan *span
	dropped atomic.Uint64
	ending  chan struct{} // closed by stop
	cancel  context.CancelFunc
	ended   chan struct{} // closed when all is sent
	failing bool
}

// newTracer returns a tracer that sends until stop, or nil.
func newTracer(s config.Watchdog, logf func(format string, args ...any)) *tracer {
	if s.TracesURL == nil {
		return nil
	}
	return &tracer{
		url: s.TracesURL.String(), headers: s.TracesHeaders, service: s.ServiceName, function: s.FunctionName,
		logf: logf,
		// A redirect would carry the headers' secrets elsewhere.
		client: &http.Client{
			Timeout:       spanTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue:  make(chan *span, spanQueue),
		ending: make(chan struct{}),
		ended:  make(chan struct{}),
	}
}

// begin starts to send.
func (t *tracer) begin() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	go t.run(ctx)
}

// stop sends what is left, for two seconds at most, or until giveUp is closed.
func (t *tracer) stop(giveUp <-chan struct{}) {
	if t == nil {
		return
	}
	defer t.cancel()
	close(t.ending)
	select {
	case <-t.ended:
	case <-giveUp:
	case <-time.After(spanFarewell):
	}
}

// startSpan begins the span of r, and makes it the parent of what the function
// does: it replaces traceparent in the request and returns it. "" = not traced:
// the header stays as it came. Refused requests have no spans, or anybody could
// fill the collector.
func (r *request) startSpan(ctx *fasthttp.RequestCtx) (traceparent string) {
	if r.watchdog.tracer == nil {
		return ""
	}
	h := &ctx.Request.Header
	var parents, states, names []string
	for name, value := range h.All() {
		switch {
		case equalFold(name, "traceparent"):
			parents, names = append(parents, string(value)), append(names, string(name))
		case equalFold(name, "tracestate"):
			states, names = append(states, string(value)), append(names, string(name))
		}
	}
	s := &span{start: r.start, id: randomHex(8)}
	flags := byte(1)
	trace, parent, parentFlags, ok := "", "", byte(0), false
	if len(parents) == 1 {
		trace, parent, parentFlags, ok = parseTraceparent(parents[0])
	}
	switch {
	case ok && parentFlags&1 == 0:
		return "" // whoever began the trace does not want it
	case ok:
		s.trace, s.parent, flags = trace, parent, parentFlags
		s.state = strings.Join(states, ",")
	default:
		s.trace = randomHex(16)
	}
	for _, name := range names {
		h.Del(name)
	}
	if len(s.state) > maxSpanString {
		s.state = "" // section 3.3.1.5: whole entries or nothing
	}
	if s.state != "" {
		h.Set("tracestate", s.state)
	}
	traceparent = fmt.Sprintf("00-%s-%s-%02x", s.trace, s.id, flags)
	h.Set("traceparent", traceparent)
	r.span = s
	return traceparent
}

// parseTraceparent reads a traceparent (W3C Trace Context, section 3.2) of the
// version 00, or what a later one has in common with it.
func parseTraceparent(v string) (trace, parent string, flags byte, ok bool) {
	if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return "", "", 0, false
	}
	version, trace, parent, last := v[:2], v[3:35], v[36:52], v[53:55]
	for _, part := range []string{version, trace, parent, last} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return "", "", 0, false
		}
	}
	switch {
	case version == "ff", version == "00" && len(v) != 55, len(v) > 55 && v[55] != '-',
		strings.Trim(trace, "0") == "", strings.Trim(parent, "0") == "":
		return "", "", 0, false
	}
	n, _ := strconv.ParseUint(last, 16, 8)
	return trace, parent, byte(n) & 3, true // sampled and random are defined
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// end hands a span over to be sent; nil = not traced.
func (t *tracer) end(s *span, method, target string, status int) {
	if s == nil {
		return
	}
	path, _, _ := strings.Cut(target, "?") // a query may hold secrets
	s.end, s.method, s.path, s.status = time.Now(), method, path[:min(len(path), maxSpanString)], status
	select {
	case t.queue <- s:
	default:
		t.dropped.Add(1)
	}
}

// run sends batches until stop, and then what is left.
func (t *tracer) run(ctx context.Context) {
	defer close(t.ended)
	for {
		select {
		case s := <-t.queue:
			t.send(ctx, t.gather(s))
		case <-t.ending:
			for len(t.queue) > 0 {
				t.send(ctx, t.gather(<-t.queue))
			}
			return
		}
	}
}

// gather returns first and what comes within spanDelay, up to a full batch; at
// the end, what is there.
func (t *tracer) gather(first *span) []*span {
	batch := []*span{first}
	for over := time.After(spanDelay); len(batch) < spanBatch; {
		select {
		case s := <-t.queue:
			batch = append(batch, s)
		case <-over:
			return batch
		case <-t.ending:
			if len(t.queue) == 0 {
				return batch
			}
		}
	}
	return batch
}

// send sends one batch. What fails is not tried again, and logged when failing
// begins and ends. Headers stay out of the log.
func (t *tracer) send(ctx context.Context, batch []*span) {
	err := t.post(ctx, batch)
	if err != nil {
		t.dropped.Add(uint64(len(batch)))
	}
	if failing := err != nil; failing != t.failing {
		t.failing = failing
		if failing {
			t.logf("Traces are dropped: %s", err)
		} else {
			t.logf("Traces are exported again")
		}
	}
}

func (t *tracer) post(ctx context.Context, batch []*span) error {
	body, err := json.Marshal(otlpRequest(t.service, t.function, batch))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, value := range t.headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	// In the log the URL is without its query, where some collectors want a key.
	place := *req.URL
	place.RawQuery = ""
	res, err := t.client.Do(req)
	if err != nil {
		var of *url.Error // quotes the whole URL
		if errors.As(err, &of) {
			err = of.Err
		}
		return fmt.Errorf("the collector at %s: %w", &place, err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the collector at %s answered %s", &place, res.Status)
	}
	return nil
}
