package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// openDataDir makes the data folder, keeps it out of git and locks it: two
// gateways on one folder would start each other's functions. The lock ends
// with the process, however that ends.
func openDataDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := checkOwner(dir); err != nil {
		return nil, fmt.Errorf("data_dir=%q: %w", dir, err)
	}
	if err := writeFile(filepath.Join(dir, ".gitignore"), []byte("*\n")); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data_dir=%q is in use by another gateway: stop that one, or set data_dir to another folder", dir)
		}
		return nil, fmt.Errorf("data_dir: cannot lock %s: %w", lock.Name(), err)
	}
	return func() { lock.Close() }, nil
}

// checkOwner refuses a folder that is another user's or that others may write
// to, as one made before us in a shared place is: its maker would choose who
// is trusted, read the admin password, and by links have us overwrite our files.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("belongs to the user with the number %d: want a folder of your own", s.Uid)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("mode %04o lets others write to it: run chmod go-w on it, or name a folder below it that is not there yet", mode)
	}
	return nil
}

// runDirPrefix begins the names of run folders in the system's temporary
// folder. They are there and not in data_dir because a socket's path must be
// short.
const runDirPrefix = "gatehound-"

// runLink is the link in data_dir to the run folder in use.
const runLink = "run"

// makeRunDir makes a run folder, readable by this user alone, and removes the
// one that a killed gateway left behind.
func makeRunDir(dataDir string) (string, error) {
	link := filepath.Join(dataDir, runLink)
	if old, err := os.Readlink(link); err == nil {
		if strings.HasPrefix(filepath.Base(old), runDirPrefix) && filepath.Dir(old) == filepath.Clean(os.TempDir()) {
			_ = os.RemoveAll(old)
		}
		_ = os.Remove(link)
	}
	dir, err := os.MkdirTemp("", runDirPrefix)
	if err != nil {
		return "", fmt.Errorf("cannot make a run folder: %w", err)
	}
	if err := os.Symlink(dir, link); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("cannot note the run folder: %w", err)
	}
	return dir, nil
}

// writeFile replaces a file at once, so that no reader sees half of it.
func writeFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(data)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
