package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehound/gatehound/auth/login"
)

// session is one run's dealings with a provider and a gateway.
type session struct {
	program
	store    *store
	settings settings
	secret   string
	insecure bool

	http            *http.Client
	clocks          *clocks
	subject         string // the token that was exchanged
	providerRefused bool   // the refresh token
}

func (l *session) connect() error {
	l.clocks = new(clocks)
	transport, err := newTransport(l.settings.CA, l.insecure)
	if err != nil {
		return err
	}
	if l.insecure {
		l.say("warning: certificates are not checked: whoever is in between gets your tokens")
	}
	l.clocks.RoundTripper = transport
	l.http = &http.Client{Transport: l.clocks}
	return nil
}

// discover asks a provider, with what we are to it.
func (l *session) discover(ctx context.Context, authority string) (*login.Client, error) {
	if err := l.readClientSecret(ctx); err != nil {
		return nil, err
	}
	return login.Discover(ctx, login.Config{
		Issuer: authority, ClientID: l.settings.ClientID, ClientSecret: l.secret,
		Scopes: l.settings.Scopes, Audience: l.settings.Audience, HTTP: l.http,
	})
}

// logIn gets tokens from the provider, and ends with what is then done with them.
func (l *session) logIn(ctx context.Context, o authOptions, then func(context.Context, login.Tokens) error) error {
	var c *login.Client
	var err error
	if o.authURL != "" {
		if c, err = l.authority(ctx, o.authURL, o.tokenURL); err == nil {
			l.settings.Authority = c.Issuer()
		}
	} else {
		c, err = l.discover(ctx, l.settings.Authority)
	}
	if err != nil {
		return l.explain(err)
	}
	if o.Grant != grantMachine && !l.settings.NoExchange {
		if err := l.reach(ctx); err != nil { // better now than when somebody has logged in
			return l.explain(err)
		}
	}
	var tokens login.Tokens
	switch o.Grant {
	case grantMachine:
		tokens, err = c.ClientCredentials(ctx)
	case grantDevice:
		tokens, err = l.byDevice(ctx, c, o.patience)
	default:
		return l.byBrowser(ctx, c, o, then)
	}
	if err != nil {
		return l.explain(err)
	}
	return then(ctx, tokens)
}

// reach tells whether the gateway answers, whatever it says.
func (l *session) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, l.settings.Gateway+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := l.http.Transport.RoundTrip(req) // a redirect is an answer
	if err != nil {
		return fmt.Errorf("cannot reach the gateway at %s: %w", l.settings.Gateway, err)
	}
	return res.Body.Close()
}

func (l *session) byDevice(ctx context.Context, c *login.Client, patience time.Duration) (login.Tokens, error) {
	d, err := c.BeginDevice(ctx)
	if err != nil {
		return login.Tokens{}, err
	}
	l.say("On any device, open\n\n  %s\n\nand type the code\n\n  %s\n", printable(d.Page), d.UserCode)
	if d.PageWithCode != "" {
		l.say("or open\n\n  %s\n", printable(d.PageWithCode))
	}
	if end := time.Now().Add(patience); d.Expiry.After(end) {
		d.Expiry = end
	}
	l.say("Waiting until %s …", d.Expiry.Local().Format("15:04:05"))
	return c.FinishDevice(ctx, d)
}

// byBrowser has the browser's last page say how it ended, with the gateway too.
func (l *session) byBrowser(ctx context.Context, c *login.Client, o authOptions, then func(context.Context, login.Tokens) error) error {
	callback, err := login.Listen(login.CallbackConfig{Port: o.ListenPort, RedirectHost: o.RedirectHost})
	if err != nil {
		return fmt.Errorf("cannot wait for the browser: %w; "+
			"is another login under way? --listen-port takes another port, which the provider must know, and --grant device needs none", err)
	}
	defer callback.Close()
	begin, finish := c.Begin, c.Finish
	if o.Grant == grantImplicit {
		begin, finish = c.BeginImplicit, c.FinishImplicit
	}
	attempt, page := begin(callback.RedirectURL)
	here := false
	if !o.noBrowser {
		if err := openBrowser(page, l.getenv); err != nil {
			l.say("cannot open a browser: %s", err)
		} else {
			here = true
		}
	}
	if here {
		l.say("Opening the browser to log in. If none opens, go to\n\n  %s\n", page)
	} else {
		l.say("Open this page to log in:\n\n  %s\n", page)
		l.say("A browser on another computer needs that one's port %d forwarded to here\n(ssh -L %[1]d:127.0.0.1:%[1]d HOST), or log in by --grant device.\n", o.ListenPort)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.patience, fmt.Errorf("nobody logged in within %s", o.patience))
	defer cancel()
	return callback.Await(ctx, attempt, func(ctx context.Context, answer url.Values) error {
		tokens, err := finish(ctx, attempt, answer)
		if err != nil {
			return l.explain(err)
		}
		return then(ctx, tokens)
	})
}

// refreshed logs in by the refresh token, and saves and prints what comes of it.
func (l *session) refreshed(ctx context.Context, o authOptions) error {
	unlock, err := l.lock(ctx, l.store)
	if err != nil {
		return err
	}
	defer unlock()
	token, err := l.renew(ctx)
	if err != nil {
		return err
	}
	return l.report(o, token)
}

// renewable tells whether renew needs nobody to log in. A token that was given is
// not renewed as whoever had logged in before.
func (s settings) renewable() bool {
	return s.Authority != "" && !s.GivenToken && (s.RefreshToken != "" || s.Grant == grantMachine && s.ClientSecretFile != "")
}

// renew gets a new token for the gateway without anybody logging in, and saves it. It
// wants the lock: many providers take a refresh token that comes twice for
// stolen, and end the login.
func (l *session) renew(ctx context.Context) (login.Token, error) {
	r, found, err := l.store.settings(l.settings.Gateway)
	if err != nil {
		return login.Token{}, err
	}
	if found && r.RefreshToken != "" {
		l.settings.RefreshToken, l.settings.Origin = r.RefreshToken, r.Origin // another run's
	}
	c, err := l.discover(ctx, l.settings.Authority)
	if err != nil {
		return login.Token{}, err
	}
	if err := l.store.checkSpace(); err != nil { // what comes for a refresh token must not be lost
		return login.Token{}, err
	}
	// At a Ctrl-C, what is under way has 3 s to end, for the same reason.
	grace, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(3*time.Second, func() { cancel(context.Cause(ctx)) })
	})
	defer stop()
	var tokens login.Tokens
	if l.settings.RefreshToken == "" { // see renewable
		tokens, err = c.ClientCredentials(grace)
	} else {
		tokens, err = c.Refresh(grace, l.settings.RefreshToken, l.settings.Origin)
	}
	if errors.Is(err, login.ErrAnother) {
		// The new refresh token may be another person's, and the old one be spent.
		l.settings.RefreshToken = ""
		if err := l.store.saveSettings(l.settings); err != nil {
			return login.Token{}, err
		}
	}
	if err != nil {
		var refused *login.Refusal
		l.providerRefused = errors.As(err, &refused) && refused.Status < 500 // else it is in trouble
		return login.Token{}, err
	}
	if tokens.ID == "" && l.settings.Grant != grantMachine {
		l.providerRefused = true
		return login.Token{}, errors.New("the provider gives no ID token for the refresh token")
	}
	// The old one may be spent, whatever comes now.
	l.settings.RefreshToken, l.settings.Origin = tokens.Refresh, tokens.Origin
	if err := l.store.saveSettings(l.settings); err != nil {
		return login.Token{}, err
	}
	token, err := l.exchange(ctx, tokens)
	if err != nil {
		return login.Token{}, err
	}
	return token, l.store.saveCredential(credential{Gateway: l.settings.Gateway, Auth: oauth2Auth, Token: token.Access})
}

// exchange makes the gateway's token of the provider's, unless that is the
// gateway's.
func (l *session) exchange(ctx context.Context, tokens login.Tokens) (login.Token, error) {
	l.subject = tokens.ID
	if l.subject == "" && l.settings.Grant == grantMachine {
		l.subject = tokens.Access
	}
	switch {
	case l.subject == "":
		return login.Token{}, errors.New("the provider gave no ID token: is openid among the scopes?")
	case l.settings.NoExchange:
		return login.Token{Access: l.subject, Expiry: tokens.Expiry}, nil
	}
	return login.Gateway{URL: l.settings.Gateway, HTTP: l.http}.Exchange(ctx, l.subject)
}

// finish makes the gateway's token of the provider's, saves it, and prints it.
func (l *session) finish(ctx context.Context, o authOptions, tokens login.Tokens) error {
	token, err := l.exchange(ctx, tokens)
	if err != nil {
		return err
	}
	if o.printsOnly() {
		return l.print(o, token.Access)
	}
	unlock, err := l.lock(ctx, l.store)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.store.saveCredential(credential{Gateway: l.settings.Gateway, Auth: oauth2Auth, Token: token.Access}); err != nil {
		return err
	}
	l.settings.RefreshToken, l.settings.Origin = tokens.Refresh, tokens.Origin
	if l.settings.ClientSecretFile == "-" {
		l.settings.ClientSecretFile = ""
	}
	if o.hasToken() { // how the person logs in here stays as it is saved, with its refresh token
		r, _, err := l.store.settings(l.settings.Gateway)
		if err != nil {
			return err
		}
		r.Gateway, r.CA, r.NoExchange, r.GivenToken = l.settings.Gateway, l.settings.CA, l.settings.NoExchange, true
		l.settings = r
	}
	if err := l.store.saveSettings(l.settings); err != nil {
		return err
	}
	return l.report(o, token)
}

// report says what was done, and prints what was asked for.
func (l *session) report(o authOptions, token login.Token) error {
	whose := "the gateway's"
	if l.settings.NoExchange {
		whose = "the provider's"
	}
	until := ""
	if !token.Expiry.IsZero() {
		left := time.Until(token.Expiry).Round(time.Second)
		if left > time.Minute {
			left = left.Round(time.Minute)
		}
		until = fmt.Sprintf(", good until %s (%s)", token.Expiry.Local().Format("15:04"), left)
	}
	who := "Logged in"
	if claims, err := decode(l.subject); err == nil && claims.text("sub") != "" {
		who += " as " + strings.ReplaceAll(printable(claims.text("sub")), "\n", "�")
	}
	l.say("%s: saved %s token for %s%s", who, whose, l.settings.Gateway, until)
	return l.print(o, token.Access)
}

func (l *session) print(o authOptions, token string) error {
	if o.pretty {
		text, err := pretty(token)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(l.stdout, text)
		return err
	}
	if o.printToken || o.authURL != "" && !o.given("print-token") { // the older form always did
		_, err := fmt.Fprintln(l.stdout, token)
		return err
	}
	return nil
}
