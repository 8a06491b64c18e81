package issuer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MinTokenLife is the least that a key stays published after its successor
// began, so that the default needs no thought.
const MinTokenLife = 24 * time.Hour

// MaxKeys is how many keys may be published at once: fwatchdogs take no more.
const MaxKeys = 100

// firstKey is the key made in an empty folder of ours. It has a fixed name, so
// that of several processes all end up with the same one.
const firstKey = "first.pem"

// readFolder reads the keys of a folder, as load does, in files whose names end
// in .pem. Hidden files, which temporary ones and Kubernetes' ..data are, and
// folders do not count. faults says by name which files are not such keys; err,
// that the folder cannot be read.
func readFolder(dir string, private bool) (keys map[string]*Key, faults map[string]error, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("folder of signing keys: %w", err)
	}
	keys, faults = make(map[string]*Key), make(map[string]error)
	for _, f := range files {
		name := f.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".pem") {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			continue
		}
		switch key, err := load(path, private); {
		case err == nil:
			keys[name] = key
		case errors.Is(err, fs.ErrNotExist): // deleted since ReadDir
		default:
			faults[name] = err
		}
	}
	return keys, faults, nil
}

// openFolder reads the keys for the first time. Here a bad file is an error, as
// all bad configuration is at a start: without its key we would refuse tokens
// that those who read it in time still accept.
func openFolder(dir string, private bool) (map[string]*Key, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("folder of signing keys: %w", err)
	}
	// Kubernetes mounts secrets with 0777, but nobody can write there.
	if mode := info.Mode().Perm(); private && mode&0o022 != 0 {
		return nil, fmt.Errorf("folder of signing keys %s: mode %04o lets others add keys: run chmod go-w %s", dir, mode, dir)
	}
	keys, faults, err := readFolder(dir, private)
	if err != nil {
		return nil, err
	}
	if err := joinFaults(faults); err != nil {
		return nil, err
	}
	if len(keys) == 0 && private {
		k, err := LoadOrCreate(filepath.Join(dir, firstKey))
		if err != nil {
			return nil, err
		}
		keys[firstKey] = k
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("folder of signing keys %s: want at least one file whose name ends in .pem", dir)
	}
	return keys, nil
}

func scheduleOf(keys map[string]*Key) schedule {
	var entries []entry
	for name, key := range keys {
		entries = append(entries, entry{name, beginOf(name), key})
	}
	return newSchedule(entries)
}

func joinFaults(faults map[string]error) error {
	var all []error
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		all = append(all, faults[name])
	}
	return errors.Join(all...)
}

// Add makes a new key for algorithm in a folder, to sign from begin on, rounded
// up to a second. The file appears complete or not at all, and never replaces
// another: the error is fs.ErrExist if a key begins at that very second.
func Add(dir, algorithm string, begin time.Time) (Listed, error) {
	begin = begin.Add(time.Second - time.Nanosecond).Truncate(time.Second).UTC()
	k, err := generate(algorithm)
	if err != nil {
		return Listed{}, err
	}
	name := begin.Format(nameForm)
	if err := k.store(filepath.Join(dir, name)); err != nil {
		return Listed{}, fmt.Errorf("signing key %s: cannot create it: %w", filepath.Join(dir, name), err)
	}
	return Listed{Key: k, Name: name, Begin: begin, State: Next}, nil
}

// State is what a key is used for at a moment.
type State string

// The states, in the order in which a key goes through them.
const (
	Next      State = "next"      // published, will sign
	Signing   State = "signing"   // published, signs
	Published State = "published" // has signed tokens that may be alive
	Expired   State = "expired"   // left out: its file may be deleted
)

// Listed is a key of a folder at a moment.
type Listed struct {
	Key   *Key
	Name  string    // of the file
	Begin time.Time // when it signs; zero = it always has
	End   time.Time // until when it is published; zero = not known yet
	State State
}

// List returns the keys of a folder as an issuer would use them at now, in the
// order in which they sign. tokenLife is the longest life of a token, no less
// than [MinTokenLife] being taken. private asks that the files be ours alone, as
// [LoadOrCreate] does. The error names the files that are no keys; the others are
// returned beside it.
func List(dir string, private bool, now time.Time, tokenLife time.Duration) ([]Listed, error) {
	keys, faults, err := readFolder(dir, private)
	if err != nil {
		return nil, err
	}
	s := scheduleOf(keys)
	published := s.published(now, max(tokenLife, MinTokenLife))
	signing := s.signing(now)
	var all []Listed
	for n, e := range s {
		l := Listed{Key: e.key, Name: e.name, Begin: e.begin, End: s.end(n, max(tokenLife, MinTokenLife)), State: Expired}
		switch {
		case n > signing:
			l.State = Next
		case n == signing:
			l.State = Signing
		case contains(published, e.key):
			l.State = Published
		}
		all = append(all, l)
	}
	return all, joinFaults(faults)
}
