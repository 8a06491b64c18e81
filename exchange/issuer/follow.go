package issuer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"
)

// pollInterval is how often a folder of keys is read. A few small files cost
// less than knowing when they have changed, which no file system tells reliably
// of mounted secrets.
const pollInterval = time.Second

// Config says where an issuer's keys are.
type Config struct {
	// URL is the issuer's `iss`, as for [New].
	URL string
	// Path is a file with the only key, or a folder of key files, which [Issuer.Run]
	// follows.
	Path string
	// Ours says that Path is ours to fill: a folder that is not there is made, an
	// empty one gets its first key, and files must be ours alone, as for
	// [LoadOrCreate]. An operator's may be links and be readable by a group.
	Ours bool
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Logf reports keys that come, go and begin to sign; nil = silence.
	Logf func(format string, args ...any)
	// Warnf reports what an operator should mend; nil = Logf.
	Warnf func(format string, args ...any)
}

// follower is what Run knows of the folder.
type follower struct {
	Config
	keys    map[string]*Key
	faults  map[string]string // what was warned about, by file
	fault   string            // the same, of the folder
	signing *Key
}

// Open returns an issuer with the keys in c.Path. The error says which file is
// not as it should be.
func Open(c Config) (*Issuer, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Warnf == nil {
		c.Warnf = c.Logf
	}
	info, err := os.Stat(c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.Ours:
	case err != nil:
		return nil, fmt.Errorf("signing key: %w", err)
	case !info.IsDir():
		key, err := load(c.Path, c.Ours)
		if err != nil {
			return nil, err
		}
		return newIssuer(c.URL, schedule{{key: key}}, c.Now)
	}
	if c.Ours {
		if err := os.MkdirAll(c.Path, 0o700); err != nil {
			return nil, fmt.Errorf("folder of signing keys: %w", err)
		}
	}
	keys, err := openFolder(c.Path, c.Ours)
	if err != nil {
		return nil, err
	}
	i, err := newIssuer(c.URL, scheduleOf(keys), c.Now)
	if err != nil {
		return nil, err
	}
	i.follow = &follower{Config: c, keys: keys}
	return i, nil
}

// Run follows changes of the folder until ctx ends; call it once. A file that
// is bad changes nothing, a folder that is gone neither, and no key is ever made
// here: somebody who deletes all of them wants no more tokens.
func (i *Issuer) Run(ctx context.Context) {
	if i.follow == nil {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		i.reload()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// reload reads the folder, and says what is new.
func (i *Issuer) reload() {
	f := i.follow
	keys, faults, err := readFolder(f.Path, f.Ours)
	if err != nil {
		if f.fault != err.Error() {
			f.fault = err.Error()
			f.Warnf("%s; the keys it held stay in use", f.fault)
		}
		return
	}
	f.fault = ""
	warned := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		kept := "the file is ignored"
		if old, ok := f.keys[name]; ok {
			keys[name] = old
			kept = "the key it held stays in use"
		}
		warned[name] = faults[name].Error()
		if f.faults[name] != warned[name] {
			f.Warnf("%s; until then %s", warned[name], kept)
		}
	}
	f.faults = warned

	before := i.published()
	s := scheduleOf(keys)
	i.keys.Store(&s)
	after := i.published()
	for name, k := range keys {
		if old := f.keys[name]; old == nil || old.id != k.id {
			f.Logf("signing key %s: new, %s key %s", name, k.alg, k.id)
		}
	}
	for name, old := range f.keys {
		switch {
		case keys[name] != nil && keys[name].id == old.id:
		case contains(before, old) && !contains(after, old):
			f.Warnf("signing key %s: key %s was deleted: its tokens are no longer good", name, old.id)
		default:
			f.Logf("signing key %s: key %s was deleted", name, old.id)
		}
	}
	f.keys = keys
	i.tellSigning(s)
}

// tellSigning says which key signs, when it has changed.
func (i *Issuer) tellSigning(s schedule) {
	f := i.follow
	n := s.signing(f.Now())
	switch {
	case n < 0 && f.signing != nil:
		f.signing = nil
		f.Warnf("folder of signing keys %s: no key is left: no token can be issued", f.Path)
	case n >= 0 && (f.signing == nil || f.signing.id != s[n].key.id):
		f.signing = s[n].key
		f.Logf("signing key %s signs, key %s", s[n].name, f.signing.id)
	}
}
