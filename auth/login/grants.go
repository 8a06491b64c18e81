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

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// redeem gets tokens from the token endpoint. Where the provider takes the
// client's secret in a header or in the body, some clients may do only the
// latter: those are refused before anything is redeemed.
func (c *Client) redeem(ctx context.Context, secrets []string, get func(context.Context, *oauth2.Config) (*oauth2.Token, error)) (*oauth2.Token, error) {
	ctx = oidc.ClientContext(ctx, c.http)
	oauth := c.oauth
	t, err := get(ctx, &oauth)
	err = refusal(err, append(secrets, c.oauth.ClientSecret)...)
	var r *Refusal
	if errors.As(err, &r) && r.Code == "invalid_client" && oauth.Endpoint.AuthStyle == oauth2.AuthStyleInHeader &&
		slices.Contains(c.metadata.Authentication, "client_secret_post") {
		oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		t, err = get(ctx, &oauth)
		err = refusal(err, append(secrets, c.oauth.ClientSecret)...)
	}
	return t, err
}

// Refresh gets new tokens for a refresh token (RFC 6749 section 6). The
// refresh token in them is the one to keep. There may be no ID token among them.
// ErrAnother says that the ID token is not of the login with this origin. A zero
// origin, of a login from before origins were kept, is not compared.
func (c *Client) Refresh(ctx context.Context, refresh string, origin Origin) (Tokens, error) {
	if refresh == "" {
		return Tokens{}, errors.New("there is no refresh token")
	}
	t, err := c.redeem(ctx, []string{refresh}, func(ctx context.Context, oauth *oauth2.Config) (*oauth2.Token, error) {
		return oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
	})
	if err != nil {
		return Tokens{}, err
	}
	tokens, err := c.tokens(ctx, t, "")
	if err != nil {
		return Tokens{}, err
	}
	if origin.Subject == "" {
		return tokens, nil
	}
	if tokens.ID != "" {
		if err := origin.check(tokens.Origin); err != nil {
			return Tokens{}, err
		}
	}
	tokens.Origin = origin // the first ID token's: a later one may lack the nonce
	return tokens, nil
}

// ClientCredentials logs the client itself in (RFC 6749 section 4.4). Most
// providers give an access token alone.
func (c *Client) ClientCredentials(ctx context.Context) (Tokens, error) {
	t, err := c.redeem(ctx, nil, func(ctx context.Context, oauth *oauth2.Config) (*oauth2.Token, error) {
		machine := clientcredentials.Config{
			ClientID: oauth.ClientID, ClientSecret: oauth.ClientSecret, Scopes: oauth.Scopes,
			TokenURL: oauth.Endpoint.TokenURL, AuthStyle: oauth.Endpoint.AuthStyle,
		}
		if c.audience != "" {
			machine.EndpointParams = url.Values{"audience": {c.audience}}
		}
		return machine.Token(ctx)
	})
	if err != nil {
		return Tokens{}, err
	}
	return c.tokens(ctx, t, "")
}

// Device is a login under way on another device (RFC 8628).
type Device struct {
	// UserCode is what the person types at Page.
	UserCode string
	// Page is where; PageWithCode has the code filled in, "" = there is none.
	Page, PageWithCode string
	// Expiry is when the code ends.
	Expiry time.Time

	code     string
	interval int64 // seconds
}

// ErrNoDevice says that the provider has no device flow.
var ErrNoDevice = errors.New("the provider offers no device code: it has no device_authorization_endpoint")

// BeginDevice starts one.
func (c *Client) BeginDevice(ctx context.Context) (Device, error) {
	if c.metadata.Device == "" {
		return Device{}, ErrNoDevice
	}
	form := url.Values{"client_id": {c.oauth.ClientID}, "scope": {strings.Join(c.oauth.Scopes, " ")}}
	if c.audience != "" {
		form.Set("audience", c.audience)
	}
	req, err := formRequest(ctx, c.metadata.Device, form)
	if err != nil {
		return Device{}, err
	}
	c.authenticate(req, form)
	res, err := c.http.Do(req)
	if err != nil {
		return Device{}, fmt.Errorf("cannot ask the provider for a device code: %w", tidy(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Device{}, answeredRefusal(res, c.oauth.ClientSecret)
	}
	var answer oauth2.DeviceAuthResponse
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return Device{}, fmt.Errorf("the provider's answer is no device code (RFC 8628 section 3.2): %w", tidy(err))
	}
	d := Device{
		UserCode: clean(answer.UserCode), Page: answer.VerificationURI, PageWithCode: answer.VerificationURIComplete,
		Expiry: answer.Expiry, code: answer.DeviceCode, interval: answer.Interval,
	}
	if d.code == "" || d.UserCode == "" {
		return Device{}, errors.New("the provider's answer has no device_code and user_code (RFC 8628 section 3.2)")
	}
	for _, page := range []string{d.Page, d.PageWithCode} {
		if page == d.PageWithCode && page == "" {
			continue
		}
		if err := checkURL(page, c.metadata.secure()); err != nil {
			return Device{}, fmt.Errorf("the page to type the code at: %w", err)
		}
	}
	if latest := time.Now().Add(time.Hour); d.Expiry.IsZero() || d.Expiry.After(latest) {
		d.Expiry = latest
	}
	if d.interval < 1 || d.interval > 300 {
		d.interval = 5
	}
	return d, nil
}

// FinishDevice waits until the person has logged in, or has refused to, which is a
// *Refusal.
func (c *Client) FinishDevice(ctx context.Context, d Device) (Tokens, error) {
	t, err := c.redeem(ctx, []string{d.code}, func(ctx context.Context, oauth *oauth2.Config) (*oauth2.Token, error) {
		return oauth.DeviceAccessToken(ctx, &oauth2.DeviceAuthResponse{DeviceCode: d.code, Expiry: d.Expiry, Interval: d.interval})
	})
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !time.Now().Before(d.Expiry) {
		return Tokens{}, &Refusal{Code: "expired_token", Description: "nobody typed the code in time"}
	}
	if err != nil {
		return Tokens{}, err
	}
	return c.tokens(ctx, t, "")
}

// Revoke ends a refresh token at the provider (RFC 7009). A provider without
// revocation is no error: there is nothing to be done.
func (c *Client) Revoke(ctx context.Context, refresh string) error {
	if c.metadata.Revocation == "" {
		return nil
	}
	form := url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}, "client_id": {c.oauth.ClientID}}
	req, err := formRequest(ctx, c.metadata.Revocation, form)
	if err != nil {
		return err
	}
	c.authenticate(req, form)
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the provider to end the login: %w", tidy(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return answeredRefusal(res, refresh, c.oauth.ClientSecret)
	}
	return nil
}
