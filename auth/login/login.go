// Package login is an OpenID Connect relying party: it has people and programs
// log in at an OpenID provider (OpenID Connect Core 1.0), and trades what they
// get for our gateway's tokens (RFC 8693). It owns the protocol's side of a
// login. Where attempts, sessions and tokens are kept, and how a browser gets to
// the provider, is the caller's business: the dashboard's, or the faas-cli
// plugin's.
package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config says who logs in where.
type Config struct {
	// Issuer is the provider's issuer URL; discovery is below it.
	Issuer string
	// ClientID names us there.
	ClientID string
	// ClientSecret proves it; "" = a public client, which PKCE protects.
	ClientSecret string
	// Scopes are asked for; nil = openid, profile and email.
	Scopes []string
	// HTTP reaches the provider; nil = http.DefaultClient.
	HTTP *http.Client
}

// Client is known to one provider. It may be used at the same time by many.
type Client struct {
	provider *oidc.Provider
	oauth    oauth2.Config
}

// Attempt is a login under way: what must be kept, unseen by others, between
// Begin and Finish.
type Attempt struct {
	State, Nonce, Verifier, RedirectURL string
}

// Tokens are what the provider gave.
type Tokens struct {
	// ID is the ID token, verified; "" = the grant has none.
	ID string
	// Access is the access token, Refresh the refresh token; "" = none.
	Access, Refresh string
	// Expiry is the ID token's, or else the access token's; zero = not said.
	Expiry time.Time
	// Claims are the ID token's; nil without one.
	Claims map[string]any
}

// Token is what the gateway gave in exchange.
type Token struct {
	Access string
	Expiry time.Time // zero = not said
}

// Refusal is an OAuth error that a provider or a gateway answered (RFC 6749
// section 5.2, RFC 8693 section 2.2.2).
type Refusal struct {
	Status            int
	Code, Description string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Description }

// Discover asks the provider for its metadata.
func Discover(ctx context.Context, c Config) (*Client, error) { return nil, errors.ErrUnsupported }

// Begin starts an authorization code flow with PKCE (RFC 7636). The person's
// browser goes to page, and comes back to redirectURL.
func (c *Client) Begin(redirectURL string) (a Attempt, page string) { return }

// Finish ends it with the query that came to the redirect URL: it checks the
// state, redeems the code and verifies the ID token with its nonce.
func (c *Client) Finish(ctx context.Context, a Attempt, query url.Values) (Tokens, error) {
	return Tokens{}, errors.ErrUnsupported
}

// Refresh gets new tokens for a refresh token (RFC 6749 section 6). The
// refresh token in them is the one to keep.
func (c *Client) Refresh(ctx context.Context, refresh string) (Tokens, error) {
	return Tokens{}, errors.ErrUnsupported
}

// EndSession is the page of the provider's that logs a person out there and
// comes back to returnTo (OpenID Connect RP-Initiated Logout 1.0); "" = it has none.
func (c *Client) EndSession(idToken, returnTo string) string { return "" }

// Gateway is where tokens are exchanged.
type Gateway struct {
	// URL is the gateway's base URL.
	URL string
	// HTTP reaches it; nil = http.DefaultClient.
	HTTP *http.Client
}

// Exchange trades an ID token for an API token (RFC 8693). With functions, which
// are patterns such as "openfaas-fn:env", it is a function token for those; an API
// token is good for that, too. The gateway's refusals are *Refusal.
func (g Gateway) Exchange(ctx context.Context, subjectToken string, functions ...string) (Token, error) {
	return Token{}, errors.ErrUnsupported
}
