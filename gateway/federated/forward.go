package federated

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// forward has the local gateway answer c, whose token is good.
func (g *Gateway) forward(c *call) {
	secret := ""
	if c.route == system {
		secret = g.config.Credentials().Header()
		c.ctx.Request.Header.Set("Authorization", secret)
	}
	o := reverseproxy.Options{
		Host:         g.config.Host,
		Timeout:      g.config.UpstreamTimeout,
		IdleTimeout:  g.config.UpstreamTimeout,
		DropTrailers: true, // one could name a header that we have taken out
		Withhold:     withheld(c.route, secret),
		// A server that ignores a body takes it for a request, which nobody has judged.
		CloseAfterBody: true,
	}
	if c.path == "/system/logs" {
		o.Timeout, o.IdleTimeout = 0, 0 // a log that is followed is silent for hours
	}
	if err := g.config.Upstream.Forward(c.ctx, o); err != nil {
		g.failed(c, err)
		return
	}
	c.result = forwarded
	status := c.ctx.Response.StatusCode()
	if c.route == system && (status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired) {
		// It is us whom the local gateway does not know, and not our caller, who
		// would be told to log in again.
		g.denied(c, status)
	}
}

// denied answers for a local gateway that does not take our credentials.
func (g *Gateway) denied(c *call, status int) {
	c.err = fmt.Errorf("the local gateway answered %d: check basic-auth-user and basic-auth-password in secret_mount_path", status)
	const line = "the local gateway does not accept this federated gateway's credentials"
	if c.ctx.Hijacked() {
		// It answered before it had read the request: the body is under way, and
		// is the local gateway's own.
		c.result = denied
		c.ctx.Response.SetStatusCode(http.StatusBadGateway)
		return
	}
	c.ctx.Response.Reset() // closes the body that comes from there
	c.answer(denied, http.StatusBadGateway, line)
}

// failed answers for a local gateway that did not.
func (g *Gateway) failed(c *call, err error) {
	c.err = err
	switch {
	case errors.Is(err, reverseproxy.ErrTimeout):
		c.answer(failed, http.StatusGatewayTimeout, fmt.Sprintf("the local gateway gave no answer within the upstream_timeout of %s", g.config.UpstreamTimeout))
	case errors.Is(err, reverseproxy.ErrBadBody):
		c.answer(refused, http.StatusBadRequest, "the request is broken or ended early")
		c.ctx.SetConnectionClose()
	case errors.Is(err, reverseproxy.ErrClientGone):
		// Nobody reads the answer; the status is for the log: 499 is nginx's
		// "client closed request".
		c.answer(refused, 499, "client closed the connection")
	default:
		c.answer(failed, http.StatusBadGateway, "the local gateway cannot be reached")
	}
}

// withheld reports what of an answer must not reach the caller: credentials, the
// demand for a password that the caller does not have, and whatever repeats
// secret, as a redirect may with its "=" left out or percent-encoded; "" = there
// is none. The body is not looked at.
func withheld(route route, secret string) func(name, value []byte) bool {
	_, encoded, _ := strings.Cut(secret, " ")
	encoded = strings.TrimRight(encoded, "=")
	return func(name, value []byte) bool {
		switch strings.ToLower(string(name)) {
		case "authorization":
			return true
		case "www-authenticate":
			scheme, _, _ := strings.Cut(string(value), " ")
			return route == system || strings.EqualFold(scheme, "Basic")
		default:
			return encoded != "" && strings.Contains(decode(string(value)), encoded)
		}
	}
}
