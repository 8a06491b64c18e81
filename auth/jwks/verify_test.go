package jwks_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

// signers has a private key for each algorithm.
func signers(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return map[string]crypto.Signer{
		"ES256": ecKey(t, elliptic.P256()), "ES384": ecKey(t, elliptic.P384()), "ES512": ecKey(t, elliptic.P521()),
		"RS256": rsaKey(), "RS384": rsaKey(), "RS512": rsaKey(),
		"PS256": rsaKey(), "PS384": rsaKey(), "PS512": rsaKey(),
		"EdDSA": edKey,
	}
}

// published returns the public half of signer as Parse reads it.
func published(t testing.TB, alg string, signer crypto.Signer) *jwks.Key {
	t.Helper()
	keys, skipped, err := jwks.Parse(keySet(publicJWK(t, alg, signer.Public()).with("alg", alg)))
	require.NoError(t, err)
	require.Empty(t, skipped)
	require.Len(t, keys, 1)
	return keys[0]
}

// Of each algorithm, what golang-jwt and jwx sign verifies, and of signatures
// that are damaged all three say the same.
func TestVerifyAgainstOthers(t *testing.T) {
	t.Parallel()
	for alg, signer := range signers(t) {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key := published(t, alg, signer)
			theirs, err := jws.NewVerifier(jwa.SignatureAlgorithm(alg))
			require.NoError(t, err)
			jwxSigner, err := jws.NewSigner(jwa.SignatureAlgorithm(alg))
			require.NoError(t, err)
			method := jwt.GetSigningMethod(alg)
			agree := func(want bool, input, signature []byte) {
				t.Helper()
				require.Equal(t, want, key.Verify(input, signature) == nil, "ours")
				require.Equal(t, want, theirs.Verify(input, signature, signer.Public()) == nil, "jwx")
				require.Equal(t, want, method.Verify(string(input), signature, signer.Public()) == nil, "golang-jwt")
			}
			for i := range 4 {
				input := fmt.Appendf(nil, "header.payload %d", i)
				other := append([]byte("x"), input...)
				a, err := method.Sign(string(input), signer)
				require.NoError(t, err)
				b, err := jwxSigner.Sign(input, signer)
				require.NoError(t, err)
				for _, good := range [][]byte{a, b} {
					agree(true, input, good)
					agree(false, other, good)
					agree(false, nil, good)
					agree(false, input, nil)
					agree(false, input, good[1:])
					agree(false, input, good[:len(good)-1])
					agree(false, input, append([]byte{0}, good...))
					agree(false, input, append(good[:len(good):len(good)], 0))
					agree(false, input, append(good[:len(good):len(good)], good...))
					agree(false, input, make([]byte, len(good)))
					for _, at := range []int{0, 1, len(good) / 2, len(good) - 1} {
						bad := append([]byte(nil), good...)
						bad[at] ^= 1 << i
						agree(false, input, bad)
					}
				}
			}
		})
	}
}

// A signature is put into DER by hand: numbers with zeros in front, with the highest
// bit set, and out of range are ecdsa's to judge, as they are as big.Int.
func TestVerifyNumbers(t *testing.T) {
	t.Parallel()
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			private := ecKey(t, curve)
			key, input, size := published(t, alg, private), []byte("header.payload"), (curve.Params().BitSize+7)/8
			h := map[string]crypto.Hash{"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512}[alg].New()
			h.Write(input)
			digest := h.Sum(nil)
			check := func(want bool, r, s []byte) {
				t.Helper()
				require.Equal(t, want, key.Verify(input, slices.Concat(r, s)) == nil, "%x %x", r, s)
				require.Equal(t, want, ecdsa.Verify(&private.PublicKey, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)), "%x %x", r, s)
			}
			// One number in 256 has a zero in front: to meet one of P-384 takes seconds.
			for i, short := 0, alg == "ES384"; i == 0 || !short; i++ {
				a, b, err := ecdsa.Sign(rand.Reader, private, digest)
				require.NoError(t, err)
				r, s := a.FillBytes(make([]byte, size)), b.FillBytes(make([]byte, size))
				check(true, r, s)
				if short = short || r[0] == 0 || s[0] == 0; i > 0 {
					continue
				}
				n := curve.Params().N
				for _, bad := range [][]byte{
					make([]byte, size), big.NewInt(1).FillBytes(make([]byte, size)), big.NewInt(128).FillBytes(make([]byte, size)),
					n.FillBytes(make([]byte, size)), bytes.Repeat([]byte{0xff}, size), append([]byte{0x80}, make([]byte, size-1)...),
				} {
					check(false, bad, s)
					check(false, r, bad)
					check(false, bad, bad)
				}
			}
		})
	}
}

// RFC 7518 §3.5: the salt is as long as the hash. Others take any length.
func TestVerifySaltLength(t *testing.T) {
	t.Parallel()
	key := published(t, "PS256", rsaKey())
	input := []byte("header.payload")
	digest := sha256.Sum256(input)
	for _, salt := range []int{1, 20, 31, 32, 33, 64, rsa.PSSSaltLengthAuto} {
		signature, err := rsa.SignPSS(rand.Reader, rsaKey(), crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
		require.NoError(t, err)
		require.NoError(t, jwt.SigningMethodPS256.Verify(string(input), signature, rsaKey().Public()))
		require.Equal(t, salt == 32, key.Verify(input, signature) == nil, "salt of %d bytes", salt)
	}
}

func BenchmarkVerify(b *testing.B) {
	all := signers(b)
	input := make([]byte, 600)
	for _, alg := range []string{"ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA"} {
		key := published(b, alg, all[alg])
		signature, err := jwt.GetSigningMethod(alg).Sign(string(input), all[alg])
		require.NoError(b, err)
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := key.Verify(input, signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
