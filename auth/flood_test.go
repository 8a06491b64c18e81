package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFlood throws distinct good tokens and as many, or more, garbage ones at
// a verifier, in a process of its own, which may grow by less than 64 MiB.
// Garbage may push no verdict out. GATEHOUND_TOKENS=10000000 makes it ten
// million of each; the usual run is shorter.
func TestFlood(t *testing.T) {
	t.Parallel()
	const child = "GATEHOUND_FLOOD_CHILD"
	good, garbage := 30_000, 500_000 // three times the verdicts that are kept
	if s := os.Getenv("GATEHOUND_TOKENS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		good, garbage = n, n
	}
	switch {
	case runtime.GOOS != "linux":
		t.Skip("needs /proc")
	case raceDetector:
		t.Skip("the race detector's own memory would be measured")
	case os.Getenv(child) != "":
		flood(t, good, garbage)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFlood$", "-test.v", "-test.timeout=0")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}

func flood(t *testing.T, good, garbage int) {
	v := newVerifier(t, func(c *Config) { c.Claims = []string{"sub", "long"} })
	sign := newFastSigner(t)
	payload := marshal(goodClaims())
	token := func(i int) string {
		long := ""
		if i < 20_000 { // all verdicts may be as large as they can be
			long = strings.Repeat("x", maxKept-len("fed:alice"))
		}
		return sign.token(fmt.Sprintf(`%s,"jti":"%d","long":"%s"}`, payload[:len(payload)-1], i, long))
	}
	call := func(token string) {
		if err := verify(t.Context(), v, []byte("Bearer "+token)); err != nil {
			t.Errorf("good token: %v", err)
		}
	}
	// Tokens in use all the while.
	regulars := make([]string, 100)
	for i := range regulars {
		regulars[i] = token(-1 - i)
		call(regulars[i])
	}
	runtime.GC()
	before := memory(t, "VmRSS:")

	start := time.Now()
	inParallel(good, func(i int) {
		call(token(i))
		if i%10 == 0 {
			call(regulars[i/10%len(regulars)])
		}
	})
	hits, kept := 0, len(v.verdicts.entries)
	for _, r := range regulars {
		if cached(v, r) {
			hits++
		}
	}
	t.Logf("%d good tokens: %s, %d verdicts, %d of the %d regulars' kept, %d KiB at most, from %d",
		good, time.Since(start).Round(time.Second), kept, hits, len(regulars), memory(t, "VmHWM:"), before)
	require.Equal(t, 10_000, kept)

	call(regulars[0])
	held := map[[32]byte]bool{}
	for sum := range v.verdicts.entries {
		held[sum] = true
	}
	start = time.Now()
	junk := newJunk(regulars[0])
	inParallel(garbage, func(i int) {
		if err := verify(t.Context(), v, []byte("Bearer "+junk.token(i))); Status(err) != 401 {
			t.Errorf("garbage %d: %v", i, err)
		}
	})
	after := 0
	for sum := range v.verdicts.entries {
		if held[sum] {
			after++
		}
	}
	peak := memory(t, "VmHWM:")
	t.Logf("%d garbage tokens: %s, %d of %d verdicts kept, %d KiB at most", garbage, time.Since(start).Round(time.Second), after, len(held), peak)
	require.Equal(t, len(held), after, "garbage pushed verdicts out")
	require.Equal(t, len(held), len(v.verdicts.entries), "garbage got in")
	require.Less(t, peak-before, 64<<10, "KiB more than before")
}

// junk makes distinct tokens that must be refused.
type junk struct{ good, claims string }

func newJunk(good string) junk {
	return junk{good: good, claims: strings.Split(good, ".")[1]}
}

func (j junk) token(i int) string {
	b64 := base64.RawURLEncoding.EncodeToString
	switch random := mathrand.Uint64(); {
	case i%64 == 0: // costs a signature
		return fmt.Sprintf("%s%08d", j.good[:len(j.good)-8], i)
	case i%64 < 16: // costs the header
		return b64(fmt.Appendf(nil, `{"alg":"ES256","kid":"other-%d"}`, i)) + "." + j.claims + ".AAAA"
	case i%64 == 17: // as long as may be
		return strings.Repeat("A", MaxToken-20) + fmt.Sprint(random)[:4] + fmt.Sprintf(".%d.A", i)
	default:
		return fmt.Sprintf("%x.%x.%d", random, random, i)
	}
}

// fastSigner signs with one ECDSA nonce, as nobody may who has a secret to
// keep: what is left of a signature (SEC 1 §4.1.3) is a few multiplications.
type fastSigner struct {
	n, r, inverse, rd *big.Int // s = inverse * (digest + rd) mod n
}

func newFastSigner(t *testing.T) fastSigner {
	key := signers()["ES256"].(*ecdsa.PrivateKey)
	d, err := key.Bytes()
	require.NoError(t, err)
	nonce, err := ecdsa.GenerateKey(key.Curve, rand.Reader)
	require.NoError(t, err)
	k, err := nonce.Bytes()
	require.NoError(t, err)
	point, err := nonce.PublicKey.Bytes()
	require.NoError(t, err)
	f := fastSigner{n: key.Params().N}
	f.r = new(big.Int).SetBytes(point[1:33])
	f.r.Mod(f.r, f.n)
	f.inverse = new(big.Int).ModInverse(new(big.Int).SetBytes(k), f.n)
	f.rd = new(big.Int).Mul(f.r, new(big.Int).SetBytes(d))
	return f
}

func (f fastSigner) token(payload string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	input := b64([]byte(`{"alg":"ES256","kid":"ES256"}`)) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(input))
	s := new(big.Int).SetBytes(digest[:])
	s.Mod(s.Mul(s.Add(s, f.rd), f.inverse), f.n)
	var signature [64]byte
	f.r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + b64(signature[:])
}

// inParallel calls f with 0 to n-1, on all processors.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	workers.Wait()
}

// memory returns a number of /proc/self/status, in KiB.
func memory(t *testing.T, field string) int {
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", field)
	return 0
}
