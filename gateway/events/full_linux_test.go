package events

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk mounts a file system of 64 KiB, which takes root.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, keepAll := range []bool{false, true} {
		dir, to := filepath.Join(smallDisk(t), "spool"), &receiver{refuse: errors.New("down")}
		o, log := open(t, dir, to, func(c *Config) { c.KeepAll = keepAll })
		n := int64(0)
		for ; n < 1000 && o.Append(usage(n)) == nil; n++ {
		}
		require.Less(t, n, int64(1000))
		require.Error(t, o.Append(usage(n+1)))
		require.Equal(t, 1, strings.Count(log.String(), "cannot be kept: "), log)
		require.Contains(t, log.String(), "no space left on device")
		if keepAll {
			require.ErrorIs(t, o.Ready(), syscall.ENOSPC)
		} else {
			require.NoError(t, o.Ready())
		}
		if keepAll {
			n += 2 // those that wait in memory
		}
		to.set(nil)
		stop := run(t, o)
		require.Eventually(t, func() bool { return len(to.numbers(t)) >= int(n) }, patience, time.Millisecond)
		require.NoError(t, o.Ready())
		stop()
		require.Equal(t, upTo(n), to.numbers(t))
		require.Zero(t, counted(t, o)["damaged"], "what was written of an event was taken back")
	}
}

// TestFileOnFullDisk: a batch that does not fit leaves no half line.
func TestFileOnFullDisk(t *testing.T) {
	t.Parallel()
	f := &File{Path: filepath.Join(smallDisk(t), "events.jsonl")}
	require.ErrorIs(t, f.Deliver(t.Context(), batch(t, 1000)), syscall.ENOSPC)
	info, err := os.Stat(f.Path)
	require.NoError(t, err)
	require.Zero(t, info.Size())
}
