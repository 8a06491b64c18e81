package exchange

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkExchange is to be read beside BenchmarkVerifyAndSign: the two
// operations on P-256 that no exchange can do without.
func BenchmarkExchange(b *testing.B) {
	p := newProvider(b, nil)
	g := newGateway(b, aliceMayInvoke(b, p, "openfaas-fn:*", "dev:env"))
	id := p.token(b, nil)
	api, err := g.exchange(b, id, "")
	require.NoError(b, err)
	for _, c := range []struct {
		name, subject, scope string
		audience             []string
	}{
		{"id-to-api", id, "", nil},
		{"id-to-function", id, "function", []string{"dev:env"}},
		{"api-to-function", api.AccessToken, "function", []string{"dev:env"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.exchange(b, c.subject, c.scope, c.audience...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyAndSign(b *testing.B) {
	p := newProvider(b, nil)
	digest := sha256.Sum256([]byte("x"))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.Verify(&p.key.PublicKey, digest[:], r, s) {
			b.Fatal("does not verify")
		}
		if _, _, err := ecdsa.Sign(rand.Reader, p.key, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}
