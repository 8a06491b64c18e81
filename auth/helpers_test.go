package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

const issuer = "https://gw.example.com"

// now is when all tokens of these tests are read.
var now = time.Unix(1_800_000_000, 0)

// signers are the issuer's private keys by kid, which is the algorithm's name.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		must(err)
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return map[string]crypto.Signer{
		"ES256": ec(elliptic.P256()), "ES384": ec(elliptic.P384()), "ES512": ec(elliptic.P521()),
		"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey, "PS256": rsaKey, "PS384": rsaKey, "PS512": rsaKey,
		"EdDSA": edKey,
	}
})

// keySet publishes the signers' public halves.
var keySet = sync.OnceValue(func() *jwks.Remote {
	var list []map[string]any
	for kid, k := range signers() {
		jwk := publicJWK(k.Public())
		jwk["kid"], jwk["alg"] = kid, kid
		list = append(list, jwk)
	}
	return jwks.NewStatic(issuer, parseKeys(list...))
})

func parseKeys(list ...map[string]any) []*jwks.Key {
	data, err := json.Marshal(map[string]any{"keys": list})
	must(err)
	keys, skipped, err := jwks.Parse(data)
	must(err)
	if len(skipped) > 0 {
		panic(skipped)
	}
	return keys
}

func publicJWK(public crypto.PublicKey) map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		must(err)
		n := (len(point) - 1) / 2
		return map[string]any{"kty": "EC", "crv": p.Params().Name, "x": b64(point[1 : 1+n]), "y": b64(point[1+n:])}
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": b64(p.N.Bytes()), "e": b64(big.NewInt(int64(p.E)).Bytes())}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(p)}
	}
	panic(fmt.Sprintf("no JWK for %T", public))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// goodClaims open openfaas-fn:env.
func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": issuer, "aud": issuer, "sub": "fed:alice",
		"iat": now.Unix() - 60, "exp": now.Unix() + 3600,
		"function": map[string]any{"permissions": []string{"openfaas-fn:env"}},
	}
}

// withClaim returns the good claims with one replaced, or left out if nil.
func withClaim(name string, value any) jwt.MapClaims {
	c := goodClaims()
	c[name] = value
	if value == nil {
		delete(c, name)
	}
	return c
}

// mint has golang-jwt sign claims, with header entries added or replaced.
func mint(alg string, claims jwt.MapClaims, header map[string]any) string {
	t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims)
	t.Header["kid"] = alg
	maps.Copy(t.Header, header)
	s, err := t.SignedString(signers()[alg])
	must(err)
	return s
}

// assemble signs a header and a payload as they are written, so that nothing
// but what the test put there is wrong.
func assemble(header, payload string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return signInput(b64([]byte(header)) + "." + b64([]byte(payload)))
}

func signInput(input string) string {
	signature, err := jwt.SigningMethodES256.Sign(input, signers()["ES256"])
	must(err)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	must(err)
	return string(b)
}

func newVerifier(t testing.TB, change func(*Config)) *Verifier {
	t.Helper()
	c := Config{Keys: keySet(), Namespace: "openfaas-fn", Name: "env", Now: func() time.Time { return now }}
	if change != nil {
		change(&c)
	}
	v, err := NewVerifier(c)
	require.NoError(t, err)
	return v
}

func verify(ctx context.Context, v *Verifier, authorization ...[]byte) error {
	_, err := v.Verify(ctx, authorization...)
	return err
}
