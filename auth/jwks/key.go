package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
)

// RSA moduli outside these sizes, in bits, are refused: smaller ones are weak
// (RFC 7518 §3.3), larger ones make each check needlessly slow.
const minRSA, maxRSA = 2048, 8192

// maxKeys bounds the keys of a set, and so what parsing and logging cost.
const maxKeys = 100

var errSignature = errors.New("signature does not verify")

// Key is one public key of an issuer. Its algorithm comes from the key and
// never from a token.
type Key struct {
	kid, alg  string
	public    crypto.PublicKey
	withdrawn atomic.Bool
}

// ID returns the key's kid.
func (k *Key) ID() string { return k.kid }

// Algorithm returns the one JWS algorithm (RFC 7518) this key verifies.
func (k *Key) Algorithm() string { return k.alg }

// Verify returns nil if signature is this key's signature of signingInput.
// The error holds nothing of either.
func (k *Key) Verify(signingInput, signature []byte) error {
	var hash crypto.Hash
	var digest []byte // Ed25519 takes the message itself
	switch k.alg {
	case "ES256", "RS256", "PS256":
		sum := sha256.Sum256(signingInput)
		hash, digest = crypto.SHA256, sum[:]
	case "ES384", "RS384", "PS384":
		sum := sha512.Sum384(signingInput)
		hash, digest = crypto.SHA384, sum[:]
	case "ES512", "RS512", "PS512":
		sum := sha512.Sum512(signingInput)
		hash, digest = crypto.SHA512, sum[:]
	}

	good := false
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		// RFC 7518 §3.4: r and s, each as long as the curve's order.
		size := (public.Params().BitSize + 7) / 8
		if len(signature) == 2*size {
			var room [maxDER]byte
			good = ecdsa.VerifyASN1(public, digest, appendDER(room[:0], signature[:size], signature[size:]))
		}
	case *rsa.PublicKey:
		if k.alg[0] == 'P' {
			// §3.5: the salt is as long as the hash.
			good = rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			good = rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
		}
	case ed25519.PublicKey:
		good = ed25519.Verify(public, signingInput, signature)
	}
	if !good {
		return errSignature
	}
	return nil
}

// maxDER is the longest signature of P-521 in DER, in bytes.
const maxDER = 3 + 2*(3+66)

// appendDER appends a signature as [ecdsa.VerifyASN1] takes it: SEQUENCE { INTEGER
// r, INTEGER s } (RFC 3279 §2.2.3). [ecdsa.Verify] makes the same out of two
// big.Int, in thirty times as many instructions.
func appendDER(dst, r, s []byte) []byte {
	r, s = minimal(r), minimal(s)
	size := derSize(r) + derSize(s)
	dst = append(dst, 0x30)
	if size > 127 {
		dst = append(dst, 0x81) // one byte of length follows
	}
	dst = append(dst, byte(size))
	for _, n := range [...][]byte{r, s} {
		dst = append(dst, 2, byte(derSize(n)-2))
		if n[0] > 127 {
			dst = append(dst, 0) // it would be negative
		}
		dst = append(dst, n...)
	}
	return dst
}

// minimal is n without leading zeros, but never empty.
func minimal(n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	return n
}

// derSize is how long a minimal INTEGER is, of at most 127 bytes.
func derSize(n []byte) int { return 2 + int(n[0]>>7) + len(n) }

// Withdrawn reports whether the issuer has stopped publishing the key: what
// was decided with it no longer holds.
func (k *Key) Withdrawn() bool { return k.withdrawn.Load() }

// same reports whether o is the same key under the same name.
func (k *Key) same(o *Key) bool {
	public, ok := k.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.kid == o.kid && k.alg == o.alg && public.Equal(o.public)
}

// Parse reads a JWK Set (RFC 7517 §5). Keys that cannot verify one of our
// tokens are left out, each with a reason in skipped: those without a kid,
// not for signatures, of an unknown or weak kind, malformed, published with
// their private half, and different keys that share kid and algorithm, since
// nobody can tell which one is meant; and all after the first 100. Of an
// EC key the curve decides the algorithm; an RSA key without alg verifies RS256.
func Parse(data []byte) (keys []*Key, skipped []string, err error) {
	doc, err := object(data)
	if err != nil {
		return nil, nil, err
	}
	list, ok := doc["keys"].([]any)
	if !ok {
		return nil, nil, errors.New(`not a JWK set: no array "keys"`)
	}

	if len(list) > maxKeys {
		skipped = append(skipped, fmt.Sprintf("all but the first %d of %d keys", maxKeys, len(list)))
		list = list[:maxKeys]
	}

	type name struct{ kid, alg string }
	first := make(map[name]*Key)
	ambiguous := make(map[name]bool)
	for i, v := range list {
		jwk, _ := v.(map[string]any)
		k, err := parseKey(jwk)
		if err != nil {
			kid, _ := jwk["kid"].(string)
			skipped = append(skipped, fmt.Sprintf("key %d (kid %.64q): %v", i, kid, err))
			continue
		}
		n := name{k.kid, k.alg}
		switch f := first[n]; {
		case f == nil:
			first[n] = k
			keys = append(keys, k)
		case !f.same(k) && !ambiguous[n]:
			ambiguous[n] = true
			skipped = append(skipped, fmt.Sprintf("all %s keys with kid %.64q: they differ, kid must be unique", k.alg, k.kid))
		}
	}
	keys = slices.DeleteFunc(keys, func(k *Key) bool { return ambiguous[name{k.kid, k.alg}] })
	return keys, skipped, nil
}

func parseKey(jwk map[string]any) (*Key, error) {
	kid, _ := jwk["kid"].(string)
	if kid == "" {
		return nil, errors.New("no kid")
	}
	if use, ok := jwk["use"]; ok && use != "sig" {
		return nil, errors.New(`use is not "sig"`)
	}
	if ops, ok := jwk["key_ops"]; ok {
		if list, _ := ops.([]any); !slices.Contains(list, any("verify")) {
			return nil, errors.New(`key_ops lacks "verify"`)
		}
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := jwk[private]; ok {
			return nil, errors.New("a private or symmetric key: whoever reads this set could sign with it")
		}
	}

	var public crypto.PublicKey
	var algs []string // the first is the default
	var err error
	switch kty := jwk["kty"]; kty {
	case "EC":
		public, algs, err = parseEC(jwk)
	case "RSA":
		public, err = parseRSA(jwk)
		algs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case "OKP":
		public, err = parseOKP(jwk)
		algs = []string{"EdDSA"}
	default:
		return nil, errors.New("kty is none of EC, RSA, OKP")
	}
	if err != nil {
		return nil, err
	}

	alg := algs[0]
	if v, ok := jwk["alg"]; ok {
		alg, _ = v.(string)
		if !slices.Contains(algs, alg) {
			return nil, fmt.Errorf("alg is none of %v, which this key can verify", algs)
		}
	}
	return &Key{kid: kid, alg: alg, public: public}, nil
}

// parseEC reads RFC 7518 §6.2.1. A point off the curve is refused.
func parseEC(jwk map[string]any) (crypto.PublicKey, []string, error) {
	var curve elliptic.Curve
	var alg string
	switch jwk["crv"] {
	case "P-256":
		curve, alg = elliptic.P256(), "ES256"
	case "P-384":
		curve, alg = elliptic.P384(), "ES384"
	case "P-521":
		curve, alg = elliptic.P521(), "ES512"
	default:
		return nil, nil, errors.New("crv is none of P-256, P-384, P-521")
	}
	x, errX := base64url(jwk, "x")
	y, errY := base64url(jwk, "y")
	if err := errors.Join(errX, errY); err != nil {
		return nil, nil, err
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x) != size || len(y) != size {
		return nil, nil, fmt.Errorf("x and y must be %d bytes each", size)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, nil, errors.New("x and y are no point of the curve")
	}
	return public, []string{alg}, nil
}

// parseRSA reads RFC 7518 §6.3.1.
func parseRSA(jwk map[string]any) (crypto.PublicKey, error) {
	n, errN := base64url(jwk, "n")
	e, errE := base64url(jwk, "e")
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSA || bits > maxRSA || modulus.Bit(0) == 0 {
		return nil, fmt.Errorf("n must be odd and have %d to %d bits, not %d", minRSA, maxRSA, bits)
	}
	if exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
		return nil, errors.New("e must be odd and between 3 and 2^31-1")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// parseOKP reads RFC 8037 §2.
func parseOKP(jwk map[string]any) (crypto.PublicKey, error) {
	if jwk["crv"] != "Ed25519" {
		return nil, errors.New("crv is not Ed25519")
	}
	x, err := base64url(jwk, "x")
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x must be %d bytes", ed25519.PublicKeySize)
	}
	if err := checkEd25519(x); err != nil {
		return nil, err
	}
	return ed25519.PublicKey(x), nil
}

// checkEd25519 refuses the curve's eight points of small order, for which
// anybody can make signatures, and a y of p and more (RFC 8032 §5.1.3), which
// is a second spelling of a key.
func checkEd25519(x []byte) error {
	b := slices.Clone(x)
	slices.Reverse(b)
	b[0] &= 0x7f // the sign of x
	one := big.NewInt(1)
	p := new(big.Int).Sub(new(big.Int).Lsh(one, 255), big.NewInt(19))
	y := new(big.Int).SetBytes(b)
	if y.Cmp(p) >= 0 {
		return errors.New("x is not the canonical spelling of a point")
	}
	eighth, _ := new(big.Int).SetString("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)
	minus := new(big.Int).Sub(p, y)
	for _, small := range []*big.Int{new(big.Int), one, eighth} { // orders 4, 1 and 2, 8
		if y.Cmp(small) == 0 || minus.Cmp(small) == 0 {
			return errors.New("x is a point of small order: anybody could sign with it")
		}
	}
	return nil
}

func base64url(jwk map[string]any, name string) ([]byte, error) {
	s, _ := jwk[name].(string)
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s is missing or not unpadded base64url", name)
	}
	return b, nil
}
