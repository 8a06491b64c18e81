// Package issuer is a gateway as far as a verifier sees it, for load tests and
// for tests of middlewares: discovery, one key, and function tokens. It shares no
// code with what they test.
package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Issuer serves on a free port of 127.0.0.1 until Close.
type Issuer struct {
	*http.Server
	URL string
	// Down has it answer everything with 500.
	Down atomic.Bool
	key  *ecdsa.PrivateKey
}

// New returns an issuer that serves already.
func New() (*Issuer, error) { return NewAt("127.0.0.1:0") }

// NewAt is New at a host:port.
func NewAt(address string) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	i := &Issuer{key: key, URL: "http://" + ln.Addr().String()}
	x, y := encode(point[1:33]), encode(point[33:])
	i.Server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.Down.Load() {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		if r.URL.Path == "/keys" {
			json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
				"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", "x": x, "y": y}}})
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})}
	go i.Serve(ln)
	return i, nil
}

// Token returns a function token of alice's with one permission, such as "*" or
// "dev:orders", good for a day.
func (i *Issuer) Token(permission string) string {
	return i.sign("fed:alice", map[string]any{"function": map[string]any{"permissions": []string{permission}}})
}

// IDToken returns an ID token of subject's, to be exchanged, good for a day.
func (i *Issuer) IDToken(subject string) string { return i.sign(subject, map[string]any{}) }

// PublicKey returns the key as PEM.
func (i *Issuer) PublicKey() []byte {
	der, err := x509.MarshalPKIXPublicKey(&i.key.PublicKey)
	if err != nil {
		panic(err) // we made the key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (i *Issuer) sign(subject string, more map[string]any) string {
	header, _ := json.Marshal(map[string]any{"alg": "ES256", "kid": "1", "typ": "JWT"})
	more["iss"], more["aud"], more["sub"] = i.URL, i.URL, subject
	more["iat"], more["exp"] = time.Now().Unix(), time.Now().Add(24*time.Hour).Unix()
	claims, _ := json.Marshal(more)
	signed := encode(header) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		panic(err) // the key is good, and so is the system's randomness
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
