package local

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"
)

// TestDiskFull has the state on a file system of 64 KiB, which takes root.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small file system: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(state, syscall.MNT_DETACH)) })
	m := newMachine(t, state)
	secret := types.Secret{Name: "big", Namespace: "openfaas-fn", Value: strings.Repeat("x", 200<<10)}
	status, message := refusal(t, m.CreateSecret(t.Context(), secret))
	require.Equal(t, http.StatusInsufficientStorage, status)
	require.Regexp(t, `^secret big cannot be kept: write `+state+`/secrets/openfaas-fn/\S+: no space left on device$`, message)
	secrets, err := m.Secrets(t.Context(), "openfaas-fn")
	require.NoError(t, err)
	require.Empty(t, secrets)
	leftovers, err := os.ReadDir(filepath.Join(state, "secrets", "openfaas-fn"))
	require.NoError(t, err)
	require.Empty(t, leftovers, "what was written of it is gone")

	require.NoError(t, os.WriteFile(filepath.Join(state, "filler"), nil, 0o600))
	filler, err := os.OpenFile(filepath.Join(state, "filler"), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer filler.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = filler.Write(page)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	status, message = refusal(t, m.Deploy(t.Context(), shell("f", "echo")))
	require.Equal(t, http.StatusInsufficientStorage, status)
	require.Contains(t, message, "function f.openfaas-fn cannot be kept: ")
	require.NoError(t, filler.Truncate(0))
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo")), "with room again it goes on")
	m.waitReplicas("f", 1)
}
