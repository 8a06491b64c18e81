// Package login is an OpenID Connect relying party: it has people and programs
// log in at an OpenID provider (OpenID Connect Core 1.0), and trades what they
// get for our gateway's tokens (RFC 8693). It owns the protocol's side of a
// login. Where attempts, sessions and tokens are kept, and how a browser gets to
// the provider, is the caller's business: the dashboard's, or the faas-cli
// plugin's.
//
// No error contains a token, a code or a secret: what a server answers is quoted
// without those we sent it, without what looks like one, and not at length.
package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config says who logs in where.
type Config struct {
	// Issuer is the provider's issuer URL; discovery is below it. A slash at its
	// end may be missing or too many.
	Issuer string
	// ClientID names us there.
	ClientID string
	// ClientSecret proves it; "" = a public client, which PKCE protects.
	ClientSecret string
	// Scopes are asked for; nil = openid, profile and email.
	Scopes []string
	// Audience is sent as the parameter of that name, in which Auth0 and others
	// want to know what the access token is for; "" = not sent.
	Audience string
	// HTTP reaches the provider; nil = http.DefaultClient. Whatever it is, answers
	// end at 512 KiB and 30 s, and no redirect takes a POST elsewhere.
	HTTP *http.Client
}

// Client is known to one provider. It may be used at the same time by many.
type Client struct {
	provider *oidc.Provider
	oauth    oauth2.Config
	metadata metadata
	audience string
	http     *http.Client
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
	// Origin is what a later Refresh is compared with; zero = there was no ID token.
	Origin Origin
}

// Token is what the gateway gave in exchange.
type Token struct {
	Access string
	Expiry time.Time // zero = not said
}

// Refusal is an OAuth error that a provider or a gateway answered (RFC 6749
// sections 4.1.2.1 and 5.2, RFC 8693 section 2.2.2).
type Refusal struct {
	Status            int // 0 = it came by way of the browser
	Code, Description string
}

func (r *Refusal) Error() string {
	if r.Description == "" {
		return r.Code
	}
	return r.Code + ": " + r.Description
}

// metadata is what a provider says of itself (OpenID Connect Discovery 1.0,
// section 3, and the RFCs of the endpoints).
type metadata struct {
	Issuer         string   `json:"issuer"`
	Authorization  string   `json:"authorization_endpoint"`
	Token          string   `json:"token_endpoint"`
	Keys           string   `json:"jwks_uri"`
	Device         string   `json:"device_authorization_endpoint"`
	EndSession     string   `json:"end_session_endpoint"`
	Revocation     string   `json:"revocation_endpoint"`
	Algorithms     []string `json:"id_token_signing_alg_values_supported"`
	Authentication []string `json:"token_endpoint_auth_methods_supported"`
	SendsIssuer    bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207
}

// secure tells whether the provider is reached by TLS, as all of it is then.
func (m metadata) secure() bool { return strings.HasPrefix(m.Issuer, "https:") }

// Discover asks the provider for its metadata.
func Discover(ctx context.Context, c Config) (*Client, error) {
	if err := checkURL(c.Issuer, false); err != nil {
		return nil, fmt.Errorf("the provider's issuer URL: %w", err)
	}
	if c.ClientID == "" {
		return nil, errors.New("the client ID is missing")
	}
	client := bounded(c.HTTP)
	m, err := discover(ctx, client, c.Issuer)
	if err != nil {
		return nil, err
	}
	if c.Scopes == nil {
		c.Scopes = []string{oidc.ScopeOpenID, "profile", "email"}
	}
	p := oidc.ProviderConfig{
		IssuerURL: m.Issuer, AuthURL: m.Authorization, TokenURL: m.Token, DeviceAuthURL: m.Device, JWKSURL: m.Keys,
		Algorithms: m.Algorithms,
	}
	l := &Client{
		provider: p.NewProvider(oidc.ClientContext(context.Background(), client)),
		metadata: m,
		audience: c.Audience,
		http:     client,
	}
	l.oauth = oauth2.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, Scopes: c.Scopes, Endpoint: l.provider.Endpoint()}
	// Said rather than tried: a code may be redeemed only once. Without a list it
	// is client_secret_basic (Discovery 1.0, section 3).
	l.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if c.ClientSecret == "" || len(m.Authentication) > 0 && !slices.Contains(m.Authentication, "client_secret_basic") {
		l.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return l, nil
}

func discover(ctx context.Context, client *http.Client, issuer string) (m metadata, err error) {
	page := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return m, err
	}
	res, err := client.Do(req)
	if err != nil {
		return m, fmt.Errorf("cannot ask the provider for its metadata: %w", tidy(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return m, fmt.Errorf("%s answered %s: is %s the provider's issuer URL?", page, clean(res.Status), issuer)
	}
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		return m, fmt.Errorf("%s is not a provider's metadata: %w", page, tidy(err))
	}
	// A document may not speak for another issuer (Discovery 1.0, section 4.3).
	if strings.TrimSuffix(m.Issuer, "/") != strings.TrimSuffix(issuer, "/") {
		return m, fmt.Errorf("%s is the metadata of another issuer, %q: is that the provider's issuer URL?", page, clean(m.Issuer))
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": m.Authorization, "token_endpoint": m.Token, "jwks_uri": m.Keys} {
		if endpoint == "" {
			return m, fmt.Errorf("%s has no %s", page, name)
		}
	}
	for _, endpoint := range []string{m.Authorization, m.Token, m.Keys, m.Device, m.EndSession, m.Revocation} {
		if endpoint == "" {
			continue
		}
		if err := checkURL(endpoint, m.secure()); err != nil {
			return m, fmt.Errorf("%s names an endpoint: %w", page, err)
		}
	}
	// Of keys that are published only: with HS256 the key would be the client's
	// secret, with none there is none.
	m.Algorithms = slices.DeleteFunc(m.Algorithms, func(a string) bool { return !slices.Contains(algorithms, a) })
	return m, nil
}

var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// checkURL refuses what is not a web address, or with secure, one without TLS.
func checkURL(text string, secure bool) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%q is not a URL", clean(text))
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil:
		return fmt.Errorf("%q is no web address; want https://host/path", clean(u.Redacted()))
	case strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return fmt.Errorf("%q has characters that no web address has", clean(text)) // it is shown in terminals
	case secure && u.Scheme != "https":
		return fmt.Errorf("%q is not https, as its issuer is", clean(text))
	}
	return nil
}

// Issuer is the provider's issuer URL, as it spells it.
func (c *Client) Issuer() string { return c.metadata.Issuer }

// Endpoint is where the provider's endpoints are.
func (c *Client) Endpoint() oauth2.Endpoint { return c.oauth.Endpoint }

// EndSession is the page of the provider's that logs a person out there and
// comes back to returnTo (OpenID Connect RP-Initiated Logout 1.0); "" = it has
// none. Either argument may be "": without an ID token some providers ask the
// person first. The page's URL contains the ID token.
func (c *Client) EndSession(idToken, returnTo string) string {
	page, err := url.Parse(c.metadata.EndSession)
	if err != nil || c.metadata.EndSession == "" {
		return ""
	}
	query := page.Query()
	query.Set("client_id", c.oauth.ClientID)
	if idToken != "" {
		query.Set("id_token_hint", idToken)
	}
	if returnTo != "" {
		query.Set("post_logout_redirect_uri", returnTo)
	}
	page.RawQuery = query.Encode()
	return page.String()
}
