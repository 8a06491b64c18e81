package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/auth/login"
)

func (p program) token() *cobra.Command {
	var (
		s         settings
		functions []string
		insecure  bool
	)
	c := command(&cobra.Command{
		Use:   "token --function namespace:name",
		Short: "Print a token that calls functions",
		Long: `Prints a function token, good for the functions that are named, as far as they are
granted to you; without any, the gateway's API token for /system/. An API token that
has ended is renewed where nobody is needed for that.`,
		Example: `  curl -H "Authorization: Bearer $(faas-cli pro token --function openfaas-fn:env)" \
    http://127.0.0.1:8080/function/env`,
	}, func(ctx context.Context) error {
		var err error
		if s.Gateway, err = gatewayURL(s.Gateway); err != nil {
			return err
		}
		for _, f := range functions {
			if f != "*" && strings.Count(f, ":") != 1 {
				return usage("--function is %q; want namespace:name, such as openfaas-fn:env, namespace:* or *", f)
			}
		}
		return p.runToken(ctx, s, functions, insecure)
	})
	p.gatewayFlag(c, &s.Gateway)
	c.Flags().StringArrayVarP(&functions, "function", "f", nil, "function, or pattern of functions (repeatable)")
	tlsFlags(c, &s.CA, &insecure)
	return c
}

func (p program) runToken(ctx context.Context, s settings, functions []string, insecure bool) error {
	store, err := openStore(p.getenv)
	if err != nil {
		return err
	}
	l, err := p.saved(store, s, insecure)
	if err != nil {
		return err
	}
	api, err := l.apiToken(ctx)
	if err != nil {
		return l.explain(err)
	}
	if len(functions) == 0 {
		_, err = fmt.Fprintln(p.stdout, api)
		return err
	}
	if l.settings.NoExchange {
		return fmt.Errorf("what is saved for %s is the provider's token, since --no-exchange: it is not exchanged for functions", s.Gateway)
	}
	l.subject = api
	token, err := login.Gateway{URL: s.Gateway, HTTP: l.http}.Exchange(ctx, api, functions...)
	if err != nil {
		return l.explain(err)
	}
	_, err = fmt.Fprintln(p.stdout, token.Access)
	return err
}

// saved is a session with what is remembered of the gateway.
func (p program) saved(store *store, s settings, insecure bool) (*session, error) {
	r, found, err := store.settings(s.Gateway)
	if err != nil {
		return nil, err
	}
	if found {
		take(s.CA != "", &s.CA, r.CA)
		r.CA = s.CA
		s = r
	}
	l := &session{program: p, store: store, settings: s, insecure: insecure}
	return l, l.connect()
}

// apiToken is what is saved, renewed if it has ended.
func (l *session) apiToken(ctx context.Context) (string, error) {
	gateway := l.settings.Gateway
	c, found, err := l.store.credential(gateway)
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", fmt.Errorf("you are not logged in at %s: faas-cli pro auth --gateway %[1]s", gateway)
	case c.Auth != oauth2Auth:
		return "", fmt.Errorf("you are logged in at %s with a password, which is exchanged for no token: faas-cli pro auth --gateway %[1]s", gateway)
	case !ended(c.Token):
		return c.Token, nil
	}
	unlock, err := l.lock(ctx, l.store)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c, _, err = l.store.credential(gateway); err != nil || !ended(c.Token) { // another run has renewed it
		return c.Token, err
	}
	if !l.settings.renewable() {
		again := "faas-cli pro auth --gateway " + gateway
		if l.settings.Authority == "" {
			again += " --token-file FILE"
		}
		return "", fmt.Errorf("the login at %s has ended, at %s by this computer's clock: %s", gateway, end(c.Token).Local().Format("2006-01-02 15:04"), again)
	}
	token, err := l.renew(ctx)
	if l.providerRefused {
		return "", fmt.Errorf("the login at %s has ended (%w): faas-cli pro auth --gateway %[1]s", gateway, err)
	}
	return token.Access, err
}

// end is when a token ends; zero = it does not say so, or never.
func end(token string) time.Time {
	claims, err := decode(token)
	if err != nil {
		return time.Time{}
	}
	exp, ok := claims.number("exp")
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(exp), 0)
}

// ended tells whether a token is past its end, or about to be.
func ended(token string) bool {
	e := end(token)
	return !e.IsZero() && time.Until(e) < 20*time.Second
}
