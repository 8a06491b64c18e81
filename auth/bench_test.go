package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func BenchmarkVerify(b *testing.B) {
	good := mint("ES256", goodClaims(), nil)
	run := func(name, header string, want int, before func(v *Verifier)) {
		b.Run(name, func(b *testing.B) {
			v := newVerifier(b, nil)
			value := []byte(header)
			b.ReportAllocs()
			for b.Loop() {
				if before != nil {
					before(v)
				}
				if err := verify(b.Context(), v, value); Status(err) != want {
					b.Fatal(err)
				}
			}
		})
	}
	sum := sha256.Sum256([]byte(good))
	run("hit", "Bearer "+good, 200, nil)
	run("miss", "Bearer "+good, 200, func(v *Verifier) { delete(v.verdicts.entries, sum) })
	run("refused/no bearer", "", 401, nil)
	run("refused/garbage", "Bearer "+strings.Repeat("A", len(good)), 401, nil)
	run("refused/unknown kid", "Bearer "+mint("ES256", goodClaims(), map[string]any{"kid": "x"}), 401, nil)
	run("refused/signature", "Bearer "+good[:len(good)-8]+"AAAAAAAA", 401, nil)
	run("refused/expired", "Bearer "+mint("ES256", withClaim("exp", 1), nil), 401, nil)
	run("refused/8 KiB of header", "Bearer "+base64.RawURLEncoding.EncodeToString([]byte(`{"x":[`+strings.Repeat("1,", 2900)+`1]}`))+".e30.AA", 401, nil)
	run("refused/8 KiB of dots", "Bearer "+strings.Repeat(".", MaxToken), 401, nil)
	run("miss/8 KiB", "Bearer "+mint("ES256", withClaim("x", strings.Split(strings.Repeat("aaaaa ", 600), " ")), nil), 200, func(v *Verifier) { clear(v.verdicts.entries) })

	b.Run("hit/parallel", func(b *testing.B) {
		v := newVerifier(b, nil)
		value := []byte("Bearer " + good)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := verify(b.Context(), v, value); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("SHA-256 alone", func(b *testing.B) {
		token := []byte(good)
		for b.Loop() {
			sha256.Sum256(token)
		}
	})
	b.Run("golang-jwt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := jwt.ParseWithClaims(good, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return signers()["ES256"].Public(), nil }, jwt.WithoutClaimsValidation())
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCacheMemory reports what a verifier's cache costs, empty and full.
func BenchmarkCacheMemory(b *testing.B) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	newVerifier(b, nil) // the keys
	before, goroutines := heap(), runtime.NumGoroutine()
	v := newVerifier(b, nil)
	empty := heap()
	for i := range 10_000 {
		v.verdicts.set(sha256.Sum256(fmt.Append(nil, i)), verdict{expires: now})
	}
	full := heap()
	for b.Loop() {
		runtime.KeepAlive(v)
	}
	b.ReportMetric((empty-before)/1024, "KiB-empty")
	b.ReportMetric((full-before)/1024, "KiB-full")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
}
