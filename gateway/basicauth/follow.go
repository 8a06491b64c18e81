package basicauth

import (
	"context"
	"sync/atomic"
	"time"
)

// look is the time between two looks at the files. Two small files cost less
// than a watch on the folder, which misses what a network file system changes.
const look = time.Second

// FollowConfig says where the credentials are.
type FollowConfig struct {
	// Dir is as for Read.
	Dir string
	// Logf reports changes, Warnf what cannot be read; nil = silence. Neither is
	// told a password.
	Logf, Warnf func(format string, args ...any)
}

// Follower has the credentials of a folder as they were when they were last
// good. It is safe for concurrent use.
type Follower struct {
	config  FollowConfig
	current atomic.Pointer[Credentials]
}

// Follow reads the credentials, with Read's errors.
func Follow(c FollowConfig) (*Follower, error) {
	first, err := Read(c.Dir, false)
	if err != nil {
		return nil, err
	}
	silent := func(string, ...any) {}
	if c.Logf == nil {
		c.Logf = silent
	}
	if c.Warnf == nil {
		c.Warnf = silent
	}
	f := &Follower{config: c}
	f.current.Store(&first)
	return f, nil
}

// Current returns the credentials in force.
func (f *Follower) Current() Credentials { return *f.current.Load() }

// Run takes over what changes in the files, within two seconds, until ctx ends.
// What is seen once only is not taken: two files do not change at once, and a
// new name with the old password is nobody's.
func (f *Follower) Run(ctx context.Context) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	seen, problem := f.Current(), ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		next, err := Read(f.config.Dir, false)
		switch {
		case err != nil && err.Error() != problem:
			problem = err.Error()
			f.config.Warnf("%s (those read before stay in use)", problem)
		case err != nil:
		case next != seen:
			seen = next
		case next != f.Current():
			f.current.Store(&next)
			problem = ""
			f.config.Logf("%s: the credentials have changed, and are taken over", f.config.Dir)
		case problem != "":
			problem = ""
			f.config.Logf("%s: the credentials can be read again", f.config.Dir)
		}
	}
}
