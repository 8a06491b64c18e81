package auth

import (
	"crypto/sha256"
	"sync"
)

// verdicts are kept by the token's SHA-256: no token is. A signature costs tens
// of µs, the rest of the hop a few. Refused tokens are not in here, so a flood
// of them cannot push good ones out. A full one drops an entry at random for
// each new one: to choose better would cost every hit a write, and what is in
// use comes back with one verification.
type verdicts struct {
	max int

	mu      sync.RWMutex
	entries map[[sha256.Size]byte]verdict
}

func (v *verdicts) get(token [sha256.Size]byte) (verdict, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d, ok := v.entries[token]
	return d, ok
}

func (v *verdicts) set(token [sha256.Size]byte, d verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.entries[token]; !known && len(v.entries) >= v.max {
		for other := range v.entries { // begins anywhere
			delete(v.entries, other)
			break
		}
	}
	v.entries[token] = d
}
