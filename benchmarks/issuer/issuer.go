// Package issuer is a gateway as far as a watchdog sees it, for the load tests:
// discovery, one key, and function tokens. It shares no code with what they test.
package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"time"
)

// Issuer serves on a free port of 127.0.0.1 until Close.
type Issuer struct {
	*http.Server
	URL string
	key *ecdsa.PrivateKey
}

// New returns an issuer that serves already.
func New() (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	i := &Issuer{key: key, URL: "http://" + ln.Addr().String()}
	x, y := encode(point[1:33]), encode(point[33:])
	i.Server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

// Token returns a function token for every function, good for a day.
func (i *Issuer) Token() (string, error) {
	header, _ := json.Marshal(map[string]any{"alg": "ES256", "kid": "1", "typ": "JWT"})
	claims, _ := json.Marshal(map[string]any{
		"iss": i.URL, "aud": i.URL, "sub": "load",
		"iat": time.Now().Unix(), "exp": time.Now().Add(24 * time.Hour).Unix(),
		"function": map[string]any{"permissions": []string{"*"}},
	})
	signed := encode(header) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
