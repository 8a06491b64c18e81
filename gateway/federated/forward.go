package federated

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// forward has the local gateway answer c, whose token is good.
func (g *Gateway) forward(c *call) {
	o := reverseproxy.Options{
		Host:         g.config.Host,
		Timeout:      g.config.UpstreamTimeout,
		IdleTimeout:  g.config.UpstreamTimeout,
		DropTrailers: true, // one could name a header that we have taken out
	}
	if c.path == "/system/logs" {
		o.Timeout, o.IdleTimeout = 0, 0 // a log that is followed is silent for hours
	}
	secret := ""
	if c.route == system {
		secret = g.config.Credentials().Header()
		c.ctx.Request.Header.Set("Authorization", secret)
	}
	if err := g.config.Upstream.Forward(c.ctx, o); err != nil {
		g.failed(c, err)
		return
	}
	c.result = forwarded
	status := c.ctx.Response.StatusCode()
	keepBack(&c.ctx.Response.Header, secret)
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
	h := &c.ctx.Response.Header
	h.Del("WWW-Authenticate")
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

// keepBack removes from an answer what must not reach the caller: credentials,
// the demand for a password that the caller does not have, and whatever repeats
// secret; "" = there is none.
func keepBack(h *fasthttp.ResponseHeader, secret string) {
	var names, kept []string
	_, encoded, _ := strings.Cut(secret, " ")
	for name, value := range h.All() {
		v := string(value)
		switch n := strings.ToLower(string(name)); {
		case n == "www-authenticate":
			names = append(names, string(name))
			if scheme, _, _ := strings.Cut(strings.TrimSpace(v), " "); !strings.EqualFold(scheme, "Basic") {
				kept = append(kept, v)
			}
		case n == "authorization", encoded != "" && strings.Contains(v, encoded):
			names = append(names, string(name))
		}
	}
	for _, name := range names {
		h.Del(name)
	}
	for _, v := range kept {
		h.Add("WWW-Authenticate", v)
	}
}
