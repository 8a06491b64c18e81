package login

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Origin says who logged in, at which issuer and for which client, by the first ID
// token of a login. It is no secret, and is kept with the refresh token.
type Origin struct {
	Issuer, Subject string
	Audience        []string
	AZP             string // the authorized party; "" = not said
	Nonce           string // "" = none
}

// ErrAnother says that a provider gave, for a refresh token, an ID token that is
// not for the login that the refresh token came from.
var ErrAnother = errors.New("the provider's new ID token is not for the login that it renews")

func originOf(id *oidc.IDToken, claims map[string]any) Origin {
	azp, _ := claims["azp"].(string)
	return Origin{Issuer: id.Issuer, Subject: id.Subject, Audience: id.Audience, AZP: azp, Nonce: id.Nonce}
}

// check compares with what a refresh brought (OpenID Connect Core 1.0, section
// 12.2). Else, where a provider mixes people up, one would act as another without a
// login.
func (o Origin) check(got Origin) error {
	name, was, is := "", any(nil), any(nil)
	switch {
	case got.Issuer != o.Issuer:
		name, was, is = "iss", o.Issuer, got.Issuer
	case got.Subject != o.Subject:
		name, was, is = "sub", o.Subject, got.Subject
	case slices.ContainsFunc(o.Audience, func(a string) bool { return !slices.Contains(got.Audience, a) }):
		name, was, is = "aud", o.Audience, got.Audience
	case got.AZP != o.AZP:
		name, was, is = "azp", o.AZP, got.AZP
	case got.Nonce != "" && got.Nonce != o.Nonce:
		name, was, is = "nonce", o.Nonce, got.Nonce
	default:
		return nil
	}
	return fmt.Errorf("%w: its %s is %s, and was %s", ErrAnother, name, clean(fmt.Sprintf("%q", is)), clean(fmt.Sprintf("%q", was)))
}
