package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/gatehound/gatehound/auth/login"
)

// store is faas-cli's folder: its file of logins, and beside it ours.
type store struct{ dir string }

// credential is an entry of faas-cli's file.
type credential struct {
	Gateway string `yaml:"gateway"`
	Auth    string `yaml:"auth"`
	Token   string `yaml:"token"`
}

// oauth2Auth is the Auth of a bearer token.
const oauth2Auth = "oauth2"

// settings are how somebody logged in at a gateway, so that the next time its
// URL is enough.
type settings struct {
	Gateway          string   `yaml:"gateway"`
	Authority        string   `yaml:"authority"`
	ClientID         string   `yaml:"client_id"`
	ClientSecretFile string   `yaml:"client_secret_file"`
	Grant            string   `yaml:"grant"`
	Scopes           []string `yaml:"scopes,flow"`
	Audience         string   `yaml:"audience"`
	RedirectHost     string   `yaml:"redirect_host"`
	ListenPort       int      `yaml:"listen_port"`
	CA               string   `yaml:"ca"`
	NoExchange       bool     `yaml:"no_exchange"`
	RefreshToken     string   `yaml:"refresh_token"`
	// Origin is the login that the refresh token came from.
	Origin login.Origin `yaml:"origin,flow"`
	// GivenToken says that the token in config.yml was exchanged for a --token.
	GivenToken bool `yaml:"given_token"`
}

// home is the user's folder.
func home(getenv func(string) string) (string, error) {
	names := []string{"HOME"}
	if runtime.GOOS == "windows" {
		names = []string{"HOME", "USERPROFILE"}
	}
	for _, name := range names {
		if dir := getenv(name); dir != "" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%s is not set; it says where .openfaas is", strings.Join(names, " and "))
}

// openStore finds the folder as faas-cli does.
func openStore(getenv func(string) string) (*store, error) {
	dir := getenv("OPENFAAS_CONFIG")
	if ci := getenv("CI"); dir == "" && (ci == "true" || ci == "1") {
		dir = ".openfaas"
	} else if dir == "" {
		dir = "~/.openfaas"
	}
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		h, err := home(getenv)
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(h, rest)
	}
	return &store{filepath.Clean(dir)}, nil
}

// lock keeps other runs of ours from both files, until unlock.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, notSaved(err)
	}
	l := flock.New(filepath.Join(s.dir, "pro.lock"), flock.SetPermissions(0o600))
	// Longer than whoever has it may wait for a provider and a gateway.
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("another faas-cli pro has it for too long"))
	defer cancel()
	if _, err := l.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", l.Path(), cause)
		}
		return nil, notSaved(fmt.Errorf("cannot lock: %w", err)) // a network's file system may have no locks
	}
	return func() { _ = l.Close() }, nil
}

// lock is the store's, and says what it waits for.
func (p program) lock(ctx context.Context, s *store) (unlock func(), err error) {
	waiting := time.AfterFunc(2*time.Second, func() { p.say("waiting for another faas-cli pro, which has %s", s.dir) })
	defer waiting.Stop()
	return s.lock(ctx)
}

// check tells whether a login can be saved.
func (p program) check(ctx context.Context, s *store, gateway string) error {
	unlock, err := p.lock(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	if _, _, err := s.credential(gateway); err != nil {
		return err
	}
	return s.checkSpace()
}

// checkSpace tells whether both files can be written. Callers hold the lock.
func (s *store) checkSpace() error {
	for _, name := range []string{credentialsFile, settingsFile} {
		path := target(filepath.Join(s.dir, name))
		size := int64(32 << 10) // for tokens to come
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
		temporary, err := prepare(path, make([]byte, size))
		if err != nil {
			return err
		}
		_ = os.Remove(temporary)
	}
	return nil
}

// prepare writes a new version of path beside it, to be renamed to it.
func prepare(path string, data []byte) (temporary string, err error) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o200 == 0 { // which renaming would ignore
		return "", notSaved(fmt.Errorf("%s is read-only", path))
	}
	if temporary, err = writeBeside(path, data, 0o600); err != nil {
		return "", notSaved(err)
	}
	return temporary, nil
}

// notSaved adds what a person can do who cannot write there.
func notSaved(err error) error {
	return fmt.Errorf("logins cannot be saved: %w; mend that, or have $OPENFAAS_CONFIG name another folder", err)
}

const (
	credentialsFile, credentialsList = "config.yml", "auths"
	settingsFile, settingsList       = "pro.yml", "logins"
)

func (s *store) credential(gateway string) (c credential, found bool, err error) {
	found, err = s.get(credentialsFile, credentialsList, gateway, &c)
	return c, found, err
}

func (s *store) settings(gateway string) (r settings, found bool, err error) {
	found, err = s.get(settingsFile, settingsList, gateway, &r)
	return r, found, err
}

func (s *store) get(file, list, gateway string, v any) (bool, error) {
	path := filepath.Join(s.dir, file)
	_, e, err := read(path, list)
	if err != nil {
		return false, err
	}
	found, err := e.get(gateway, v)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return found, nil
}

// saveCredential and the others want the lock.
func (s *store) saveCredential(c credential) error {
	return s.edit(credentialsFile, credentialsList, c.Gateway, func(e *entries) (bool, error) { return true, e.put(c.Gateway, c) })
}

func (s *store) saveSettings(r settings) error {
	return s.edit(settingsFile, settingsList, r.Gateway, func(e *entries) (bool, error) { return true, e.put(r.Gateway, r) })
}

func (s *store) removeCredential(gateway string) error {
	return s.edit(credentialsFile, credentialsList, gateway, func(e *entries) (bool, error) { return e.remove(gateway), nil })
}

func (s *store) removeSettings(gateway string) error {
	return s.edit(settingsFile, settingsList, gateway, func(e *entries) (bool, error) { return e.remove(gateway), nil })
}

// edit changes a file. faas-cli takes no lock: if it has written the file meanwhile,
// edit begins anew with that.
func (s *store) edit(file, list, gateway string, change func(*entries) (bool, error)) error {
	path := filepath.Join(s.dir, file)
	for range 10 {
		before, e, err := read(path, list)
		if err != nil {
			return err
		}
		if changed, err := change(e); err != nil || !changed {
			return err
		}
		after, err := e.bytes(gateway)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		temporary, err := prepare(target(path), after)
		if err != nil {
			return err
		}
		if now, err := readFile(path); err != nil || !bytes.Equal(now, before) {
			_ = os.Remove(temporary)
			continue
		}
		if err := os.Rename(temporary, target(path)); err != nil {
			_ = os.Remove(temporary)
			return notSaved(err)
		}
		return nil
	}
	return notSaved(fmt.Errorf("%s changes all the time: some other program writes it", path))
}

// readFile returns what is in a file; nothing if there is none.
func readFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func read(path, list string) (data []byte, e *entries, err error) {
	for i := range 2 {
		if data, err = readFile(path); err != nil {
			return nil, nil, fmt.Errorf("logins cannot be read: %w; mend that, or have $OPENFAAS_CONFIG name another folder", err)
		}
		if e, err = parseEntries(data, list); err == nil && len(data) > 0 {
			return data, e, nil
		}
		// faas-cli empties its file, then writes it: we may have come in between.
		if _, gone := os.Stat(path); i > 0 || gone != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w; mend that by hand", path, err)
	}
	return data, e, nil
}

// target is where symbolic links lead, which are to stay what they are.
func target(path string) string {
	for range 10 {
		to, err := os.Readlink(path)
		if err != nil {
			break // it is none
		}
		if !filepath.IsAbs(to) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // whose .. is another's
			if err != nil {
				break
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return path
}

// writeBeside writes data to a file that is to be renamed to path. So whoever reads
// path finds the old or the new, even after a crash. Callers hold the lock, or are
// alone.
func writeBeside(path string, data []byte, mode os.FileMode) (temporary string, err error) {
	dir, name := filepath.Split(path)
	temporary = filepath.Join(dir, "."+name+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was killed
		return "", err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(temporary)
		return "", err
	}
	return temporary, nil
}
