package upstream

import (
	"fmt"
	"net"
	"net/http"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// directPort is where watchdogs listen.
const directPort = "8080"

// directHost returns the "host:port" of f. A caller cannot have anything else
// reached through it: both names are DNS labels, without a dot, a colon, a slash
// or an @; the port and the suffix are ours; and a name that the provider does not
// list is not looked up at all. What remains are addresses: to some resolvers
// "127.1" is one, of this machine. With a letter in front the last label cannot
// be a part of one, and config sees to that of the suffix.
func (p *Provider) directHost(f provider.Function) (string, error) {
	name := f.String()
	if p.config.DirectSuffix != "" {
		name += "." + p.config.DirectSuffix
	} else if first := f.Namespace[0]; first >= '0' && first <= '9' {
		return "", &provider.Error{Status: http.StatusBadGateway, Message: fmt.Sprintf(
			"function %s cannot be called by that name, which might be an IP address: set direct_functions_suffix", f)}
	}
	return net.JoinHostPort(name, directPort), nil
}

// directEndpoint is that of a function which is called by its own name. The Host
// is this name, too: a service mesh routes by it, and with the caller's would let
// the caller choose another service.
func (p *Provider) directEndpoint(f provider.Function) provider.Endpoint {
	host, _ := p.directHost(f)
	c := reverseproxy.Config{Network: "tcp", Address: host, MaxIdle: p.config.MaxIdlePerHost, Idle: p.idle}
	if p.dial != nil {
		c.Dial = func() (net.Conn, error) { return p.dial(host) }
	}
	return provider.Endpoint{Upstream: reverseproxy.New(c), Host: host}
}
