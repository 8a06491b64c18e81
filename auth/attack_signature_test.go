package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// alg none, HMAC with what everybody knows, keys and URLs in the token.
func TestAttackAlgorithm(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	claims := b64([]byte(marshal(goodClaims())))
	goodSignature := strings.Split(mint("ES256", goodClaims(), nil), ".")[2]
	var attacks []attack

	nones := []string{"none ", " none", "\tnone", "none\n", "none\u0000", "nоne", "ｎｏｎｅ", "n\u200bone", "\ufeffnone", "none,ES256", "null", "undefined", "false", "0"}
	for spelling := range 16 { // none, None, nOne, …
		none := []byte("none")
		for i := range none {
			if spelling>>i&1 == 1 {
				none[i] -= 'a' - 'A'
			}
		}
		nones = append(nones, string(none))
	}
	for _, kid := range []string{"ES256", "RS256"} {
		for _, none := range nones {
			input := b64([]byte(marshal(map[string]string{"alg": none, "kid": kid}))) + "." + claims + "."
			attacks = append(attacks,
				attack{fmt.Sprintf("%s alg %q unsigned", kid, none), input, 401, emptyPart},
				attack{fmt.Sprintf("%s alg %q with a signature", kid, none), input + goodSignature, 401, wrongAlg})
		}
	}

	macs := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	for kid, signer := range signers() {
		for what, secret := range publicForms(t, kid, signer.Public()) {
			for alg, h := range macs {
				input := b64([]byte(marshal(map[string]string{"alg": alg, "kid": kid}))) + "." + claims
				attacks = append(attacks, attack{fmt.Sprintf("%s with the %s of %s", alg, what, kid), input + "." + b64(mac(h, secret, input)), 401, wrongAlg})
			}
			// Under the key's own alg, for a verifier that goes by the key's bytes.
			input := b64([]byte(marshal(map[string]string{"alg": kid, "kid": kid}))) + "." + claims
			attacks = append(attacks, attack{fmt.Sprintf("HMAC with the %s of %s, alg %s", what, kid, kid), input + "." + b64(mac(sha256.New, secret, input)), 401, badSig})
		}
	}

	// The attacker's own key, offered in every way RFC 7515 has.
	mine, err := ecdsa.GenerateKey(signers()["ES256"].(*ecdsa.PrivateKey).Curve, rand.Reader)
	require.NoError(t, err)
	for name, header := range map[string]map[string]any{
		"plain":             {},
		"jwk":               {"jwk": publicJWK(mine.Public())},
		"jwk of the issuer": {"jwk": publicJWK(signers()["ES256"].Public())},
		"jwk and its kid":   {"jwk": map[string]any{"kty": "EC", "crv": "P-256", "kid": "ES256"}},
		"jwk oct":           {"jwk": map[string]any{"kty": "oct", "k": "AA"}},
		"jku":               {"jku": "https://evil.example/keys"},
		"jku file":          {"jku": "file:///etc/passwd"},
		"jku data":          {"jku": "data:application/json,{}"},
		"jku of the issuer": {"jku": issuer + "@evil.example/keys"},
		"x5u":               {"x5u": "https://evil.example/cert"},
		"x5c":               {"x5c": []string{base64.StdEncoding.EncodeToString(certificate(t, mine))}},
		"x5t":               {"x5t": "AAAA", "x5t#S256": "AAAA"},
		"jwk typo":          {"jwk": "yes"},
	} {
		header["alg"], header["kid"] = "ES256", "ES256"
		input := b64([]byte(marshal(header))) + "." + claims
		signature, err := jwt.SigningMethodES256.Sign(input, mine)
		require.NoError(t, err)
		attacks = append(attacks,
			attack{"own key: " + name, input + "." + b64(signature), 401, badSig},
			attack{"issuer's key, beside " + name, signInput(input), 200, allowed})
	}
	check(t, attacks)
}

func mac(h func() hash.Hash, secret []byte, input string) []byte {
	m := hmac.New(h, secret)
	m.Write([]byte(input))
	return m.Sum(nil)
}

// publicForms are what an attacker may take for the secret of an HMAC: all
// that everybody knows of a key.
func publicForms(t *testing.T, kid string, public crypto.PublicKey) map[string][]byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	jwk := publicJWK(public)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	forms := map[string][]byte{
		"nothing":              nil,
		"kid":                  []byte(kid),
		"DER":                  der,
		"DER in base64":        []byte(base64.StdEncoding.EncodeToString(der)),
		"PEM":                  text,
		"PEM without line end": bytes.TrimSpace(text),
		"PEM with CR LF":       bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
		"JWK":                  []byte(marshal(jwk)), // names in order, as RFC 7638 hashes them
	}
	jwk["kid"], jwk["alg"] = kid, kid
	forms["published JWK"] = []byte(marshal(jwk))
	forms["JWK set"] = []byte(marshal(map[string]any{"keys": []any{jwk}}))
	for _, name := range []string{"n", "x", "y"} {
		if v, ok := jwk[name].(string); ok {
			raw, err := base64.RawURLEncoding.DecodeString(v)
			require.NoError(t, err)
			forms[name], forms[name+" in base64"] = raw, []byte(v)
		}
	}
	switch p := public.(type) {
	case *rsa.PublicKey:
		forms["PKCS #1 DER"] = x509.MarshalPKCS1PublicKey(p)
		forms["PKCS #1 PEM"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: forms["PKCS #1 DER"]})
	case *ecdsa.PublicKey:
		forms["point"], err = p.Bytes()
		require.NoError(t, err)
	}
	return forms
}

// certificate is an attacker's own.
func certificate(t *testing.T, key *ecdsa.PrivateKey) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return der
}

func TestAttackSignature(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	good := mint("ES256", goodClaims(), nil)
	other := mint("ES256", withClaim("sub", "fed:mallory"), nil)
	parts, otherParts := strings.Split(good, "."), strings.Split(other, ".")
	input := parts[0] + "." + parts[1] + "."
	raw, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(input[:len(input)-1]))
	der, err := signers()["ES256"].Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	flipped := append([]byte(nil), raw...)
	flipped[40] ^= 1

	var attacks []attack
	for name, signature := range map[string][]byte{
		"psychic: all zeros": make([]byte, 64), // CVE-2022-21449
		"zeros, wrong size":  make([]byte, 96),
		"DER":                der,
		"cut":                raw[:63],
		"one byte":           raw[:1],
		"only r":             raw[:32],
		"r and zero s":       append(append([]byte(nil), raw[:32]...), make([]byte, 32)...),
		"one byte more":      append(append([]byte(nil), raw...), 0),
		"one bit":            flipped,
		"twice":              append(append([]byte(nil), raw...), raw...),
	} {
		attacks = append(attacks, attack{name, input + b64(signature), 401, badSig})
	}
	attacks = append(attacks,
		attack{"good", good, 200, allowed},
		attack{"other claims", parts[0] + "." + otherParts[1] + "." + parts[2], 401, badSig},
		attack{"other signature", input + otherParts[2], 401, badSig},
		attack{"no signature", input, 401, emptyPart},
	)
	check(t, attacks)
}

// Numbers at the edges of what a signature of each kind may hold
// (CVE-2022-21449 took zeros).
func TestAttackSignatureNumbers(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	var attacks []attack
	for _, alg := range slices.Sorted(maps.Keys(signers())) {
		parts := strings.Split(mint(alg, goodClaims(), nil), ".")
		input := parts[0] + "." + parts[1] + "."
		raw, err := base64.RawURLEncoding.DecodeString(parts[2])
		require.NoError(t, err)
		add := func(name string, signature []byte) {
			attacks = append(attacks, attack{alg + ": " + name, input + b64(signature), 401, badSig})
		}
		add("all zeros", make([]byte, len(raw)))
		add("all ones", bytes.Repeat([]byte{0xff}, len(raw)))
		add("cut", raw[:len(raw)-1])
		add("first byte cut", raw[1:])
		add("a byte behind", append(slices.Clone(raw), 0))
		add("a zero in front", append([]byte{0}, raw...))
		add("backwards", reversed(raw))

		switch public := signers()[alg].Public().(type) {
		case *ecdsa.PublicKey:
			size, n := len(raw)/2, public.Params().N
			number := func(x *big.Int) []byte { return x.FillBytes(make([]byte, size)) }
			r, s := raw[:size], raw[size:]
			zero, one := number(new(big.Int)), number(big.NewInt(1))
			order, more := number(n), number(new(big.Int).Add(n, big.NewInt(1)))
			less, field := number(new(big.Int).Sub(n, big.NewInt(1))), number(public.Params().P)
			for name, pair := range map[string][2][]byte{
				"r = 0": {zero, s}, "s = 0": {r, zero}, "r = n": {order, s}, "s = n": {r, order}, "r = s = n": {order, order},
				"r = n, s = 1": {order, one}, "r = 1, s = n": {one, order}, "r = n+1": {more, s}, "s = n+1": {r, more},
				"r = s = n+1": {more, more}, "r = s = n-1": {less, less}, "r = s = 1": {one, one}, "r = p": {field, s},
				"r = 0, s = 1": {zero, one}, "r = 1, s = 0": {one, zero}, "r and s swapped": {s, r},
			} {
				add(name, slices.Concat(pair[0], pair[1]))
			}
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
			require.NoError(t, err)
			add("DER of the good signature", der)
			// ECDSA itself takes n-s for s: another token that says the same.
			negated := number(new(big.Int).Sub(n, new(big.Int).SetBytes(s)))
			attacks = append(attacks, attack{alg + ": s negated", input + b64(slices.Concat(r, negated)), 200, allowed})
		case *rsa.PublicKey:
			number := func(x *big.Int) []byte { return x.FillBytes(make([]byte, len(raw))) }
			add("1", number(big.NewInt(1)))
			add("n", number(public.N))
			add("n-1", number(new(big.Int).Sub(public.N, big.NewInt(1))))
			add("negated", number(new(big.Int).Sub(public.N, new(big.Int).SetBytes(raw))))
		case ed25519.PublicKey:
			// RFC 8032 §5.1.7: s must be below the order, else s+L is a second
			// signature. Little endian.
			order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
			s := new(big.Int).SetBytes(reversed(raw[32:]))
			add("s = s+L", slices.Concat(raw[:32], reversed(s.Add(s, order).FillBytes(make([]byte, 32)))))
			add("s = L", slices.Concat(raw[:32], reversed(order.FillBytes(make([]byte, 32)))))
			neutral := append([]byte{1}, make([]byte, 31)...)
			add("R neutral, s = 0", slices.Concat(neutral, make([]byte, 32)))
		}
	}

	// The right key over something else than header.claims.
	parts := strings.Split(mint("ES256", goodClaims(), nil), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	for name, input := range map[string]string{
		"header": parts[0], "claims": parts[1], "decoded claims": string(payload), "a dot more": parts[0] + "." + parts[1] + ".",
		"claims.header": parts[1] + "." + parts[0], "no dot": parts[0] + parts[1], "nothing": "",
	} {
		signature, err := jwt.SigningMethodES256.Sign(input, signers()["ES256"])
		require.NoError(t, err)
		attacks = append(attacks, attack{"signed alone: " + name, parts[0] + "." + parts[1] + "." + b64(signature), 401, badSig})
	}
	check(t, attacks)
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}
