// Package basicauth is the administrator's name and password: reading them from
// the files of secret_mount_path, following those, and telling whether a request
// brings them. The gateway asks for them, the federated gateway sends them.
package basicauth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Credentials are the administrator's, for basic authentication (RFC 7617).
// The zero value matches nobody. Printing it shows no password.
type Credentials struct{ user, password string }

// New returns credentials, such as a program has found elsewhere than in files.
func New(user, password string) Credentials { return Credentials{user, password} }

// String hides the password.
func (c Credentials) String() string { return c.user + ":[hidden]" }

// GoString hides the password from %#v.
func (c Credentials) GoString() string { return c.String() }

// User returns the administrator's name.
func (c Credentials) User() string { return c.user }

// Password returns the administrator's password.
func (c Credentials) Password() string { return c.password }

// The files of secret_mount_path, as upstream names them.
const (
	userFile     = "basic-auth-user"
	passwordFile = "basic-auth-password"
)

// Read reads basic-auth-user and basic-auth-password from dir.
// White space around them is dropped. With create, a missing pair is made:
// user admin and a random password, readable by this user alone.
func Read(dir string, create bool) (Credentials, error) {
	password, err := readFile(filepath.Join(dir, passwordFile))
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := generate(dir); err != nil {
			return Credentials{}, err
		}
		password, err = readFile(filepath.Join(dir, passwordFile))
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("cannot read the admin password: %w", err)
	}
	user, err := readFile(filepath.Join(dir, userFile))
	if err != nil {
		return Credentials{}, fmt.Errorf("cannot read the admin user: %w", err)
	}
	c := Credentials{user: strings.TrimSpace(string(user)), password: strings.TrimSpace(string(password))}
	if c.user == "" || c.password == "" || strings.Contains(c.user, ":") {
		return Credentials{}, fmt.Errorf("%s: want a user without a colon in %s and a password in %s, neither empty", dir, userFile, passwordFile)
	}
	return c, nil
}

// maxFile bounds a name and a password, in bytes: both go into a header.
const maxFile = 4 << 10

// readFile reads what can be a secret, and neither waits nor fills the memory
// for anything else: the files are read again every second.
func readFile(path string) ([]byte, error) {
	// Not blocking: the opening of a FIFO would last until somebody writes.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return content, err
}

func generate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make a folder for the admin password: %w", err)
	}
	// The password comes last: its presence says that both are there.
	for _, file := range []struct{ name, content string }{{userFile, "admin"}, {passwordFile, rand.Text()}} {
		temporary := filepath.Join(dir, "."+file.name)
		if err := os.WriteFile(temporary, []byte(file.content+"\n"), 0o600); err != nil {
			return fmt.Errorf("cannot write the admin credentials: %w", err)
		}
		if err := os.Rename(temporary, filepath.Join(dir, file.name)); err != nil {
			return fmt.Errorf("cannot write the admin credentials: %w", err)
		}
	}
	return nil
}

// Set reports whether there are any.
func (c Credentials) Set() bool { return c.password != "" }

// Header returns the value of the Authorization header that has them.
func (c Credentials) Header() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password))
}

// Match reports whether the values of a request's Authorization headers are
// these credentials, in a time that tells nothing about them.
func (c Credentials) Match(authorization [][]byte) bool {
	given, ok := decode(authorization)
	if !ok || !c.Set() {
		return false
	}
	a, b := sha256.Sum256(given), sha256.Sum256([]byte(c.user+":"+c.password))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Names reports whether they are of the administrator's name, whatever the password
// is: who sends another name learns nothing of that.
func (c Credentials) Names(authorization [][]byte) bool {
	given, ok := decode(authorization)
	user, _, _ := bytes.Cut(given, []byte(":"))
	return ok && c.Set() && string(user) == c.user
}

func decode(authorization [][]byte) (given []byte, ok bool) {
	sent := Sent(authorization)
	if sent == nil {
		return nil, false
	}
	_, encoded, _ := bytes.Cut(sent, []byte(" "))
	given, err := base64.StdEncoding.DecodeString(string(encoded))
	return given, err == nil
}
