package local

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// cgroups makes what looks like a cgroup file system with one group in it.
func cgroups(t *testing.T, controllers, members string) (root string) {
	t.Helper()
	root = t.TempDir()
	dir := filepath.Join(root, "unit")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte(controllers), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(members), 0o600))
	return root
}

// The files are right; whether the kernel then enforces the limit, .ci/cgroups
// says: that takes a cgroup of one's own.
func TestLimiter(t *testing.T) {
	t.Parallel()
	const pid = 4711
	own := []byte("1:name=systemd:/other\n0::/unit\n")
	root := cgroups(t, "cpu memory pids\n", "4711\n")
	dir, err := divide(root, own, pid)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "unit"), dir)
	moved, err := os.ReadFile(filepath.Join(dir, "gateway", "cgroup.procs"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(pid), string(moved))
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	require.NoError(t, err)
	require.Equal(t, "+memory", string(enabled))

	l := &limiter{dir: dir}
	l.once.Do(func() {})
	g, err := l.group("f-1", 64<<20, zerolog.Nop(), "f")
	require.NoError(t, err)
	limit, err := os.ReadFile(filepath.Join(dir, "function-f-1", "memory.max"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(64<<20), string(limit))
	g.dir.Close()
	none, err := l.group("f-2", 0, zerolog.Nop(), "f")
	require.NoError(t, err)
	require.Nil(t, none)

	for name, c := range map[string]struct{ controllers, members, says string }{
		"no memory":    {"cpu", "4711\n", "memory controller"},
		"not alone":    {"memory", "4711\n4712\n", "other processes"},
		"somebody":     {"memory", "12\n", "other processes"},
		"no v2 at all": {"", "", "memory controller"},
	} {
		_, err := divide(cgroups(t, c.controllers, c.members), own, pid)
		require.ErrorContains(t, err, c.says, name)
	}
	_, err = divide(root, []byte("1:memory:/unit\n"), pid)
	require.Error(t, err)
}

func TestLimitThatCannotBeEnforced(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	l := &limiter{reason: os.ErrPermission}
	l.once.Do(func() {})
	for range 3 {
		g, err := l.group("f-1", 1<<20, zerolog.New(&log), "f")
		require.NoError(t, err)
		require.Nil(t, g)
	}
	require.Regexp(t, `^\{[^\n]*not enforced[^\n]*\}\n$`, log.String(), "told once")
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) b) (c) S 3 12 12 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 99 1000 7 184"))
	f.Add([]byte("1 (x"))
	f.Add([]byte("1 ) ("))
	f.Fuzz(func(t *testing.T, data []byte) {
		pid, parent, c, ok := parseStat(data)
		if ok && (pid < 0 || parent < 0 || pid == parent) {
			t.Fatal(pid, parent, c)
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	pid, parent, c, ok := parseStat([]byte("12 (a) b) (c) S 3 12 12 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 99 1000 7 184"))
	require.True(t, ok)
	require.Equal(t, 12, pid)
	require.Equal(t, 3, parent)
	require.Equal(t, 2*time.Second, c.cpu)
	require.Equal(t, uint64(7*os.Getpagesize()), c.memory)
}
