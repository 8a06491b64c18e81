package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile is far above any PEM file with one P-256 key.
const maxKeyFile = 64 << 10

// Key is an ES256 signing key. Whatever way it is printed, only its id shows.
type Key struct {
	private *ecdsa.PrivateKey
	x, y    string // base64url, the JWK's coordinates
	id      string
}

// ID returns the key's kid: its JWK thumbprint (RFC 7638, SHA-256).
func (k *Key) ID() string { return k.id }

// Format implements [fmt.Formatter] for every verb, so that no %v, %+v or %#v
// can reach the private half.
func (k Key) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "issuer.Key("+k.id+")") }

// Generate returns a new key that is in no file.
func Generate() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot generate a signing key: %w", err)
	}
	return newKey(private)
}

// Load reads an EC P-256 private key, PKCS#8 or SEC1 in PEM. The file is the
// operator's: it may be reached through symbolic links and be readable by a
// group, as Kubernetes mounts secrets, but not by everybody.
func Load(path string) (*Key, error) { return load(path, false) }

// LoadOrCreate reads the key file at path as [Load] does, and creates it if
// nothing is there; of several processes that do so at once, all end up with
// the same key. The file is ours alone: a symbolic link, or a mode that lets
// group or others in, is refused.
func LoadOrCreate(path string) (*Key, error) {
	k, err := load(path, true)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k, err = Generate()
	if err != nil {
		return nil, err
	}
	if err := k.store(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("signing key %s: cannot create it: %w", path, err)
	}
	// Whoever was first, what stands in the file is the key.
	return load(path, true)
}

// store writes the key to a file that appears complete or not at all. Link,
// unlike rename, never replaces another process' key, and never follows a
// dangling symbolic link that somebody left at path.
func (k *Key) store(path string) error {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".signing-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	// Without this a power cut may take the name away after tokens went out.
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// load reads the key at path. With private, the file must be ours alone: who
// reads it can sign tokens, who redirects it can choose the key.
func load(path string, private bool) (*Key, error) {
	stat := os.Stat
	if private {
		stat = os.Lstat
	}
	info, err := stat(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("signing key %s: is a %v, want a regular file", path, kind(info.Mode()))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	defer f.Close()
	opened, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if !os.SameFile(info, opened) {
		return nil, fmt.Errorf("signing key %s: was replaced while being opened", path)
	}
	switch mode := opened.Mode().Perm(); {
	case private && mode&0o077 != 0:
		return nil, fmt.Errorf("signing key %s: mode %04o lets group or others in: run chmod 600 %s", path, mode, path)
	case mode&0o007 != 0:
		return nil, fmt.Errorf("signing key %s: mode %04o lets everybody in: run chmod o= %s, or mount the secret with defaultMode 0440", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	k, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w; want one EC P-256 private key in PEM, PKCS#8 or SEC1", path, err)
	}
	return k, nil
}

// kind names what is not a regular file.
func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	default:
		return "special file"
	}
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
			return nil, errors.New("holds something other than an EC private key")
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
		if private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("holds an EC key on %s", private.Curve.Params().Name)
		}
		return newKey(private)
	default:
		return nil, errors.New("holds a private key that is not an EC key")
	}
}

func newKey(private *ecdsa.PrivateKey) (*Key, error) {
	point, err := private.PublicKey.Bytes() // 4, x, y (SEC 1, 2.3.3)
	if err != nil {
		return nil, fmt.Errorf("unusable key: %w", err)
	}
	k := &Key{
		private: private,
		x:       base64.RawURLEncoding.EncodeToString(point[1:33]),
		y:       base64.RawURLEncoding.EncodeToString(point[33:65]),
	}
	// RFC 7638, 3.2 and 3.3: these members, in this order, without spaces.
	jwk := fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, k.x, k.y)
	sum := sha256.Sum256(jwk)
	k.id = base64.RawURLEncoding.EncodeToString(sum[:])
	return k, nil
}
