package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/gatehound/gatehound/auth/jwks"
)

// MaxToken bounds a token, in bytes; longer ones are refused unread.
const MaxToken = 8 << 10

// compact is a JWS in compact serialization (RFC 7515 §7.1), decoded, its
// signature not yet verified.
type compact struct {
	header       map[string]any
	payload      []byte
	signature    []byte
	signingInput []byte // aliases the token
}

// parseCompact takes a token apart. Anything two readers could read in two
// ways is refused: the token that was checked must be the token that is used.
func parseCompact(token []byte) (compact, error) {
	if len(token) > MaxToken {
		return compact{}, refused("longer than 8192 bytes")
	}
	parts := bytes.SplitN(token, []byte{'.'}, 4)
	if len(parts) != 3 { // also JWE, and JSON serialization
		return compact{}, refused("not a compact JWS of three parts")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decodePart(part); err != nil {
			return compact{}, err
		}
	}
	header, err := decodeObject(decoded[0], maxHeaderValues)
	if err != nil {
		return compact{}, err
	}
	return compact{
		header:       header,
		payload:      decoded[1],
		signature:    decoded[2],
		signingInput: token[:len(token)-len(parts[2])-1],
	}, nil
}

// decodePart reads unpadded base64url with one spelling per value: Go skips
// line ends, and without Strict also ignores trailing bits.
func decodePart(part []byte) ([]byte, error) {
	b := make([]byte, base64.RawURLEncoding.DecodedLen(len(part)))
	_, err := base64.RawURLEncoding.Strict().Decode(b, part)
	switch {
	case len(part) == 0:
		return nil, refused("a part is empty")
	case err != nil || bytes.ContainsAny(part, "\r\n"):
		return nil, refused("a part is not canonical unpadded base64url")
	}
	return b, nil
}

// keyName checks the header (RFC 7515 §4.1) and returns what it says of the
// key. jwk, jku, x5u and x5c are not looked at: a token does not bring its own
// key. accessToken also takes the type of RFC 9068, which sets access tokens
// apart.
func (t compact) keyName(accessToken bool) (kid, alg string, err error) {
	kid, _ = t.header["kid"].(string)
	if kid == "" {
		return "", "", refused("kid is missing or not a string")
	}
	alg, _ = t.header["alg"].(string)
	if alg == "" {
		return "", "", refused("alg is missing or not a string")
	}
	// §4.1.11: a critical extension we do not know makes the token invalid,
	// and we know none. b64 (RFC 7797) and zip change what the signature or
	// the claims mean; without crit they are still a trap.
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := t.header[name]; ok {
			return "", "", refused("the header has an unsupported extension: crit, b64, zip or enc")
		}
	}
	if _, ok := t.header["cty"]; ok { // RFC 7519 §5.2: a nested token
		return "", "", refused("cty is set: nested tokens are not supported")
	}
	if typ, ok := t.header["typ"]; ok {
		// Other types are other kinds of tokens (RFC 8725 §3.11).
		s, _ := typ.(string)
		is := func(kind string) bool {
			return strings.EqualFold(s, kind) || strings.EqualFold(s, "application/"+kind)
		}
		if !is("jwt") && !(accessToken && is("at+jwt")) {
			return "", "", refused("typ is not JWT")
		}
	}
	return kid, alg, nil
}

// verifySignature returns the claims of a token that one of keys has signed,
// and that key. What the claims say is not checked yet.
func verifySignature(ctx context.Context, keys *jwks.Remote, token []byte, accessToken bool) (Claims, *jwks.Key, error) {
	t, err := parseCompact(token)
	if err != nil {
		return nil, nil, err
	}
	kid, alg, err := t.keyName(accessToken)
	if err != nil {
		return nil, nil, err
	}
	// The key's algorithm is pinned to the key; alg only chooses among the
	// issuer's keys, so "none" or HMAC with a public key choose nothing.
	key, err := keys.Key(ctx, kid, alg)
	switch {
	case errors.Is(err, jwks.ErrUnavailable):
		return nil, nil, ErrUnavailable
	case errors.Is(err, jwks.ErrAlgorithm):
		return nil, nil, refused("alg is not the key's")
	case err != nil:
		return nil, nil, refused("kid names no key of the issuer")
	}
	if key.Verify(t.signingInput, t.signature) != nil {
		return nil, nil, refused("signature does not verify")
	}
	claims, err := decodeObject(t.payload, maxClaimsValues)
	if err != nil {
		return nil, nil, err
	}
	return claims, key, nil
}
