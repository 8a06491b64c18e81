// Package upstream is the provider for functions that another faas-provider
// runs: faas-netes, faasd or a gateway. It speaks that provider's REST API
// (github.com/openfaas/faas-provider) and keeps no state but a short memory of
// which functions exist.
package upstream

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

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
	// User and Password are its basic auth credentials; "" = none.
	User, Password string
}

// Provider implements provider.Provider.
type Provider struct {
	base     string
	logs     string // base, but for logs
	path     string
	user     string
	password string
	client   *http.Client
	upstream *reverseproxy.Upstream

	mu    sync.Mutex
	known map[provider.Function]time.Time // until when a function is taken to exist
}

// knownFor is how long a function is taken to exist without asking again, so
// that a call costs one hop and not two.
const knownFor = 5 * time.Second

// New returns a provider. It connects to nothing yet.
func New(c Config) (*Provider, error) {
	if c.URL.Scheme != "http" {
		return nil, fmt.Errorf("functions_provider_url=%q: want an http:// URL", c.URL)
	}
	address := c.URL.Host
	if c.URL.Port() == "" {
		address = net.JoinHostPort(c.URL.Hostname(), "80")
	}
	return &Provider{
		base:     strings.TrimSuffix(c.URL.String(), "/"),
		logs:     strings.TrimSuffix(cmp.Or(c.Logs, c.URL).String(), "/"),
		path:     strings.TrimSuffix(c.URL.EscapedPath(), "/"),
		user:     c.User,
		password: c.Password,
		client:   &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		upstream: reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: address}),
		known:    make(map[provider.Function]time.Time),
	}, nil
}

// Endpoint implements provider.Provider.
func (p *Provider) Endpoint(ctx context.Context, f provider.Function) (provider.Endpoint, error) {
	now := time.Now()
	p.mu.Lock()
	exists := now.Before(p.known[f])
	p.mu.Unlock()
	if !exists {
		if _, err := p.Status(ctx, f, false); err != nil {
			p.forget(f)
			return provider.Endpoint{}, err
		}
		p.mu.Lock()
		p.known[f] = now.Add(knownFor)
		p.mu.Unlock()
	}
	return provider.Endpoint{
		Upstream: p.upstream,
		Prefix:   p.path + "/function/" + f.String(),
	}, nil
}

func (p *Provider) forget(f provider.Function) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, f)
}

// Close closes the idle connections to the provider.
func (p *Provider) Close() {
	p.upstream.Close()
	p.client.CloseIdleConnections()
}
