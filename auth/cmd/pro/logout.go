package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

func (p program) logout() *cobra.Command {
	var (
		s                             settings
		insecure, provider, noBrowser bool
	)
	c := command(&cobra.Command{
		Use:   "logout",
		Short: "Forget a gateway's tokens, and end the refresh token at the provider",
	}, func(ctx context.Context) error {
		var err error
		if s.Gateway, err = gatewayURL(s.Gateway); err != nil {
			return err
		}
		return p.runLogout(ctx, s, insecure, provider, noBrowser)
	})
	p.gatewayFlag(c, &s.Gateway)
	c.Flags().BoolVar(&provider, "provider", false, "also log out at the provider, in the browser")
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the page to open for that, and open none")
	tlsFlags(c, &s.CA, &insecure)
	return c
}

// runLogout forgets first: what is not reached shall not keep it.
func (p program) runLogout(ctx context.Context, s settings, insecure, provider, noBrowser bool) error {
	store, err := openStore(p.getenv)
	if err != nil {
		return err
	}
	l, err := p.saved(store, s, insecure)
	if err != nil {
		return err
	}
	found, err := l.forget(ctx)
	if err != nil {
		return err
	}
	if found {
		p.say("Forgot the login at %s; its token stays good until it ends", s.Gateway)
	} else {
		p.say("You were not logged in at %s", s.Gateway)
	}
	if l.settings.Authority == "" || l.settings.RefreshToken == "" && !provider {
		return nil
	}
	client, err := l.discover(ctx, l.settings.Authority)
	if err != nil {
		return l.explain(err)
	}
	if l.settings.RefreshToken != "" {
		if err := client.Revoke(ctx, l.settings.RefreshToken); err != nil {
			return l.explain(err)
		}
	}
	if !provider {
		return nil
	}
	page := client.EndSession("", "")
	if page == "" {
		return errors.New("the provider has no page for logging out (end_session_endpoint)")
	}
	p.say("Log out at the provider:\n\n  %s\n", page)
	if noBrowser {
		return nil
	}
	return openBrowser(page, p.getenv)
}

func (l *session) forget(ctx context.Context) (found bool, err error) {
	unlock, err := l.lock(ctx, l.store)
	if err != nil {
		return false, err
	}
	defer unlock()
	c, found, err := l.store.credential(l.settings.Gateway)
	if err != nil {
		return false, err
	}
	if found && c.Auth != oauth2Auth {
		l.say("the login with a password stays: faas-cli logout --gateway %s", l.settings.Gateway)
		found = false
	}
	if found {
		if err := l.store.removeCredential(l.settings.Gateway); err != nil {
			return false, err
		}
	}
	_, remembered, err := l.store.settings(l.settings.Gateway)
	if err != nil || !remembered {
		return found, err
	}
	return true, l.store.removeSettings(l.settings.Gateway)
}
