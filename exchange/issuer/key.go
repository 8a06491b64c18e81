package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// The algorithms of keys (RFC 7518, 3.1; RFC 8037, 3.1).
const (
	ES256 = "ES256" // EC P-256
	ES384 = "ES384" // EC P-384
	EdDSA = "EdDSA" // Ed25519
)

// Key is a signing key. Whatever way it is printed, only its id shows.
type Key struct {
	// private is an *ecdsa.PrivateKey or ed25519.PrivateKey. It is behind a
	// pointer since fmt cannot call Format for a Key in an unexported field, but
	// follows no pointer there.
	private *crypto.Signer
	alg     string
	id      string
	header  string // of every token: encoded, with the dot that follows it
	jwk     string // the public half, as it is published
}

// ID returns the key's kid: its JWK thumbprint (RFC 7638, SHA-256).
func (k *Key) ID() string { return k.id }

// Algorithm returns [ES256], [ES384] or [EdDSA].
func (k *Key) Algorithm() string { return k.alg }

// Format implements [fmt.Formatter] for every verb, so that no %v, %+v or %#v
// can reach the private half.
func (k Key) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "issuer.Key("+k.id+")") }

// Generate returns a new ES256 key that is in no file.
func Generate() (*Key, error) { return generate(ES256) }

func generate(algorithm string) (*Key, error) {
	var (
		private crypto.Signer
		err     error
	)
	switch algorithm {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("algorithm %q: want %s, %s or %s", algorithm, ES256, ES384, EdDSA)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot generate a signing key: %w", err)
	}
	return newKey(private)
}

// sign returns the signature of a JWS' first two parts.
func (k *Key) sign(input []byte) ([]byte, error) {
	var digest []byte
	switch k.alg {
	case ES256:
		sum := sha256.Sum256(input)
		digest = sum[:]
	case ES384:
		sum := sha512.Sum384(input)
		digest = sum[:]
	default: // Ed25519 hashes for itself
		return (*k.private).Sign(nil, input, crypto.Hash(0))
	}
	r, s, err := ecdsa.Sign(rand.Reader, (*k.private).(*ecdsa.PrivateKey), digest)
	if err != nil {
		return nil, err
	}
	// r and s at full length (RFC 7518, 3.4), which here is that of the digest.
	size := len(digest)
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature, nil
}

// parse returns the one private key in PEM data. Its errors quote nothing of
// the data.
func parse(data []byte) (*Key, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxKeyFile)
	}
	var found any
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var (
			private any
			err     error
		)
		switch {
		case block.Type == "EC PARAMETERS": // openssl writes them before the key
			continue
		case block.Headers["Proc-Type"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("is encrypted")
		case block.Type == "PRIVATE KEY":
			private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			private, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			return nil, errors.New("holds something other than an EC or Ed25519 private key")
		}
		if err != nil {
			return nil, errors.New("holds a private key that cannot be read")
		}
		if found != nil {
			return nil, errors.New("holds several private keys")
		}
		found = private
	}
	switch private := found.(type) {
	case nil:
		return nil, errors.New("holds no PEM block")
	case *ecdsa.PrivateKey:
		return newKey(private)
	case ed25519.PrivateKey:
		return newKey(private)
	default:
		return nil, errors.New("holds a private key that is neither EC nor Ed25519")
	}
}

func newKey(private crypto.Signer) (*Key, error) {
	k := &Key{private: &private}
	encoding := base64.RawURLEncoding
	// The members that the thumbprint is made of, in its order and without
	// spaces (RFC 7638, 3.2 and 3.3; RFC 8037, 2).
	var members string
	switch public := private.Public().(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.alg = ES256
		case elliptic.P384():
			k.alg = ES384
		default:
			return nil, fmt.Errorf("holds an EC key on %s", public.Curve.Params().Name)
		}
		point, err := public.Bytes() // 4, x, y (SEC 1, 2.3.3)
		if err != nil {
			return nil, fmt.Errorf("unusable key: %w", err)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		members = fmt.Sprintf(`"crv":"%s","kty":"EC","x":"%s","y":"%s"`,
			public.Curve.Params().Name, encoding.EncodeToString(x), encoding.EncodeToString(y))
	case ed25519.PublicKey:
		k.alg = EdDSA
		members = fmt.Sprintf(`"crv":"Ed25519","kty":"OKP","x":"%s"`, encoding.EncodeToString(public))
	}
	sum := sha256.Sum256([]byte("{" + members + "}"))
	k.id = encoding.EncodeToString(sum[:])
	k.jwk = fmt.Sprintf(`{%s,"kid":"%s","use":"sig","alg":"%s"}`, members, k.id, k.alg)
	k.header = encoding.EncodeToString(fmt.Appendf(nil, `{"alg":"%s","kid":"%s","typ":"JWT"}`, k.alg, k.id)) + "."
	return k, nil
}
