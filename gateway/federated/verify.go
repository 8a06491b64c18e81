package federated

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gatehound/gatehound/auth"
)

// authenticate reports whether c has a token to be let in with, and answers it
// if not. The token is out of the request from then on, and so is what else of
// it could have another request made of this one.
func (g *Gateway) authenticate(c *call) bool {
	subject, err := g.verify(takeOut(c))
	c.subject, c.err = subject, err
	switch {
	case err == nil:
		return true
	case errors.Is(err, auth.ErrUnavailable):
		c.ctx.Response.Header.Set("Retry-After", "1")
		c.answer(noKeys, http.StatusServiceUnavailable, err.Error())
	default:
		challenge := `Bearer realm="federated gateway"` // RFC 6750 §3
		if !errors.Is(err, auth.ErrNoBearer) {
			challenge += `, error="invalid_token"`
		}
		c.ctx.Response.Header.Set("WWW-Authenticate", challenge)
		c.answer(unauthenticated, http.StatusUnauthorized, err.Error())
	}
	return false
}

// verify returns whom the values of a request's Authorization headers speak for.
func (g *Gateway) verify(authorization [][]byte) (subject string, err error) {
	token, err := auth.Bearer(authorization...)
	if err != nil {
		return "", err
	}
	// Not the request's context: it is reused when the handler returns. The wait
	// is 5s at most.
	claims, err := auth.ParseToken(context.Background(), g.config.Keys, token, auth.Expect{
		Issuer: g.config.Keys.Issuer(), Audience: []string{g.config.Audience}, AccessToken: true,
	})
	if err != nil {
		return "", err
	}
	// Where the issuer is a gateway of ours: what it gives out for functions has
	// the same iss and aud as what is for administration.
	if _, is := claims["function"]; is {
		return "", fmt.Errorf("%w: a function token opens functions alone", auth.ErrInvalidToken)
	}
	subject, _ = claims["sub"].(string)
	return subject, nil
}

// takeOut removes the caller's credentials from the request, and the headers by
// which some servers let themselves be told another path than the one we have
// judged. It returns the values of Authorization. Names come as the client wrote
// them, and CGI-like servers take "_" for "-".
func takeOut(c *call) (authorization [][]byte) {
	h := &c.ctx.Request.Header
	var names []string
	for name, value := range h.All() {
		switch strings.ReplaceAll(strings.ToLower(string(name)), "_", "-") {
		case "authorization":
			authorization = append(authorization, append([]byte(nil), value...))
		case "proxy-authorization", "x-original-url", "x-rewrite-url":
		default:
			continue
		}
		names = append(names, string(name))
	}
	for _, name := range names {
		h.Del(name)
	}
	return authorization
}
