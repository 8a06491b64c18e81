package jwks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func TestFileUnusable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	good := keySet(ec(t, "a"))
	write(t, path("good"), good)
	write(t, path("empty"), nil)
	write(t, path("half"), good[:len(good)/2])
	write(t, path("HTML"), []byte("<html>"))
	write(t, path("no keys"), []byte(`{"keys":[]}`))
	write(t, path("1 MiB"), append(good, strings.Repeat(" ", 1<<20-len(good))...))
	write(t, path("1 MiB and a byte"), append(good, strings.Repeat(" ", 1<<20-len(good)+1)...))
	require.NoError(t, os.Symlink("good", path("link")))
	require.NoError(t, os.Symlink("loop", path("loop")))
	require.NoError(t, syscall.Mkfifo(path("FIFO"), 0o600))
	for name, want := range map[string]string{
		"good":             "",
		"link":             "",
		"1 MiB":            "",
		"1 MiB and a byte": "longer than 1048576 bytes",
		"empty":            "not a JSON object",
		"half":             "not a JSON object",
		"HTML":             "not a JSON object",
		"no keys":          "no usable key",
		"missing":          "no such file",
		"loop":             "too many levels of symbolic links",
		"FIFO":             "not a regular file",
		".":                "not a regular file",
		"good/x":           "not a directory",
	} {
		got := failure(t, jwks.Config{File: path(name), Issuer: "https://issuer"})
		if want == "" {
			require.Empty(t, got, name)
			continue
		}
		require.Contains(t, got, want, name)
		if name != "no keys" {
			require.Equal(t, 1, strings.Count(got, path(name)), got)
		}
	}
}

// A file is treated as an issuer's answers are: last good keys, a log line per
// change, withdrawal, and a look at once when a token names a new key.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// As a ConfigMap is mounted: the file a link into a folder that is a
		// link, which is swapped.
		publish := func(version string, data []byte) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
			write(t, filepath.Join(dir, version, "keys.json"), data)
			require.NoError(t, os.Symlink(version, filepath.Join(dir, "..new")))
			require.NoError(t, os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
		}
		file := filepath.Join(dir, "keys.json")
		require.NoError(t, os.Symlink("..data/keys.json", file))

		var mu sync.Mutex
		var lines []string
		r, err := jwks.NewRemote(jwks.Config{File: file, Issuer: "https://issuer", Logf: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, fmt.Sprintf(format, args...))
		}})
		require.NoError(t, err)
		run(t, r)
		logged := func() string {
			mu.Lock()
			defer mu.Unlock()
			defer func() { lines = nil }()
			return strings.Join(lines, "\n")
		}
		require.False(t, r.Ready())
		require.Equal(t, "https://issuer", r.Issuer())
		require.Contains(t, logged(), file)

		a, b := ec(t, "a"), ec(t, "b")
		publish("1", keySet(a))
		time.Sleep(time.Second)
		require.True(t, r.Ready())
		keyA := mustKey(t, r, "a")
		require.Equal(t, "fetched 1 keys of issuer https://issuer", logged())

		publish("2", keySet(a, b))
		require.Equal(t, "b", mustKey(t, r, "b").ID())
		require.Same(t, keyA, mustKey(t, r, "a"))

		// Not swapped but written in place, and read half-way.
		write(t, file, keySet(b)[:40])
		time.Sleep(20 * time.Minute)
		require.Same(t, keyA, mustKey(t, r, "a"))
		require.False(t, keyA.Withdrawn())
		got := logged()
		require.Contains(t, got, file+": not a JSON object")
		require.Contains(t, got, "stay in use")
		require.NotContains(t, got, "\n", "one line")

		publish("3", keySet(b))
		require.NoError(t, r.Refetch(t.Context()))
		require.True(t, keyA.Withdrawn())
		require.NoError(t, os.Remove(file))
		require.ErrorContains(t, r.Refetch(t.Context()), "no such file")
		mustKey(t, r, "b")
		time.Sleep(25 * time.Hour)
		require.False(t, r.Ready())
	})
}
