// Package issuer is the signing side of an OpenID provider: an ES256 key in a
// file, compact JWS (RFC 7515) made with it, and the JWKS and discovery
// documents by which others verify them. It does not decide what a token says
// nor who gets one, and it serves nothing: its callers do.
package issuer

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Where the documents are, below the issuer's URL.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/.well-known/jwks.json"
)

// Issuer signs tokens in the name of one URL. It is safe for concurrent use.
type Issuer struct {
	url    string
	key    *Key
	header string // encoded, with the dot that follows it
}

// New returns an issuer that signs with key. issuerURL is its `iss`: an http
// or https URL without user, query or fragment (OpenID Connect Discovery 1.0,
// section 3, but http is allowed for use inside a cluster or on loopback).
func New(issuerURL string, key *Key) (*Issuer, error) {
	u, err := url.Parse(issuerURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || strings.ContainsAny(issuerURL, "?#") {
		return nil, fmt.Errorf("issuer %q: want an http or https URL without user, query and fragment", issuerURL)
	}
	if key == nil {
		return nil, errors.New("issuer: a signing key is missing")
	}
	header := fmt.Sprintf(`{"alg":"ES256","kid":"%s","typ":"JWT"}`, key.id)
	return &Issuer{
		url:    issuerURL,
		key:    key,
		header: base64.RawURLEncoding.EncodeToString([]byte(header)) + ".",
	}, nil
}

// URL returns the issuer's name, to be used as `iss`.
func (i *Issuer) URL() string { return i.url }

// Sign returns claims as a compact JWS. It adds no claim of its own, and a
// claim's name is data: whatever it is, it becomes a top-level member of that
// very name. The error says that a value is not JSON.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("claims cannot be encoded: %w", err)
	}
	encoding := base64.RawURLEncoding
	token := make([]byte, 0, len(i.header)+encoding.EncodedLen(len(payload))+1+encoding.EncodedLen(64))
	token = append(token, i.header...)
	token = encoding.AppendEncode(token, payload)

	digest := sha256.Sum256(token)
	r, s, err := ecdsa.Sign(rand.Reader, i.key.private, digest[:])
	if err != nil {
		return "", fmt.Errorf("signing failed: %w", err)
	}
	var signature [64]byte // r and s at full length (RFC 7518, 3.4)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	token = append(token, '.')
	return string(encoding.AppendEncode(token, signature[:])), nil
}

// JWKS returns the public keys that verify what Sign makes (RFC 7517).
func (i *Issuer) JWKS() []byte {
	return fmt.Appendf(nil, `{"keys":[{"kty":"EC","crv":"P-256","x":"%s","y":"%s","kid":"%s","use":"sig","alg":"ES256"}]}`,
		i.key.x, i.key.y, i.key.id)
}

// discovery is OpenID provider metadata, as far as a provider without a login
// page of its own has it.
type discovery struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	TokenEndpoint string   `json:"token_endpoint,omitempty"`
	GrantTypes    []string `json:"grant_types_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	Scopes        []string `json:"scopes_supported,omitempty"`
	Claims        []string `json:"claims_supported"`
}

// Discovery returns the OpenID provider metadata. tokenPath is the path, below
// the issuer's URL, of an endpoint for token exchange (RFC 8693); empty leaves
// the endpoint out and all that goes with it.
func (i *Issuer) Discovery(tokenPath string) []byte {
	base := strings.TrimSuffix(i.url, "/")
	d := discovery{
		Issuer:        i.url,
		JWKSURI:       base + KeysPath,
		GrantTypes:    []string{}, // absent would mean code and implicit
		ResponseTypes: []string{"id_token"},
		SubjectTypes:  []string{"public"},
		Algorithms:    []string{"ES256"},
		Claims:        []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti"},
	}
	if tokenPath != "" {
		d.TokenEndpoint = base + tokenPath
		d.GrantTypes = []string{"urn:ietf:params:oauth:grant-type:token-exchange"}
		d.AuthMethods = []string{"none"} // the subject token is the credential
		d.Scopes = []string{"function"}
		d.Claims = append(d.Claims, "fed:iss", "policy", "function")
	}
	document, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings only
	}
	return document
}
