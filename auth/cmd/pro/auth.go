package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/auth/login"
)

// The grants.
const (
	grantCode     = "code"
	grantImplicit = "implicit-id"
	grantMachine  = "client_credentials"
	grantDevice   = "device"
)

var grants = []string{grantCode, grantImplicit, grantMachine, grantDevice}

// authOptions are the flags of auth.
type authOptions struct {
	settings // what is remembered

	authURL, tokenURL  string // of the older form
	clientSecret       string
	token, tokenFile   string
	scope              string
	printToken, pretty bool
	noBrowser, launch  bool
	insecure           bool
	patience           time.Duration
	given              func(flag string) bool
}

func (p program) auth() *cobra.Command {
	var o authOptions
	c := command(&cobra.Command{
		Use:   "auth --gateway URL --authority URL --client-id ID",
		Short: "Log in, and save a token for faas-cli",
		Long: `Logs in at the OpenID provider, exchanges the token for one of the gateway's, and
saves that where faas-cli finds it. The next time the gateway's URL is enough.

The provider has to know the client, as a public one with the code flow and PKCE,
and http://127.0.0.1:31111/oauth/callback as where it may be sent back to.`,
		Example: `  faas-cli pro auth --gateway https://gw.example.com \
    --authority https://keycloak.example.com/realms/openfaas --client-id openfaas

  # On a machine without a browser
  faas-cli pro auth -g https://gw.example.com --authority https://idp.example.com --client-id cli --grant device

  # A program of its own
  faas-cli pro auth -g https://gw.example.com --authority https://idp.example.com \
    --grant client_credentials --client-id ci --client-secret-file /run/secrets/ci

  # With the token that a CI system gives
  faas-cli pro auth -g https://gw.example.com --token-file token.txt

  # What is in the provider's token, for writing roles
  faas-cli pro auth -g https://gw.example.com --no-exchange --pretty`,
	}, func(ctx context.Context) error { return p.runAuth(ctx, o) })
	p.gatewayFlag(c, &o.Gateway)
	f := c.Flags()
	o.given = f.Changed
	f.StringVar(&o.Authority, "authority", "", "the OpenID provider's issuer URL")
	f.StringVar(&o.ClientID, "client-id", "", "what the provider knows us by")
	f.StringVar(&o.clientSecret, "client-secret", "", "its secret; prefer --client-secret-file: others see the flags of programs that run")
	f.StringVar(&o.ClientSecretFile, "client-secret-file", "", "file with the secret; - is stdin; what you type at a terminal is not shown")
	f.StringVar(&o.Grant, "grant", grantCode, strings.Join(grants, ", "))
	f.StringVar(&o.scope, "scope", "openid profile email", "scopes to ask for; with offline_access some providers give a refresh token")
	f.StringVar(&o.Audience, "audience", "", "audience to ask for, where the provider wants to be told")
	f.StringVar(&o.token, "token", "", "a token of the provider's, in place of logging in; prefer --token-file")
	f.StringVar(&o.tokenFile, "token-file", "", "file with it; - is stdin; what you type at a terminal is not shown")
	f.BoolVar(&o.NoExchange, "no-exchange", false, "keep the provider's token, as for a federated gateway; with --print-token or --pretty, print it only")
	f.BoolVar(&o.printToken, "print-token", false, "print the token")
	f.BoolVar(&o.pretty, "pretty", false, "print the token's header and payload")
	f.BoolVar(&o.noBrowser, "no-browser", false, "print the page to open, and open none")
	f.StringVar(&o.RedirectHost, "redirect-host", "http://127.0.0.1", "where the browser finds this program")
	f.IntVar(&o.ListenPort, "listen-port", 31111, "the port on 127.0.0.1 that the browser comes back to")
	f.DurationVar(&o.patience, "timeout", 5*time.Minute, "how long to wait for you")
	tlsFlags(c, &o.CA, &o.insecure)

	f.StringVar(&o.authURL, "auth-url", "", "older: the provider's authorization or token endpoint, in place of --authority; it prints the token, too")
	f.StringVar(&o.tokenURL, "token-url", "", "older: its token endpoint")
	f.BoolVar(&o.launch, "launch-browser", true, "older: =false is --no-browser")
	f.Bool("eula", false, "older: there is nothing to agree to")
	for _, name := range []string{"token-url", "launch-browser", "eula"} {
		_ = f.MarkHidden(name)
	}
	_ = c.RegisterFlagCompletionFunc("grant", cobra.FixedCompletions(grants, cobra.ShellCompDirectiveNoFileComp))
	c.MarkFlagsMutuallyExclusive("client-secret", "client-secret-file")
	c.MarkFlagsMutuallyExclusive("token", "token-file")
	c.MarkFlagsMutuallyExclusive("authority", "auth-url")
	return c
}

func tlsFlags(c *cobra.Command, ca *string, insecure *bool) {
	f := c.Flags()
	f.StringVar(ca, "ca", "", "PEM file of certificate authorities to trust besides the system's")
	f.BoolVar(insecure, "tls-no-verify", false, "check no certificates: whoever is in between gets your tokens")
}

// runAuth logs in.
func (p program) runAuth(ctx context.Context, o authOptions) error {
	store, err := openStore(p.getenv)
	if err != nil {
		return err
	}
	refresh, err := o.complete(store)
	if err != nil {
		return err
	}
	if o.clientSecret != "" || o.token != "" {
		p.say("warning: secrets given as flags can be seen in the list of processes; prefer --client-secret-file and --token-file")
	}
	p.warnOfPlain("gateway", o.Gateway)
	p.warnOfPlain("provider", o.Authority)
	p.warnOfPlain("provider", o.authURL)
	if !o.printsOnly() { // better now than when somebody has logged in
		if err := p.check(ctx, store, o.Gateway); err != nil {
			return err
		}
	}
	l := session{program: p, store: store, settings: o.settings, secret: o.clientSecret, insecure: o.insecure}
	if err := l.connect(); err != nil {
		return err
	}
	if !o.hasToken() { // renew holds the lock, and others must not wait for a person who types
		if err := l.readClientSecret(ctx); err != nil {
			return err
		}
	}

	then := func(ctx context.Context, tokens login.Tokens) error { return l.explain(l.finish(ctx, o, tokens)) }
	if o.hasToken() {
		token := o.token
		if o.tokenFile != "" {
			if token, err = p.readSecret(ctx, "Token", o.tokenFile); err != nil {
				return fmt.Errorf("--token-file: %w", err)
			}
		}
		if token = strings.TrimSpace(token); token == "" {
			return usage("the token is empty")
		}
		return then(ctx, login.Tokens{ID: token})
	}
	if refresh {
		err := l.refreshed(ctx, o)
		if err == nil || !l.providerRefused {
			return l.explain(err)
		}
		p.say("the last login has ended (%s); log in again", printable(err.Error()))
	}
	return l.logIn(ctx, o, then)
}

// complete fills in what is remembered where no flag says otherwise, and tells
// whether that goes for the refresh token, too.
func (o *authOptions) complete(store *store) (refresh bool, err error) {
	if o.Gateway, err = gatewayURL(o.Gateway); err != nil {
		return false, err
	}
	o.Scopes = strings.Fields(o.scope)
	if o.ClientSecretFile != "" && o.ClientSecretFile != "-" {
		if o.ClientSecretFile, err = filepath.Abs(o.ClientSecretFile); err != nil {
			return false, err
		}
	}
	if o.CA != "" {
		if o.CA, err = filepath.Abs(o.CA); err != nil {
			return false, err
		}
	}
	o.noBrowser = o.noBrowser || !o.launch
	if o.Authority != "" {
		if err := checkWebAddress("authority", o.Authority); err != nil {
			return false, err
		}
	}
	if o.ListenPort < 1 || o.ListenPort > 65535 {
		return false, usage("--listen-port is %d; want 1 to 65535", o.ListenPort)
	}

	r, found, err := store.settings(o.Gateway)
	if err != nil {
		return false, err
	}
	logsIn := !o.hasToken()
	if found && r.Authority != "" && logsIn {
		elsewhere := o.given("authority") && o.Authority != r.Authority || o.given("auth-url") || o.given("client-id") && o.ClientID != r.ClientID
		refresh = !elsewhere && r.RefreshToken != "" &&
			!(o.given("grant") && o.Grant != r.Grant) && !(o.given("scope") && !slices.Equal(o.Scopes, r.Scopes)) &&
			!(o.given("audience") && o.Audience != r.Audience)
		if !elsewhere {
			take(o.given("authority"), &o.Authority, r.Authority)
			take(o.given("client-id"), &o.ClientID, r.ClientID)
			take(o.given("grant"), &o.Grant, r.Grant)
			take(o.given("scope"), &o.Scopes, r.Scopes)
			take(o.given("audience"), &o.Audience, r.Audience)
			take(o.given("redirect-host"), &o.RedirectHost, r.RedirectHost)
			take(o.given("listen-port"), &o.ListenPort, r.ListenPort)
			take(o.given("client-secret") || o.given("client-secret-file"), &o.ClientSecretFile, r.ClientSecretFile)
			if refresh {
				o.RefreshToken = r.RefreshToken
			}
		}
	}
	take(o.given("ca"), &o.CA, r.CA)
	take(o.given("no-exchange"), &o.NoExchange, r.NoExchange)
	if o.printsOnly() {
		refresh = false // a refresh token may be good for one use: what comes of it is to be saved
	}
	if !logsIn {
		return false, nil
	}
	switch {
	case o.Grant == "implicit":
		return false, usage("--grant implicit shows access tokens to the browser, and is no more; use code, or implicit-id for clients that cannot")
	case !slices.Contains(grants, o.Grant):
		return false, usage("--grant is %q; want %s", o.Grant, strings.Join(grants, ", "))
	case o.Authority == "" && o.authURL == "":
		return false, usage("--authority is missing: the issuer URL of the OpenID provider that %s trusts", o.Gateway)
	case o.ClientID == "":
		return false, usage("--client-id is missing")
	case o.Grant == grantMachine && o.clientSecret == "" && o.ClientSecretFile == "":
		return false, usage("--grant client_credentials needs --client-secret-file")
	}
	return refresh, nil
}

// hasToken tells whether there is a token already, be it an empty one, as of a
// variable that is not set: nobody is there then who could log in.
func (o *authOptions) hasToken() bool { return o.given("token") || o.given("token-file") }

// printsOnly tells whether the provider's token is looked at, and not kept.
func (o *authOptions) printsOnly() bool {
	return o.given("no-exchange") && o.NoExchange && (o.printToken || o.pretty)
}

// take sets what no flag has.
func take[T any](given bool, to *T, remembered T) {
	if !given {
		*to = remembered
	}
}

func (p program) warnOfPlain(what, address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		p.say("warning: the %s at %s is asked without TLS: whoever is in between gets your tokens", what, address)
	}
}

func checkWebAddress(what, text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return usage("--%s is %q; want https://host/path", what, text)
	}
	if u.User != nil {
		return usage("--%s contains a password", what)
	}
	return nil
}

// authority finds the issuer of an endpoint that the older form names: it is
// served above it.
func (l *session) authority(ctx context.Context, endpoint, tokenURL string) (*login.Client, error) {
	if err := checkWebAddress("auth-url", endpoint); err != nil {
		return nil, err
	}
	base := strings.TrimRight(endpoint, "/")
	for range 10 {
		cut := strings.LastIndexByte(base, '/')
		if cut < len("https://") {
			break
		}
		base = base[:cut]
		c, err := l.discover(ctx, base)
		if err == nil && (c.Endpoint().AuthURL == endpoint || c.Endpoint().TokenURL == endpoint) {
			if tokenURL != "" && c.Endpoint().TokenURL != tokenURL {
				return nil, usage("--token-url is %s, but the provider says %s", tokenURL, c.Endpoint().TokenURL)
			}
			return c, nil
		}
		var unreachable *url.Error
		if errors.As(err, &unreachable) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no OpenID provider says that %s is its endpoint; give its issuer URL by --authority", endpoint)
}
