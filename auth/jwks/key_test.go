package jwks_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

var b64 = base64.RawURLEncoding

// rsaKey is made once: a 2048 bit key takes most of a second with -race.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return k
}

type jwk map[string]any

// with returns a copy of k with name set to value, or without it if nil.
func (k jwk) with(name string, value any) jwk {
	c := jwk{name: value}
	for n, v := range k {
		if n != name {
			c[n] = v
		}
	}
	if value == nil {
		delete(c, name)
	}
	return c
}

// publicJWK is written by hand, so that it shares nothing with the parser.
func publicJWK(t testing.TB, kid string, public crypto.PublicKey) jwk {
	t.Helper()
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		require.NoError(t, err)
		n := (len(point) - 1) / 2
		return jwk{"kty": "EC", "kid": kid, "crv": p.Params().Name, "x": b64.EncodeToString(point[1 : 1+n]), "y": b64.EncodeToString(point[1+n:])}
	case *rsa.PublicKey:
		return jwk{"kty": "RSA", "kid": kid, "n": b64.EncodeToString(p.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(p.E)).Bytes())}
	case ed25519.PublicKey:
		return jwk{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64.EncodeToString(p)}
	}
	t.Fatalf("no JWK for %T", public)
	return nil
}

func keySet(keys ...jwk) []byte {
	if keys == nil {
		keys = []jwk{}
	}
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return b
}

func TestParse(t *testing.T) {
	t.Parallel()
	ec := publicJWK(t, "k", ecKey(t, elliptic.P256()).Public())
	ec2 := publicJWK(t, "k", ecKey(t, elliptic.P256()).Public())
	ec384 := publicJWK(t, "k", ecKey(t, elliptic.P384()).Public())
	ec521 := publicJWK(t, "k", ecKey(t, elliptic.P521()).Public())
	rs := publicJWK(t, "k", rsaKey().Public())
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ed := publicJWK(t, "k", edPublic)
	modulus := func(bits uint) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return b64.EncodeToString(n.SetBit(n, 0, 1).Bytes())
	}

	for _, c := range []struct {
		name    string
		keys    []jwk
		algs    string // of the keys, joined by a space
		skipped string // a part of the one reason; empty = nothing skipped
	}{
		{"EC P-256", []jwk{ec}, "ES256", ""},
		{"EC P-384", []jwk{ec384}, "ES384", ""},
		{"EC P-521", []jwk{ec521}, "ES512", ""},
		{"RSA without alg", []jwk{rs}, "RS256", ""},
		{"RSA RS384", []jwk{rs.with("alg", "RS384")}, "RS384", ""},
		{"RSA PS512", []jwk{rs.with("alg", "PS512")}, "PS512", ""},
		{"Ed25519", []jwk{ed}, "EdDSA", ""},
		{"use sig", []jwk{ec.with("use", "sig")}, "ES256", ""},
		{"key_ops verify", []jwk{ec.with("key_ops", []string{"verify"})}, "ES256", ""},
		{"unknown members", []jwk{ec.with("x5c", []string{"?"}).with("ext", true)}, "ES256", ""},
		{"one kid, several kinds", []jwk{ec, rs, ed}, "ES256 RS256 EdDSA", ""},
		{"the same key twice", []jwk{ec, ec}, "ES256", ""},
		{"two keys of one kid and kind", []jwk{ec, ec2, rs}, "RS256", "they differ"},
		{"an ambiguous key again", []jwk{ec, ec2, ec, ec2}, "", "they differ"},
		{"a good one beside a bad one", []jwk{ec, rs.with("kty", "lattice")}, "ES256", "kty"},

		{"no kid", []jwk{ec.with("kid", nil)}, "", "no kid"},
		{"kid empty", []jwk{ec.with("kid", "")}, "", "no kid"},
		{"kid a number", []jwk{ec.with("kid", 7)}, "", "no kid"},
		{"kid in capitals", []jwk{ec.with("kid", nil).with("KID", "k")}, "", "no kid"},
		{"use enc", []jwk{ec.with("use", "enc")}, "", "use"},
		{"use a list", []jwk{ec.with("use", []string{"sig"})}, "", "use"},
		{"key_ops sign", []jwk{ec.with("key_ops", []string{"sign"})}, "", "key_ops"},
		{"key_ops a string", []jwk{ec.with("key_ops", "verify")}, "", "key_ops"},
		{"symmetric", []jwk{{"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "HS256"}}, "", "symmetric"},
		{"oct without k", []jwk{{"kty": "oct", "kid": "k"}}, "", "kty"},
		{"EC private", []jwk{ec.with("d", "AQAB")}, "", "private"},
		{"RSA private by a prime", []jwk{rs.with("p", "AQAB")}, "", "private"},
		{"kty missing", []jwk{ec.with("kty", nil)}, "", "kty"},
		{"kty in lower case", []jwk{ec.with("kty", "ec")}, "", "kty"},
		{"kty of another kind", []jwk{ec.with("kty", "RSA")}, "", "missing"},
		{"alg of another kind", []jwk{ec.with("alg", "RS256")}, "", "alg"},
		{"alg of another curve", []jwk{ec.with("alg", "ES384")}, "", "alg"},
		{"alg HS256", []jwk{rs.with("alg", "HS256")}, "", "alg"},
		{"alg none", []jwk{ec.with("alg", "none")}, "", "alg"},
		{"alg empty", []jwk{ec.with("alg", "")}, "", "alg"},
		{"alg for encryption", []jwk{rs.with("alg", "RSA-OAEP")}, "", "alg"},
		{"alg a number", []jwk{rs.with("alg", 256)}, "", "alg"},
		{"secp256k1", []jwk{ec.with("crv", "secp256k1")}, "", "crv"},
		{"another curve's point", []jwk{ec.with("crv", "P-384")}, "", "48 bytes"},
		{"x missing", []jwk{ec.with("x", nil)}, "", "x is missing"},
		{"x a number", []jwk{ec.with("x", 1)}, "", "x is missing"},
		{"x padded", []jwk{ec.with("x", ec["x"].(string)+"=")}, "", "x is missing or not"},
		{"x with trailing bits", []jwk{ec.with("x", strings.Repeat("A", 42)+"B")}, "", "x is missing or not"},
		{"x too short", []jwk{ec.with("x", "AQ")}, "", "32 bytes"},
		{"point off the curve", []jwk{ec.with("y", ec["x"])}, "", "no point"},
		{"point at infinity", []jwk{ec.with("x", b64.EncodeToString(make([]byte, 32))).with("y", b64.EncodeToString(make([]byte, 32)))}, "", "no point"},
		{"RSA 1024 bits", []jwk{rs.with("n", modulus(1024))}, "", "2048"},
		{"RSA 2047 bits", []jwk{rs.with("n", modulus(2047))}, "", "2048"},
		{"RSA 8193 bits", []jwk{rs.with("n", modulus(8193))}, "", "8192"},
		{"RSA n even", []jwk{rs.with("n", b64.EncodeToString(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes()))}, "", "odd"},
		{"RSA e 1", []jwk{rs.with("e", "AQ")}, "", "e must"},
		{"RSA e even", []jwk{rs.with("e", "BA")}, "", "e must"},
		{"RSA e huge", []jwk{rs.with("e", "AQAAAAE")}, "", "e must"},
		{"RSA e missing", []jwk{rs.with("e", nil)}, "", "e is missing"},
		{"X25519", []jwk{ed.with("crv", "X25519")}, "", "crv"},
		{"Ed448", []jwk{ed.with("crv", "Ed448")}, "", "crv"},
		{"Ed25519 too short", []jwk{ed.with("x", "AQAB")}, "", "32 bytes"},
		{"not an object", []jwk{nil}, "", "no kid"},
		{"no keys", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			keys, skipped, err := jwks.Parse(keySet(c.keys...))
			require.NoError(t, err)
			var algs []string
			for _, k := range keys {
				require.Equal(t, "k", k.ID())
				require.False(t, k.Withdrawn())
				algs = append(algs, k.Algorithm())
			}
			require.Equal(t, c.algs, strings.Join(algs, " "))
			if c.skipped == "" {
				require.Empty(t, skipped)
			} else {
				require.Len(t, skipped, 1)
				require.Contains(t, skipped[0], c.skipped)
			}
		})
	}

	for name, data := range map[string]string{
		"empty":         ``,
		"HTML":          `<html>`,
		"array":         `[]`,
		"null":          `null`,
		"no keys":       `{}`,
		"Keys":          `{"Keys":[]}`,
		"keys null":     `{"keys":null}`,
		"keys object":   `{"keys":{}}`,
		"trailing data": `{"keys":[]}{}`,
		"cut off":       `{"keys":[`,
		"deep":          `{"keys":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + `}`,
	} {
		_, _, err := jwks.Parse([]byte(data))
		require.Error(t, err, name)
	}
}

// What a set costs, in keys and in the reasons that are logged, is bounded.
func TestParseHugeSet(t *testing.T) {
	t.Parallel()
	one := func(k jwk) string {
		b, err := json.Marshal(k)
		require.NoError(t, err)
		return string(b) + ","
	}
	good := publicJWK(t, "good", ecKey(t, elliptic.P256()).Public())
	for filler, n := range map[string]int{"{},": 300_000, one(good): 6000, one(good.with("x", "AQ")): 6000} {
		set := `{"keys":[` + one(good) + strings.Repeat(filler, 98) + one(good.with("kid", "hundredth")) +
			one(good.with("kid", "beyond")) + strings.Repeat(filler, n) + "{}]}"
		keys, skipped, err := jwks.Parse([]byte(set))
		require.NoError(t, err)
		require.Len(t, keys, 2, filler)
		require.Equal(t, "hundredth", keys[1].ID())
		require.LessOrEqual(t, len(skipped), 99)
		require.Equal(t, fmt.Sprintf("all but the first 100 of %d keys", n+102), skipped[0])
	}
}

// Keys for which a signature of nobody verifies, found with crypto/ed25519:
// with a public key A of small order, S = 0 and R = -hA, which is the neutral
// element for every eighth message at least.
func TestParseSmallOrder(t *testing.T) {
	t.Parallel()
	neutral := append([]byte{1}, make([]byte, 31)...)
	forged := append(neutral, make([]byte, 32)...)
	weak := func(public ed25519.PublicKey) bool {
		for i := range 64 {
			if ed25519.Verify(public, []byte{byte(i)}, forged) {
				return true
			}
		}
		return false
	}
	refused := func(public ed25519.PublicKey) string {
		keys, skipped, err := jwks.Parse(keySet(publicJWK(t, "k", public)))
		require.NoError(t, err)
		require.Equal(t, 1, len(keys)+len(skipped))
		return strings.Join(skipped, "")
	}

	// The coordinate y in hex, little-endian; each with both signs of x.
	for y, want := range map[string]string{
		"0000000000000000000000000000000000000000000000000000000000000000": "small order",
		"0100000000000000000000000000000000000000000000000000000000000000": "small order",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05": "small order",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": "small order",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": "small order", // p-1
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": "canonical",   // p = 0
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": "canonical",   // p+1 = 1
	} {
		public, err := hex.DecodeString(y)
		require.NoError(t, err)
		for range 2 {
			require.True(t, weak(public), "the test: %x", public)
			require.Contains(t, refused(public), want, "%x", public)
			public[31] ^= 0x80
		}
	}

	for range 4 {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		require.Empty(t, refused(public))
		require.False(t, weak(public))
		require.True(t, ed25519.Verify(public, nil, ed25519.Sign(private, nil)))
	}
	// 2^255-1, the largest there is, and the largest y below p-1.
	public := bytes.Repeat([]byte{0xff}, 32)
	require.Contains(t, refused(public), "canonical")
	public[0], public[31] = 0xeb, 0x7f
	require.Empty(t, refused(public))
}

// No key verifies what was signed for another algorithm.
func TestVerifyEveryAlgorithm(t *testing.T) {
	t.Parallel()
	all := signers(t)
	for alg, signer := range all {
		input := "header.payload"
		signature, err := jwt.GetSigningMethod(alg).Sign(input, signer)
		require.NoError(t, err)
		for other := range all {
			err := published(t, other, all[other]).Verify([]byte(input), signature)
			require.Equal(t, other == alg, err == nil, "%s with the key for %s", alg, other)
		}
	}
}

func TestVerifyStandardVectors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ key, token string }{
		"RFC 7515 A.3": {
			`{"kid":"k","kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
			"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
		},
		"RFC 8037 A.4": {
			`{"kid":"k","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
		},
	} {
		keys, _, err := jwks.Parse([]byte(`{"keys":[` + c.key + `]}`))
		require.NoError(t, err)
		require.Len(t, keys, 1, name)
		dot := strings.LastIndexByte(c.token, '.')
		signature, err := b64.DecodeString(c.token[dot+1:])
		require.NoError(t, err)
		require.NoError(t, keys[0].Verify([]byte(c.token[:dot]), signature), name)
		signature[7] ^= 1
		require.Error(t, keys[0].Verify([]byte(c.token[:dot]), signature), name)
	}
}

// Signatures no honest signer makes.
func TestVerifyForgedSignatures(t *testing.T) {
	t.Parallel()
	private := ecKey(t, elliptic.P256())
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	keys, _, err := jwks.Parse(keySet(publicJWK(t, "ec", private.Public()), publicJWK(t, "rsa", rsaKey().Public()), publicJWK(t, "ed", edKey.Public())))
	require.NoError(t, err)
	require.Len(t, keys, 3)

	input := []byte("header.payload")
	good, err := jwt.SigningMethodES256.Sign(string(input), private)
	require.NoError(t, err)
	require.NoError(t, keys[0].Verify(input, good))
	digest := crypto.SHA256.New()
	digest.Write(input)
	der, err := ecdsa.SignASN1(rand.Reader, private, digest.Sum(nil))
	require.NoError(t, err)
	n := elliptic.P256().Params().N
	// r and s shifted by the order: the same values to a careless verifier.
	plusN := func(half []byte) []byte {
		return new(big.Int).Add(new(big.Int).SetBytes(half), n).FillBytes(make([]byte, 33))
	}
	order := n.FillBytes(make([]byte, 32))
	zero := make([]byte, 32)
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for name, signature := range map[string][]byte{
		"empty":          {},
		"r = s = 0":      join(zero, zero),
		"r = 0":          join(zero, good[32:]),
		"s = 0":          join(good[:32], zero),
		"r = s = n":      join(order, order),
		"s = n":          join(good[:32], order),
		"all ones":       []byte(strings.Repeat("\xff", 64)),
		"DER":            der,
		"cut":            good[:63],
		"only r":         good[:32],
		"longer":         join(good, []byte{0}),
		"leading zeros":  join([]byte{0}, good[:32], []byte{0}, good[32:]),
		"shifted by n":   join(plusN(good[:32]), plusN(good[32:])),
		"r and s turned": join(good[32:], good[:32]),
		"twice":          join(good, good),
		"RSA 1":          append(make([]byte, 255), 1),
		"RSA 0":          make([]byte, 256),
		"huge":           make([]byte, 6<<10),
	} {
		for _, k := range keys {
			require.Error(t, k.Verify(input, signature), "%s with %s", name, k.Algorithm())
		}
	}
}

func FuzzParse(f *testing.F) {
	ec := publicJWK(f, "k", ecKey(f, elliptic.P256()).Public())
	f.Add(keySet(ec))
	f.Add(keySet(ec, ec.with("kid", "2"), ec.with("alg", "ES384")))
	f.Add(keySet(publicJWK(f, "r", rsaKey().Public())))
	f.Add([]byte(`{"keys":[{"kty":"OKP","kid":"k","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add(keySet(publicJWK(f, "small", ed25519.PublicKey(make([]byte, 32)))))
	f.Add([]byte(`{"keys":[null,1,[],{"kty":"RSA","kid":"k","n":"AQAB","e":""}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, _, err := jwks.Parse(data)
		if err != nil && keys != nil {
			t.Fatal("keys with an error")
		}
		seen := map[string]bool{}
		for _, k := range keys {
			if k.ID() == "" || k.Algorithm() == "" || k.Withdrawn() {
				t.Fatalf("key without name or algorithm: %q %q", k.ID(), k.Algorithm())
			}
			if seen[k.ID()+" "+k.Algorithm()] {
				t.Fatalf("two keys %q for %s", k.ID(), k.Algorithm())
			}
			seen[k.ID()+" "+k.Algorithm()] = true
			if k.Verify([]byte("header.payload"), make([]byte, 64)) == nil {
				t.Fatal("a signature of zeros verifies")
			}
		}
	})
}
