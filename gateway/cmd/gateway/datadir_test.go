package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenDataDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	unlock, err := openDataDir(dir)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	_, err = openDataDir(dir)
	require.ErrorContains(t, err, "in use by another gateway")
	unlock()
	unlock, err = openDataDir(dir)
	require.NoError(t, err)
	unlock()
}

// TestOpenDataDirOfOthers: another user of the machine may have been there
// before us.
func TestOpenDataDirOfOthers(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o777, 0o1777, 0o770, 0o702} {
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, mode))
		_, err := openDataDir(dir)
		require.ErrorContains(t, err, "lets others write", "%o", mode)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries, "%o", mode)
	}
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		require.NoError(t, os.Chown(dir, 12345, 12345))
		_, err := openDataDir(dir)
		require.ErrorContains(t, err, "12345")
	}
}

// TestOpenDataDirFollowsNoLink: a link left in the folder is replaced, and what
// it points at stays.
func TestOpenDataDirFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(precious, filepath.Join(dir, ".gitignore")))
	unlock, err := openDataDir(dir)
	require.NoError(t, err)
	unlock()
	data, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "precious", string(data))
}
