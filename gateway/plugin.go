package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
)

const (
	// pluginPatience bounds asking the auth plugin, where upstream_timeout does
	// not bound it more.
	pluginPatience = 15 * time.Second
	// maxRefusal bounds the body of its answer that is passed on, in bytes.
	maxRefusal = 1 << 20
	// maxUnjudged bounds the request bodies, in bytes, of all whom the plugin has
	// not let pass yet: anybody can send them, and take read_timeout for it.
	maxUnjudged = 64 << 20
)

// plugin asks somebody else who may do what below /system/ (auth_proxy_url), as
// OpenFaaS' gateway does: 2xx lets a request pass, anything else is the answer
// to it. Whoever it lets pass may do what was asked for.
type plugin struct {
	url      string
	passBody bool
	patience time.Duration
	client   *http.Client
	guesses  *basicauth.Guesses
	log      zerolog.Logger
	unjudged atomic.Int64 // see maxUnjudged
}

// newPlugin returns nil without a plugin.
func newPlugin(c Config) *plugin {
	if c.AuthPlugin == nil {
		return nil
	}
	p := &plugin{url: c.AuthPlugin.String(), passBody: c.AuthPassBody, patience: pluginPatience, guesses: c.Guesses, log: c.Log}
	if c.UpstreamTimeout > 0 {
		p.patience = min(p.patience, c.UpstreamTimeout)
	}
	p.client = &http.Client{
		// Credentials go to the plugin, and neither where it points nor through
		// the environment's proxies.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
			DisableCompression:     true, // what it answers is passed on as it is
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
	return p
}

func (p *plugin) close() {
	if p != nil {
		p.client.CloseIdleConnections()
	}
}

// admit asks the plugin. It is asked before the route is looked up, so that a
// stranger does not learn which routes there are. The error is what to answer.
func (p *plugin) admit(ctx *fasthttp.RequestCtx, w *wish) (caller, error) {
	// Others some clients and servers treat specially; none has a route.
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, w.method) {
		return caller{}, &provider.Error{Status: http.StatusMethodNotAllowed, Message: clip(w.method) + " is not allowed here"}
	}
	var body []byte
	if p.passBody {
		size := int64(ctx.Request.Header.ContentLength())
		if size < 0 || size > maxBody {
			size = maxBody
		}
		defer p.unjudged.Add(-size)
		if p.unjudged.Add(size) > maxUnjudged {
			return caller{}, &provider.Error{Status: http.StatusServiceUnavailable, Message: "too many requests are waiting for the auth plugin"}
		}
		read, err := w.body()
		if err != nil {
			return caller{}, bodyError(err, maxBody)
		}
		// The client may still send it when the handler has returned. What the
		// plugin saw is what is decoded afterwards.
		body = bytes.Clone(read)
		w.body = func() ([]byte, error) { return body, nil }
	}
	method, header := w.method, pluginHeader(ctx, w)
	if p.guesses.IsPass(ctx.Request.Header.Peek(basicauth.PassHeader)) {
		header.Set("X-Forwarded-For", string(ctx.Request.Header.Peek("X-Forwarded-For"))) // of whom the dashboard asks for
	}
	ask := func(ctx context.Context) error { return p.ask(ctx, method, header, body) }
	if err := ask(context.Background()); err != nil {
		var failed *pluginFailure
		if errors.As(err, &failed) {
			named(ctx, p.log.Error()).Msgf("auth_proxy_url: %v", failed.reason)
			err = failed.answer
		}
		return caller{}, err
	}
	return p.passed(ask), nil
}

// passed is whom the plugin has let pass.
func (p *plugin) passed(ask func(context.Context) error) caller {
	return caller{name: "auth plugin", granted: everything, again: func(ctx context.Context) (caller, error) {
		if err := ask(ctx); err != nil {
			return caller{}, err
		}
		return p.passed(ask), nil
	}}
}

// ask sends one question. The error is a *pluginRefusal or a *pluginFailure.
func (p *plugin) ask(ctx context.Context, method string, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url, bytes.NewReader(body))
	if err != nil {
		return failure(http.StatusBadGateway, "the auth plugin cannot be asked", err)
	}
	req.Header = header.Clone()
	// A server that does not read a body takes it for the next question, and its
	// answer to that for the one to somebody else's.
	req.Close = len(body) > 0
	res, err := p.client.Do(req)
	if err != nil {
		return p.unanswered(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 200 && res.StatusCode <= 299 {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // so that the connection is used again
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal+1))
	switch {
	case err != nil:
		return p.unanswered(ctx, err)
	case res.StatusCode < 300 || res.StatusCode > 599:
		return failure(http.StatusBadGateway, "the auth plugin gave a bad answer", fmt.Errorf("status %d, want 200 to 599", res.StatusCode))
	case len(text) > maxRefusal:
		return failure(http.StatusBadGateway, "the auth plugin gave a bad answer", fmt.Errorf("more than %d bytes with status %d", maxRefusal, res.StatusCode))
	}
	return &pluginRefusal{status: res.StatusCode, header: res.Header, body: text}
}

// unanswered says in the log what went wrong, and to the caller a part of it.
func (p *plugin) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return failure(http.StatusGatewayTimeout, fmt.Sprintf("the auth plugin gave no answer within %s", p.patience), ctx.Err())
	}
	var wrapped *url.Error // its text has the whole URL
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return failure(http.StatusBadGateway, "the auth plugin cannot be reached", err)
}

// pluginFailure is no answer, or none that could be passed on. It lets nobody
// pass.
type pluginFailure struct {
	answer *provider.Error
	reason error
}

func (f *pluginFailure) Error() string { return f.answer.Message }

func failure(status int, message string, reason error) error {
	return &pluginFailure{&provider.Error{Status: status, Message: message}, reason}
}

// pluginRefusal is the plugin's answer to a request that may not pass.
type pluginRefusal struct {
	status int
	header http.Header
	body   []byte
}

func (r *pluginRefusal) Error() string { return fmt.Sprintf("the auth plugin answered %d", r.status) }

// answer passes the refusal on as it is, but for what is between us and the
// plugin.
func (r *pluginRefusal) answer(ctx *fasthttp.RequestCtx) {
	ctx.Response.SetStatusCode(r.status)
	nominated := nominations(r.header["Connection"])
	for name, values := range r.header {
		// The length is that of what was read, and the request ID ours.
		if dropped := strings.ToLower(name); reverseproxy.IsHop([]byte(dropped)) || nominated[dropped] || dropped == "content-length" || name == requestIDHeader {
			continue
		}
		for _, value := range values {
			ctx.Response.Header.Add(name, value)
		}
	}
	ctx.Response.SetBody(r.body)
}

// describing are headers by which a request is described to others. What a
// caller says in them is not passed on: a plugin might believe it. For the same
// reason any other character is taken for -, as some CGI programs do.
var describing = map[string]bool{
	"x-forwarded-method": true, "x-forwarded-uri": true, "x-forwarded-url": true, "x-forwarded-path": true, "x-forwarded-prefix": true,
	"x-forwarded-host": true, "x-forwarded-server": true, "x-forwarded-for": true, "forwarded": true, "x-request-id": true,
	"x-original-method": true, "x-original-uri": true, "x-original-url": true, "x-original-host": true, "x-rewrite-url": true,
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true,
	// These two describe the body, and the question may have none.
	"content-length": true, "expect": true,
	"host": true,
	// This one is between the dashboard and us alone.
	"x-gatehound-pass": true,
}

// foldHeader is what two spellings of a header's name have in common.
func foldHeader(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// pluginHeader is the header of a question: the caller's, with its credentials,
// and what the request is in words of ours.
func pluginHeader(ctx *fasthttp.RequestCtx, w *wish) http.Header {
	var connection []string
	for _, value := range headerValues(ctx, "Connection") {
		connection = append(connection, string(value))
	}
	nominated := nominations(connection)
	h := http.Header{}
	for n, v := range ctx.Request.Header.All() {
		name := string(n)
		if folded := foldHeader(name); !reverseproxy.IsHop([]byte(folded)) && !describing[folded] && !nominated[strings.ToLower(name)] {
			h.Add(name, string(v))
		}
	}
	h.Set("X-Forwarded-Method", w.method)
	h.Set("X-Forwarded-Uri", w.path+w.query)
	h.Set("X-Forwarded-Host", string(ctx.Host()))
	h.Set("X-Forwarded-For", ctx.RemoteIP().String())
	h.Set(requestIDHeader, string(ctx.Response.Header.Peek(requestIDHeader)))
	return h
}

// nominations returns the names, in lower case, that the values of a message's
// Connection list.
func nominations(connection []string) map[string]bool {
	names := map[string]bool{}
	for _, list := range connection {
		for name := range strings.SplitSeq(list, ",") {
			names[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	return names
}
