package issuer

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxKeyFile is far above any PEM file with one key.
const maxKeyFile = 64 << 10

// LoadOrCreate reads the private key in the PEM file at path, EC P-256 or P-384
// (PKCS#8 or SEC1) or Ed25519 (PKCS#8), and creates one if nothing is there; of
// several processes that do so at once, all end up with the same key. The file is
// ours alone: a symbolic link, or a mode that lets group or others in, is refused.
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
	der, err := x509.MarshalPKCS8PrivateKey(*k.private)
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
// reads it can sign tokens, who redirects it can choose the key. Else it is the
// operator's: it may be reached through symbolic links and be readable by a group,
// as Kubernetes mounts secrets, but not by everybody.
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
		return nil, fmt.Errorf("signing key %s: %w; want one private key in PEM: EC P-256 or P-384 (PKCS#8 or SEC1), or Ed25519 (PKCS#8)", path, err)
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
