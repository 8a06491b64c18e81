// Package upstream is the provider for functions that another faas-provider
// runs: faas-netes, faasd or a gateway. It speaks that provider's REST API
// (github.com/openfaas/faas-provider) and keeps no state but a short memory of
// which functions exist. Calls go through that provider, or to the functions
// themselves; where it is asked for, a function without a replica is given one
// first.
package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Config names the faas-provider.
type Config struct {
	// URL is its base URL, http only: TLS to a provider comes with a proxy
	// beside it.
	URL *url.URL
	// Logs is the base URL of what answers /system/logs in its place, http or
	// https; nil = the provider itself. It gets the same credentials.
	Logs *url.URL
	// User and Password are its basic auth credentials; "" = none. They are for
	// its API alone and sent with no function call.
	User, Password string

	// ScaleFromZero has a call to a function without an available replica wait
	// for one, which the provider is asked for if there should be none.
	ScaleFromZero bool
	// Probe has the first call of a function, and one every few seconds, wait until
	// the function answers 200 at /_/ready.
	Probe bool
	// StartTimeout bounds either wait; 0 = 1m.
	StartTimeout time.Duration

	// Direct has calls go to http://<name>.<namespace>.<suffix>:8080 in place of
	// the provider, which is still asked whether the function exists.
	Direct bool
	// DirectSuffix is a DNS name; "" = <name>.<namespace> is one.
	DirectSuffix string

	// MaxIdle and MaxIdlePerHost bound the connections that are kept for further
	// calls; 0 = 1024.
	MaxIdle, MaxIdlePerHost int
}

// Provider implements provider.Provider.
type Provider struct {
	config   Config
	base     string
	logs     string // base, but for logs
	path     string
	client   *http.Client
	prober   *http.Client
	idle     *reverseproxy.IdleLimit
	upstream *reverseproxy.Upstream // the provider

	// dial connects to a function's "host:port" in tests; nil = by DNS.
	dial func(address string) (net.Conn, error)

	life context.Context // of searches
	end  context.CancelFunc

	mu       sync.Mutex
	known    map[provider.Function]known
	searches map[provider.Function]*search
	sweeping bool // a sweep will come
}

// known is a function that exists.
type known struct {
	until    time.Time // until when that is taken for granted
	endpoint provider.Endpoint
}

// search finds out whether a function exists, and starts it where that is asked
// for. All calls that come meanwhile wait for it.
type search struct {
	cancel context.CancelFunc
	// waiting is how many calls do. Guarded by Provider.mu.
	waiting int
	// outdated: the function was changed meanwhile, or nobody waits any more.
	// Written with Provider.mu held and before done is closed.
	outdated bool
	done     chan struct{} // closed when the rest is known
	endpoint provider.Endpoint
	err      error
}

const (
	// knownFor is how long a function is taken to exist without asking again, so
	// that a call costs one hop and not two.
	knownFor = 5 * time.Second
	// forgetAfter is how long after that its connections are kept.
	forgetAfter = 30 * time.Second
	// askTimeout bounds one question to the provider for a call.
	askTimeout = 15 * time.Second
)

// New returns a provider. It connects to nothing yet.
func New(c Config) (*Provider, error) {
	if c.URL.Scheme != "http" {
		return nil, fmt.Errorf("functions_provider_url=%q: want an http:// URL", c.URL)
	}
	address := c.URL.Host
	if c.URL.Port() == "" {
		address = net.JoinHostPort(c.URL.Hostname(), "80")
	}
	c.StartTimeout = cmp.Or(c.StartTimeout, time.Minute)
	c.MaxIdle = cmp.Or(c.MaxIdle, 1024)
	c.MaxIdlePerHost = cmp.Or(c.MaxIdlePerHost, 1024)
	p := &Provider{
		config:   c,
		base:     strings.TrimSuffix(c.URL.String(), "/"),
		logs:     strings.TrimSuffix(cmp.Or(c.Logs, c.URL).String(), "/"),
		path:     strings.TrimSuffix(c.URL.EscapedPath(), "/"),
		client:   newClient(),
		idle:     reverseproxy.NewIdleLimit(c.MaxIdle),
		known:    make(map[provider.Function]known),
		searches: make(map[provider.Function]*search),
	}
	p.prober = newProber(p)
	p.upstream = reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: address, MaxIdle: c.MaxIdlePerHost, Idle: p.idle})
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// newClient returns the client for the provider's API. The credentials go
// straight there, as calls do, and through no proxy that the environment may name.
func newClient() *http.Client {
	return &http.Client{CheckRedirect: stay, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, // logs_provider_url may be https
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
	}}
}

// stay is a CheckRedirect that follows none.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Ready implements provider.Provider.
func (p *Provider) Ready(f provider.Function) (provider.Endpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known[f]
	return k.endpoint, ok && time.Now().Before(k.until)
}

// Endpoint implements provider.Provider. Of one function there is one question to
// the provider at a time, however many calls wait for its answer.
func (p *Provider) Endpoint(ctx context.Context, f provider.Function) (provider.Endpoint, error) {
	for {
		p.mu.Lock()
		if k, ok := p.known[f]; ok && time.Now().Before(k.until) {
			p.mu.Unlock()
			return k.endpoint, nil
		}
		s, under := p.searches[f]
		if !under {
			s = p.begin(f)
		}
		s.waiting++
		p.mu.Unlock()
		select {
		case <-s.done:
			if !s.outdated {
				return s.endpoint, s.err
			}
		case <-ctx.Done():
			p.leave(f, s)
			return provider.Endpoint{}, fmt.Errorf("waiting for function %s: %w", f, context.Cause(ctx))
		}
	}
}

// leave ends a search for which nobody waits any more: strangers who ask for
// names without end, and hang up, would else have as many questions open at a
// slow provider.
func (p *Provider) leave(f provider.Function, s *search) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.waiting--; s.waiting == 0 && p.searches[f] == s {
		p.abandon(f, s)
	}
}

// abandon ends a search without a result. p.mu is held.
func (p *Provider) abandon(f provider.Function, s *search) {
	s.outdated = true
	s.cancel()
	delete(p.searches, f)
}

// begin starts a search. It is nobody's in particular: a caller who goes away
// does not end it for the others. p.mu is held.
func (p *Provider) begin(f provider.Function) *search {
	ctx, cancel := context.WithCancel(p.life)
	s := &search{cancel: cancel, done: make(chan struct{})}
	p.searches[f] = s
	go func() {
		defer cancel()
		memory, err := p.ready(ctx, f)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer close(s.done)
		if s.outdated {
			return
		}
		delete(p.searches, f)
		if s.err = err; err == nil {
			s.endpoint = p.remember(f, memory)
		}
	}()
	return s
}

// ready makes sure that f exists and, where that is asked for, that it can answer
// a call. It returns the limit of f's memory; 0 = none. A failure is not
// remembered: the next call tries again.
func (p *Provider) ready(ctx context.Context, f provider.Function) (memory int64, err error) {
	status, err := p.ask(ctx, f)
	if err != nil {
		return 0, err
	}
	if p.config.Direct {
		if _, err := p.directHost(f); err != nil {
			return 0, err
		}
	}
	memory = memoryLimit(status.Limits)
	ctx, cancel := context.WithTimeout(ctx, p.config.StartTimeout)
	defer cancel()
	if p.config.ScaleFromZero && status.AvailableReplicas == 0 {
		if err := p.start(ctx, f, status); err != nil {
			return 0, err
		}
	}
	if p.config.Probe {
		return memory, p.probe(ctx, f)
	}
	return memory, nil
}

// quantityPattern is wider than what a quantity may be, but for its size: of
// 1e-999999999 Kubernetes' parser would work out every digit.
var quantityPattern = regexp.MustCompile(`^[0-9.]{1,20}([eE][-+]?[0-9]{1,2}|[a-zA-Z]{0,2})$`)

// memoryLimit returns what a provider says in bytes; 0 = nothing, or nothing that
// could be read.
func memoryLimit(limits *types.FunctionResources) int64 {
	if limits == nil || !quantityPattern.MatchString(limits.Memory) {
		return 0
	}
	quantity, err := resource.ParseQuantity(limits.Memory)
	if err != nil {
		return 0
	}
	return quantity.Value()
}

// remember notes that f exists, with a limit on its memory, and returns where it
// is called. p.mu is held.
func (p *Provider) remember(f provider.Function, memory int64) provider.Endpoint {
	k, ok := p.known[f]
	if !ok {
		k.endpoint = p.endpoint(f)
	}
	k.endpoint.Memory = memory
	k.until = time.Now().Add(knownFor)
	p.known[f] = k
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(forgetAfter, p.sweep)
	}
	return k.endpoint
}

func (p *Provider) endpoint(f provider.Function) provider.Endpoint {
	if p.config.Direct {
		return p.directEndpoint(f)
	}
	// With the caller's Host, what routes by it on the way (a service mesh, a reverse
	// proxy with several names) would let the caller choose another service.
	return provider.Endpoint{Upstream: p.upstream, Prefix: p.path + "/function/" + f.String(), Host: p.config.URL.Host}
}

// sweep drops the functions that are no longer called, with their connections.
func (p *Provider) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f, k := range p.known {
		if time.Since(k.until) > forgetAfter {
			p.drop(f)
		}
	}
	if p.sweeping = len(p.known) > 0; p.sweeping {
		time.AfterFunc(forgetAfter, p.sweep)
	}
}

// forget has the next call of f ask the provider again, and those that wait now.
func (p *Provider) forget(f provider.Function) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(f)
}

// forgetAll is forget for all of a namespace.
func (p *Provider) forgetAll(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for f := range p.known {
		if f.Namespace == namespace {
			p.forgetLocked(f)
		}
	}
	for f := range p.searches {
		if f.Namespace == namespace {
			p.forgetLocked(f)
		}
	}
}

func (p *Provider) forgetLocked(f provider.Function) {
	if s, under := p.searches[f]; under {
		p.abandon(f, s)
	}
	p.drop(f)
}

// drop removes what is known of f. p.mu is held.
func (p *Provider) drop(f provider.Function) {
	if k, ok := p.known[f]; ok && p.config.Direct {
		k.endpoint.Upstream.Retire() // a call may just have been given it
	}
	delete(p.known, f)
}

// Close ends what waits, and closes the idle connections and upgraded ones.
func (p *Provider) Close() {
	p.end()
	p.mu.Lock()
	for _, k := range p.known {
		k.endpoint.Upstream.Close()
	}
	clear(p.known)
	p.mu.Unlock()
	p.upstream.Close()
	p.client.CloseIdleConnections()
	p.prober.CloseIdleConnections()
}
