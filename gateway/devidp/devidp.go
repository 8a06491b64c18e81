// Package devidp is an OpenID provider for development: it hands out ID tokens
// for any name without asking for a password, so the gateway serves it in `up`
// mode alone, on loopback. It owns its key and its documents; that the gateway
// trusts it is written in the IAM folder like any other issuer.
package devidp

import (
	"fmt"
	"time"

	"github.com/gatehound/gatehound/exchange/issuer"
)

// Path is where the gateway serves the provider's documents.
const Path = "/dev-idp"

// Audience is the aud of its ID tokens.
const Audience = "gatehound"

// Provider is the development identity provider.
type Provider struct{ issuer *issuer.Issuer }

// New returns a provider with the signing key in keyPath, which is made at
// the first use. url is its issuer URL.
func New(keyPath, url string) (*Provider, error) {
	key, err := issuer.LoadOrCreate(keyPath)
	if err != nil {
		return nil, fmt.Errorf("development identity provider: %w", err)
	}
	i, err := issuer.New(url, key)
	if err != nil {
		return nil, fmt.Errorf("development identity provider: %w", err)
	}
	return &Provider{issuer: i}, nil
}

// Documents returns the discovery document and the key set by the path at
// which the gateway has to serve them.
func (p *Provider) Documents() map[string][]byte {
	return map[string][]byte{
		Path + issuer.DiscoveryPath: p.issuer.Discovery(""),
		Path + issuer.KeysPath:      p.issuer.JWKS(),
	}
}

// IDToken returns an ID token (OpenID Connect Core 1.0 §2) for sub with
// further claims, which may not name a claim that the token sets itself.
func (p *Provider) IDToken(sub string, further map[string]any, lifetime time.Duration) (string, error) {
	if sub == "" {
		return "", fmt.Errorf("an ID token needs a subject: want --sub alice, or another name")
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.issuer.URL(),
		"aud": Audience,
		"sub": sub,
		"iat": now.Unix(),
		"exp": now.Add(lifetime).Unix(),
	}
	for name, value := range further {
		if _, taken := claims[name]; taken || name == "" {
			return "", fmt.Errorf("claim %q: want a claim that is not empty and not one of iss, aud, sub, iat and exp", name)
		}
		claims[name] = value
	}
	return p.issuer.Sign(claims)
}
