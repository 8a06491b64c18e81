// Package store says where the objects of the policy language come from: a
// folder of YAML files, read at the start and again whenever they change. What
// the objects mean is package iam's business.
//
// All *.yaml and *.yml files of the folder count, in the order of their names,
// with as many documents as they like, up to 1 MiB a file; not those of folders
// below it, nor hidden ones. Symbolic links are followed, so that a mounted
// ConfigMap works. The metadata's namespace means nothing here: who may write to
// the folder may grant.
//
// A faulty object is left out and the others count. A file that is no YAML or
// cannot be read keeps what it last held, so that a slip in an editor locks
// nobody out, and a folder that is gone keeps everything; a file that is deleted
// takes its objects along. A file should be replaced by renaming a new one over
// it: a half that has been written may be good YAML, and grant more than the
// whole.
package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gatehound/gatehound/auth/iam"
)

const (
	maxFileSize = 1 << 20
	maxWarnings = 50                     // of one load: a large broken file has as many as it has lines
	debounce    = 50 * time.Millisecond  // from the last event to the reload, ...
	patience    = 500 * time.Millisecond // ... and from the first, however many follow
)

// Config says which folder to read.
type Config struct {
	// Dir is the folder; it has to exist.
	Dir string
	// Rescan is the time between two readings when no event tells of a
	// change; 0 = 30s.
	Rescan time.Duration
	// Logf is told of every load that changed something;
	// nil = nobody.
	Logf func(format string, args ...any)
	// Warnf is told of what an operator should mend; nil = Logf.
	Warnf func(format string, args ...any)
}

// Folder is a folder of YAML files. Current and Problems are safe for
// concurrent use.
type Folder struct {
	config Config
	state  atomic.Pointer[state]

	// What the last load found; Open's, then Run's alone.
	files  map[string]file
	dirErr string
}

type state struct {
	set      *iam.Set
	problems []iam.Problem
}

// file is one file's contribution.
type file struct {
	sum      [sha256.Size]byte // of the content, or of why it could not be read
	objects  iam.Objects       // the last good ones
	problems []iam.Problem
}

// Open reads the folder once. The error is for a folder that cannot be read;
// all that is wrong with its files is in Problems.
func Open(c Config) (*Folder, error) {
	c.Rescan = cmp.Or(c.Rescan, 30*time.Second)
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Warnf == nil {
		c.Warnf = c.Logf
	}
	f := &Folder{config: c}
	f.load(nil)
	if f.dirErr != "" {
		return nil, errors.New(f.dirErr)
	}
	return f, nil
}

// Current returns the objects as they stand now, compiled. Take it once per
// decision: the next call may return another.
func (f *Folder) Current() *iam.Set { return f.state.Load().set }

// Problems returns what is wrong with the files and the objects now.
func (f *Folder) Problems() []iam.Problem { return slices.Clone(f.state.Load().problems) }

// Run follows changes until ctx is done; call it once.
func (f *Folder) Run(ctx context.Context) {
	// Rescanning alone works too, only slower: where inotify has run out of
	// watches, or on file systems without it.
	var events <-chan fsnotify.Event
	var lost <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		events, lost = watcher.Events, watcher.Errors
		err = watcher.Add(f.config.Dir)
	}
	if err != nil {
		f.config.Warnf("iam: %s: changes are only found every %v: %v", f.config.Dir, f.config.Rescan, err)
	}
	rescan := time.NewTicker(f.config.Rescan)
	defer rescan.Stop()
	settled := time.NewTimer(debounce)
	settled.Stop()

	f.load(nil) // for what changed before the watch was there
	// What events have told of since the last load; nil = any file may have
	// changed. Reading only these is what makes a change among ten thousand
	// files live in no time.
	changed := map[string]bool{}
	var first time.Time // of these events
	settle := func() {
		if first.IsZero() {
			first = time.Now()
		}
		settled.Reset(min(debounce, time.Until(first.Add(patience))))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			name := filepath.Base(e.Name)
			if name == dataLink {
				changed = nil
			} else if !counts(name) {
				continue
			} else if changed != nil {
				changed[name] = true
			}
			settle()
		case <-lost: // events, perhaps
			changed = nil
			settle()
		case <-settled.C:
			f.load(changed)
			changed, first = map[string]bool{}, time.Time{}
		case <-rescan.C:
			// Another folder may have taken this one's name.
			if watcher != nil {
				_ = watcher.Remove(f.config.Dir)
				_ = watcher.Add(f.config.Dir)
			}
			f.load(nil)
		}
	}
}

// dataLink is the symbolic link through which all files of a mounted ConfigMap
// are reached, and whose swap changes them all at once.
const dataLink = "..data"

// load reads the folder and, if anything changed, puts a new set in force. Of
// the files known already only those in changed are read; nil = all.
func (f *Folder) load(changed map[string]bool) {
	if f.dirErr != "" {
		changed = nil // it may be another folder by now
	}
	files, dirErr := f.files, ""
	for {
		before, _ := os.Readlink(filepath.Join(f.config.Dir, dataLink))
		read, err := f.readAll(changed)
		if err != nil {
			dirErr = fmt.Sprintf("the IAM folder cannot be read: %v", err)
			break
		}
		files = read
		// A swap in the middle would have mixed an old role with a new policy.
		if after, _ := os.Readlink(filepath.Join(f.config.Dir, dataLink)); after == before {
			break
		}
		changed = nil
	}
	same := maps.EqualFunc(files, f.files, func(a, b file) bool { return a.sum == b.sum })
	if f.state.Load() != nil && same && dirErr == f.dirErr {
		return
	}
	f.files, f.dirErr = files, dirErr

	var objects iam.Objects
	var problems []iam.Problem
	if dirErr != "" {
		problems = append(problems, iam.Problem{Source: f.config.Dir, Message: dirErr + "; what it held before stays in force", Ignored: true})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := files[name]
		objects.Issuers = append(objects.Issuers, file.objects.Issuers...)
		objects.Policies = append(objects.Policies, file.objects.Policies...)
		objects.Roles = append(objects.Roles, file.objects.Roles...)
		problems = append(problems, file.problems...)
	}
	set, faults := iam.Compile(objects)
	problems = append(problems, faults...)
	f.state.Store(&state{set: set, problems: problems})

	f.config.Logf("iam: %s: loaded %d issuers, %d policies and %d roles from %d files, with %d problems",
		f.config.Dir, len(objects.Issuers), len(objects.Policies), len(objects.Roles), len(files), len(problems))
	for i, p := range problems {
		if i == maxWarnings {
			f.config.Warnf("iam: %s: and %d more problems", f.config.Dir, len(problems)-i)
			break
		}
		f.config.Warnf("iam: %s: %s", p.Source, p.Message)
	}
}

// counts reports whether the folder's entry of this name is one of its files.
func counts(name string) bool {
	return !strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml"))
}

func (f *Folder) readAll(changed map[string]bool) (map[string]file, error) {
	entries, err := os.ReadDir(f.config.Dir)
	if err != nil {
		return nil, err
	}
	files := map[string]file{}
	for _, e := range entries {
		name := e.Name()
		if !counts(name) {
			continue
		}
		last, known := f.files[name]
		if !known || changed == nil || changed[name] {
			last = readFile(filepath.Join(f.config.Dir, name), last)
		}
		files[name] = last
	}
	return files, nil
}

// readFile returns what the file now contributes, given what it did last.
func readFile(path string, last file) file {
	data, err := readContent(path)
	next := file{sum: sha256.Sum256(data)}
	if err != nil {
		next.sum = sha256.Sum256([]byte(err.Error()))
	}
	if next.sum == last.sum {
		return last
	}
	if err == nil {
		next.objects, next.problems, err = decode(path, data)
	}
	if err != nil {
		next.objects = last.objects
		p := unreadable(path, err)
		p.Message += "; what was last read of this file stays in force"
		next.problems = []iam.Problem{p}
	}
	return next
}

func readContent(path string) ([]byte, error) {
	// Non-blocking, as a pipe would wait for its writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is no regular file")
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("the file is larger than %d bytes: split it", maxFileSize)
	}
	return data, nil
}
