package issuer

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// logged collects what an issuer logs and warns about.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) warnf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take returns the lines since the last time.
func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func write(t testing.TB, path string, key *Key, mode os.FileMode) {
	t.Helper()
	require.NoError(t, key.store(path))
	require.NoError(t, os.Chmod(path, mode))
}

func generated(t testing.TB) *Key {
	t.Helper()
	k, err := Generate()
	require.NoError(t, err)
	return k
}

// signer returns the kid that i signs with.
func signer(t *testing.T, i *Issuer) string {
	t.Helper()
	token, err := i.Sign(nil)
	require.NoError(t, err)
	return kidOf(t, token)
}

// TestTimeline follows a rotation by the clock, without a restart.
func TestTimeline(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	synctest.Test(t, func(t *testing.T) {
		i, err := Open(Config{URL: "http://gw", Path: dir, Ours: true})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { i.Run(ctx) })
		first := signer(t, i)
		require.Len(t, i.published(), 1)

		start := time.Now()
		added, err := Add(dir, ES384, start.Add(time.Minute))
		require.NoError(t, err)
		next := added.Key.ID()
		require.Equal(t, start.Add(time.Minute).UTC(), added.Begin)
		require.NotContains(t, string(i.JWKS()), next)
		require.NotContains(t, string(i.Discovery("")), ES384)
		time.Sleep(2 * time.Second)
		require.Contains(t, string(i.JWKS()), next, "published within two seconds")
		require.Contains(t, string(i.Discovery("")), `["ES256","ES384"]`)

		time.Sleep(time.Until(added.Begin.Add(-1)))
		require.Equal(t, first, signer(t, i))
		time.Sleep(time.Nanosecond)
		require.Equal(t, next, signer(t, i))
		require.Contains(t, string(i.JWKS()), first)

		stop() // it would read the folder 172,800 times
		running.Wait()
		i.Outlive(48 * time.Hour)
		i.Outlive(time.Hour) // less changes nothing
		time.Sleep(time.Until(added.Begin.Add(48*time.Hour + clockSkew - 1)))
		require.Contains(t, string(i.JWKS()), first)
		time.Sleep(time.Nanosecond)
		require.NotContains(t, string(i.JWKS()), first)
		require.Contains(t, string(i.JWKS()), next)
		require.NotContains(t, string(i.Discovery("")), ES256)
	})
}

// TestFolderFaults breaks a folder in every way while it is in use: what cannot
// be read changes nothing and is said once, what is deleted is withdrawn.
func TestFolderFaults(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.Mkdir(dir, 0o700))
	a, b := generated(t), generated(t)
	pathA, pathB := filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem")
	write(t, pathA, a, 0o440)
	write(t, pathB, b, 0o600)
	var warnings, infos logged
	i, err := Open(Config{URL: "http://gw", Path: dir, Logf: infos.warnf, Warnf: warnings.warnf})
	require.NoError(t, err)
	requireKeys := func(signs *Key, published ...*Key) {
		t.Helper()
		i.reload()
		i.reload()
		require.Equal(t, published, i.published())
		require.Equal(t, signs.ID(), signer(t, i))
	}
	requireWarned := func(parts ...string) {
		t.Helper()
		lines := warnings.take()
		require.Len(t, lines, 1)
		for _, part := range parts {
			require.Contains(t, lines[0], part)
		}
	}
	requireKeys(b, a, b)
	require.Empty(t, warnings.take())

	good, err := os.ReadFile(pathB)
	require.NoError(t, err)
	for n := 0; n < len(good)-40; n += 40 { // half-written, over a good one
		require.NoError(t, os.WriteFile(pathB, good[:n], 0o600))
		requireKeys(b, a, b)
	}
	for _, line := range warnings.take() {
		require.Contains(t, line, pathB)
		require.Contains(t, line, "the key it held stays in use")
	}
	require.NoError(t, os.WriteFile(pathB, good, 0o600))
	requireKeys(b, a, b)
	require.Empty(t, warnings.take())
	require.NoError(t, os.Chmod(pathB, 0o604))
	requireKeys(b, a, b)
	requireWarned(pathB, "mode 0604 lets everybody in", "stays in use")
	require.NoError(t, os.Chmod(pathB, 0o600))
	requireKeys(b, a, b)

	fresh := filepath.Join(dir, "c.pem") // half-written, and new
	require.NoError(t, os.WriteFile(fresh, good[:100], 0o600))
	requireKeys(b, a, b)
	requireWarned(fresh, "holds no PEM block", "the file is ignored")
	require.NoError(t, os.Remove(fresh))

	// What is left when a process dies between the temporary file and its name.
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".signing-key-123"), good, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".c.pem"), good, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("?"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "old.pem"), 0o755))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "d.pem")))
	requireKeys(b, a, b)
	require.Empty(t, warnings.take())

	moved := dir + ".moved"
	require.NoError(t, os.Rename(dir, moved))
	requireKeys(b, a, b)
	requireWarned(dir, "stay in use")
	require.NoError(t, os.Rename(moved, dir))
	requireKeys(b, a, b)

	// Deleted is withdrawn, the signing key too.
	require.NoError(t, os.Remove(pathB))
	requireKeys(a, a)
	requireWarned("b.pem", b.ID(), "deleted")
	require.Contains(t, strings.Join(infos.take(), "\n"), "signing key a.pem signs, key "+a.ID())
	require.NoError(t, os.Remove(pathA))
	i.reload()
	i.reload()
	require.Len(t, warnings.take(), 2)
	require.Equal(t, `{"keys":[]}`, string(i.JWKS()))
	require.Contains(t, string(i.Discovery("")), `"id_token_signing_alg_values_supported":[]`)
	_, err = i.Sign(nil)
	require.ErrorContains(t, err, "all signing keys have been deleted")
	require.NoFileExists(t, filepath.Join(dir, firstKey), "made up a key while running")
	write(t, pathA, a, 0o600)
	requireKeys(a, a)

	// Another key under the same name takes the place of the one before.
	require.NoError(t, os.WriteFile(pathA, good, 0o600))
	requireKeys(b, b)
}

// TestOpenRefuses: at a start, everything that is wrong is an error.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	open := func(dir string, ours bool) error {
		_, err := Open(Config{URL: "http://gw", Path: dir, Ours: ours})
		return err
	}
	dir := t.TempDir()
	require.ErrorContains(t, open(dir, false), "at least one file")
	require.ErrorContains(t, open(filepath.Join(dir, "nowhere"), false), "nowhere")
	write(t, filepath.Join(dir, "good.pem"), generated(t), 0o600)
	require.NoError(t, open(dir, false))
	require.NoError(t, open(dir, true))
	require.NoFileExists(t, filepath.Join(dir, firstKey))
	require.NoError(t, open(filepath.Join(dir, "good.pem"), false), "a file is as good as a folder")

	write(t, filepath.Join(dir, "open.pem"), generated(t), 0o644)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "half.pem"), []byte("-----BEGIN PRI"), 0o600))
	err := open(dir, false)
	require.ErrorContains(t, err, "open.pem: mode 0644 lets everybody in")
	require.ErrorContains(t, err, "half.pem: holds no PEM block")
	require.NoError(t, os.Remove(filepath.Join(dir, "half.pem")))
	require.NoError(t, os.Chmod(filepath.Join(dir, "open.pem"), 0o440))
	require.NoError(t, open(dir, false))
	require.ErrorContains(t, open(dir, true), "lets group or others in")

	require.NoError(t, os.Remove(filepath.Join(dir, "open.pem")))
	require.NoError(t, os.Chmod(dir, 0o770))
	require.ErrorContains(t, open(dir, true), "lets others add keys")
	_, err = Open(Config{URL: "gw", Path: dir})
	require.ErrorContains(t, err, "want an http or https URL")
}

// TestMountedFolder reads a folder as Kubernetes mounts secrets, through the
// swap that brings another key.
func TestMountedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777))
	a, b := generated(t), generated(t)
	mount := func(version string, keys map[string]*Key) {
		folder := filepath.Join(dir, version)
		require.NoError(t, os.Mkdir(folder, 0o755))
		for name, k := range keys {
			write(t, filepath.Join(folder, name), k, 0o440)
		}
		require.NoError(t, os.Symlink(version, filepath.Join(dir, "..new")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
		for name := range keys {
			if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
				require.ErrorIs(t, err, fs.ErrExist)
			}
		}
	}
	mount("..2026_1", map[string]*Key{"a.pem": a})
	i, err := Open(Config{URL: "http://gw", Path: dir})
	require.NoError(t, err)
	require.Equal(t, []*Key{a}, i.published())
	mount("..2026_2", map[string]*Key{"a.pem": a, "20200101T000000Z.pem": b})
	i.reload()
	require.Equal(t, b.ID(), signer(t, i))
}

// TestAdd: a key that is added replaces no other, and its time is rounded up, so
// that it signs no earlier than was asked.
func TestAdd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begin := time.Date(2026, 11, 22, 1, 36, 3, 1, time.FixedZone("", 3600))
	added, err := Add(dir, EdDSA, begin)
	require.NoError(t, err)
	require.Equal(t, "20261122T003604Z.pem", added.Name)
	before, err := os.ReadFile(filepath.Join(dir, added.Name))
	require.NoError(t, err)
	_, err = Add(dir, EdDSA, begin)
	require.ErrorIs(t, err, fs.ErrExist)
	after, err := os.ReadFile(filepath.Join(dir, added.Name))
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after))
	_, err = Add(dir, "RS256", begin)
	require.ErrorContains(t, err, "want ES256, ES384 or EdDSA")

	listed, err := List(dir, true, begin.Add(time.Hour), 0)
	require.NoError(t, err)
	added.State = Signing
	require.Equal(t, []Listed{added}, listed)
}

func TestList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	write(t, filepath.Join(dir, "first.pem"), generated(t), 0o600)
	for _, begin := range []time.Duration{-30 * time.Hour, -5 * time.Hour, time.Minute} {
		_, err := Add(dir, ES256, now.Add(begin))
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.pem"), nil, 0o600))
	for tokenLife, first := range map[time.Duration]State{0: Expired, 29 * time.Hour: Expired, 30 * time.Hour: Published} {
		listed, err := List(dir, true, now, tokenLife)
		require.ErrorContains(t, err, "bad.pem")
		var states []State
		for _, l := range listed {
			states = append(states, l.State)
		}
		require.Equal(t, []State{first, Published, Signing, Next}, states)
		require.Equal(t, now.Add(-30*time.Hour+max(tokenLife, 24*time.Hour)+clockSkew), listed[0].End)
		require.Zero(t, listed[3].End)
	}
}
