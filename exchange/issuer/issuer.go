// Package issuer is the signing side of an OpenID provider: keys in files,
// compact JWS (RFC 7515) made with them, and the JWKS and discovery documents by
// which others verify them. It does not decide what a token says nor who gets
// one, and it serves nothing: its callers do.
//
// Keys in a folder are replaced without losing a token. The name of a key's file
// says from when on it signs, so that all gateways which share the folder agree:
//
//	first.pem               signs, as a name of any other form has always done
//	20261122T003604Z.pem    signs from then on (UTC), in the place of the one before
//
// A key is published as soon as its file is there, and until its successor has
// signed for as long as a token may live. A file that is deleted earlier is a
// key withdrawn as compromised: it is no longer published at once.
package issuer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Where the documents are, below the issuer's URL.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/.well-known/jwks.json"
)

// Issuer signs tokens in the name of one URL. It is safe for concurrent use.
type Issuer struct {
	url       string
	now       func() time.Time
	keys      atomic.Pointer[schedule]
	tokenLife atomic.Int64 // the longest, in ns
	follow    *follower    // nil = the keys never change
}

// New returns an issuer that signs with key. issuerURL is its `iss`: an http
// or https URL without user, query or fragment (OpenID Connect Discovery 1.0,
// section 3, but http is allowed for use inside a cluster or on loopback).
func New(issuerURL string, key *Key) (*Issuer, error) {
	if key == nil {
		return nil, errors.New("issuer: a signing key is missing")
	}
	return newIssuer(issuerURL, schedule{{key: key}}, time.Now)
}

func newIssuer(issuerURL string, keys schedule, now func() time.Time) (*Issuer, error) {
	u, err := url.Parse(issuerURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.User != nil || strings.ContainsAny(issuerURL, "?#") {
		return nil, fmt.Errorf("issuer %q: want an http or https URL without user, query and fragment", issuerURL)
	}
	i := &Issuer{url: issuerURL, now: now}
	i.keys.Store(&keys)
	i.Outlive(MinTokenLife)
	return i, nil
}

// URL returns the issuer's name, to be used as `iss`.
func (i *Issuer) URL() string { return i.url }

// Outlive has every key stay published until a token that lives that long and
// was the last it signed has ended. A shorter life than one given before changes
// nothing: such tokens may have been signed. It is 24h at the least.
func (i *Issuer) Outlive(tokenLife time.Duration) {
	for {
		old := i.tokenLife.Load()
		if int64(tokenLife) <= old || i.tokenLife.CompareAndSwap(old, int64(tokenLife)) {
			return
		}
	}
}

// Sign returns claims as a compact JWS, signed by the key whose time it is. It
// adds no claim of its own, and a claim's name is data: whatever it is, it
// becomes a top-level member of that very name. The error says that a value is
// not JSON, or that no key is left.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("claims cannot be encoded: %w", err)
	}
	keys := *i.keys.Load()
	n := keys.signing(i.now())
	if n < 0 {
		return "", errors.New("signing failed: all signing keys have been deleted")
	}
	key := keys[n].key
	encoding := base64.RawURLEncoding
	token := make([]byte, 0, len(key.header)+encoding.EncodedLen(len(payload))+1+encoding.EncodedLen(96))
	token = append(token, key.header...)
	token = encoding.AppendEncode(token, payload)
	signature, err := key.sign(token)
	if err != nil {
		return "", fmt.Errorf("signing failed: %w", err)
	}
	token = append(token, '.')
	return string(encoding.AppendEncode(token, signature)), nil
}

// JWKS returns the public keys that verify what Sign made and makes, and soon
// will (RFC 7517), the latest first: verifiers may not take all of very many.
func (i *Issuer) JWKS() []byte {
	var keys []string
	for _, k := range slices.Backward(i.published()) {
		keys = append(keys, k.jwk)
	}
	return fmt.Appendf(nil, `{"keys":[%s]}`, strings.Join(keys, ","))
}

func (i *Issuer) published() []*Key {
	return i.keys.Load().published(i.now(), time.Duration(i.tokenLife.Load()))
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
		Algorithms:    []string{},
		Claims:        []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti"},
	}
	for _, k := range i.published() {
		if !slices.Contains(d.Algorithms, k.alg) {
			d.Algorithms = append(d.Algorithms, k.alg)
		}
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
