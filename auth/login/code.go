package login

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Begin starts an authorization code flow with PKCE (RFC 7636). The person's
// browser goes to page, and comes back to redirectURL.
func (c *Client) Begin(redirectURL string) (a Attempt, page string) {
	a = newAttempt(redirectURL)
	a.Verifier = oauth2.GenerateVerifier()
	return a, c.page(a, oauth2.S256ChallengeOption(a.Verifier))
}

// BeginImplicit starts an implicit flow for an ID token and nothing else (OpenID
// Connect Core 1.0, section 3.2), for clients that may do no better. The token
// comes back in the fragment of the redirect URL.
func (c *Client) BeginImplicit(redirectURL string) (a Attempt, page string) {
	a = newAttempt(redirectURL)
	return a, c.page(a, oauth2.SetAuthURLParam("response_type", "id_token"))
}

func newAttempt(redirectURL string) Attempt {
	// 256 random bits each.
	return Attempt{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), RedirectURL: redirectURL}
}

func (c *Client) page(a Attempt, options ...oauth2.AuthCodeOption) string {
	options = append(options, oidc.Nonce(a.Nonce))
	if c.audience != "" {
		options = append(options, oauth2.SetAuthURLParam("audience", c.audience))
	}
	oauth := c.oauth
	oauth.RedirectURL = a.RedirectURL
	return oauth.AuthCodeURL(a.State, options...)
}

// Finish ends it with the query that came to the redirect URL: it checks the
// state, redeems the code and verifies the ID token with its nonce. What the
// provider refused is a *Refusal.
func (c *Client) Finish(ctx context.Context, a Attempt, query url.Values) (Tokens, error) {
	if err := c.checkAnswer(a, query); err != nil {
		return Tokens{}, err
	}
	if a.Verifier == "" || query.Get("code") == "" {
		return Tokens{}, errors.New("the provider sent no code")
	}
	t, err := c.redeem(ctx, []string{query.Get("code"), a.Verifier}, func(ctx context.Context, oauth *oauth2.Config) (*oauth2.Token, error) {
		oauth.RedirectURL = a.RedirectURL
		return oauth.Exchange(ctx, query.Get("code"), oauth2.VerifierOption(a.Verifier))
	})
	if err != nil {
		return Tokens{}, err
	}
	tokens, err := c.tokens(ctx, t, a.Nonce)
	if err == nil && tokens.ID == "" {
		err = errors.New("the provider gave no ID token: is openid among the scopes?")
	}
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// FinishImplicit ends an implicit flow with what came in the fragment of the
// redirect URL.
func (c *Client) FinishImplicit(ctx context.Context, a Attempt, fragment url.Values) (Tokens, error) {
	if err := c.checkAnswer(a, fragment); err != nil {
		return Tokens{}, err
	}
	raw := fragment.Get("id_token")
	if raw == "" || a.Nonce == "" {
		return Tokens{}, errors.New("the provider sent no ID token")
	}
	id, claims, err := c.verify(ctx, raw, a.Nonce)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{ID: raw, Expiry: id.Expiry, Claims: claims, Origin: originOf(id, claims)}, nil
}

// checkAnswer refuses an authorization response that does not belong to the
// attempt, comes from another provider, or is a refusal.
func (c *Client) checkAnswer(a Attempt, answer url.Values) error {
	for _, name := range []string{"state", "iss", "code", "id_token", "error"} {
		if len(answer[name]) > 1 { // RFC 6749 section 3.1
			return fmt.Errorf("the provider sent %s twice", name)
		}
	}
	if !same(a.State, answer.Get("state")) {
		return errors.New("this is not the end of the login that was begun here: its state is another")
	}
	// An honest provider's answer, sent to us by another whom we take it for, would
	// have us give its code to that other (RFC 9207).
	switch iss, sent := answer.Get("iss"), answer.Has("iss"); {
	case sent && iss != c.metadata.Issuer:
		return fmt.Errorf("the answer comes from another provider, %q", clean(iss))
	case !sent && c.metadata.SendsIssuer:
		return errors.New("the answer does not say which provider it comes from (iss), as this one's do")
	}
	if code := answer.Get("error"); code != "" {
		return &Refusal{Code: clean(code), Description: clean(answer.Get("error_description"))}
	}
	return nil
}

// same compares secrets. An empty one is the same as nothing.
func same(want, got string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(got)) == 1
}

// tokens looks at what a token endpoint gave. Without a nonce, none is expected.
func (c *Client) tokens(ctx context.Context, t *oauth2.Token, nonce string) (Tokens, error) {
	tokens := Tokens{Access: t.AccessToken, Refresh: t.RefreshToken, Expiry: t.Expiry}
	if !sendable(t.AccessToken) {
		return Tokens{}, errors.New("the provider's access token has characters that no token has")
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return tokens, nil
	}
	id, claims, err := c.verify(ctx, raw, nonce)
	if err != nil {
		return Tokens{}, err
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(t.AccessToken); err != nil {
			return Tokens{}, fmt.Errorf("the access token is not the one that the ID token was given with: %s", clean(err.Error()))
		}
	}
	tokens.ID, tokens.Expiry, tokens.Claims, tokens.Origin = raw, id.Expiry, claims, originOf(id, claims)
	return tokens, nil
}

// ExpiredError says that the provider's ID token had expired when it came: that
// one of the two clocks is wrong.
type ExpiredError struct{ Expiry time.Time }

func (e *ExpiredError) Error() string {
	return "the provider's ID token expired at " + e.Expiry.UTC().Format(time.RFC3339) + ", before it came: is this computer's clock right?"
}

// verify verifies an ID token (OpenID Connect Core 1.0, section 3.1.3.7).
func (c *Client) verify(ctx context.Context, raw, nonce string) (*oidc.IDToken, map[string]any, error) {
	if !sendable(raw) { // the library skips line breaks
		return nil, nil, errors.New("the provider's ID token has characters that no token has")
	}
	id, err := c.provider.Verifier(&oidc.Config{ClientID: c.oauth.ClientID}).Verify(ctx, raw)
	if err != nil {
		var expired *oidc.TokenExpiredError
		if errors.As(err, &expired) {
			return nil, nil, &ExpiredError{expired.Expiry}
		}
		return nil, nil, fmt.Errorf("the provider's ID token is refused: %w", tidy(err, raw))
	}
	if nonce != "" && !same(nonce, id.Nonce) {
		return nil, nil, errors.New("the provider's ID token is not for the login that was begun here: its nonce is another")
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, nil, errors.New("the provider's ID token has no claims")
	}
	if azp, _ := claims["azp"].(string); len(id.Audience) > 1 && azp != "" && azp != c.oauth.ClientID {
		return nil, nil, fmt.Errorf("the provider's ID token was given to another client, %q", clean(azp))
	}
	return id, claims, nil
}
