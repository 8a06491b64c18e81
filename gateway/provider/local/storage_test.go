package local

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"
)

func TestFailed(t *testing.T) {
	t.Parallel()
	for err, status := range map[error]int{
		syscall.ENOSPC: http.StatusInsufficientStorage,
		syscall.EDQUOT: http.StatusInsufficientStorage,
		syscall.EROFS:  http.StatusInternalServerError,
	} {
		got, message := refusal(t, failed(errors.Join(&os.PathError{Op: "write", Path: "/d/x", Err: err}), "function %s cannot be kept", "f.dev"))
		require.Equal(t, status, got)
		require.Equal(t, fmt.Sprintf("function f.dev cannot be kept: write /d/x: %s", err), message)
	}
}

// TestStorageFails: when the state cannot be written, nothing changes and every
// change says which file it was; calls and lists go on.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	m := newMachine(t, state)
	ctx := t.Context()
	require.NoError(t, m.CreateNamespace(ctx, types.FunctionNamespace{Name: "dev"}))
	require.NoError(t, m.CreateSecret(ctx, types.Secret{Name: "s", Namespace: "openfaas-fn", Value: "v"}))
	require.NoError(t, m.Deploy(ctx, shell("f", "echo one")))
	m.waitReplicas("f", 1)
	require.NoError(t, os.RemoveAll(state))

	for what, err := range map[string]error{
		"deploy":           m.Deploy(ctx, shell("g", "echo")),
		"update":           m.Update(ctx, shell("f", "echo two")),
		"scale":            m.Scale(ctx, fn("f"), 2),
		"delete":           m.Delete(ctx, fn("f")),
		"create namespace": m.CreateNamespace(ctx, types.FunctionNamespace{Name: "prod"}),
		"update namespace": m.UpdateNamespace(ctx, types.FunctionNamespace{Name: "dev", Labels: map[string]string{"a": "b"}}),
		"delete namespace": m.DeleteNamespace(ctx, "dev"),
	} {
		status, message := refusal(t, err)
		require.Equal(t, http.StatusInternalServerError, status, what)
		require.Contains(t, message, "cannot be ", what)
		require.Contains(t, message, state, what)
		require.True(t, strings.HasSuffix(message, ": no such file or directory"), message)
	}
	// A file in the place of the folder of secrets.
	require.NoError(t, os.Mkdir(state, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(state, "secrets"), nil, 0o600))
	err := m.CreateSecret(ctx, types.Secret{Name: "s", Namespace: "openfaas-fn", Value: "hunter2"})
	status, message := refusal(t, err)
	require.Equal(t, http.StatusInternalServerError, status)
	require.Contains(t, message, "secret s cannot be kept: mkdir ")
	require.NotContains(t, message, "hunter2")
	_, err = m.Secrets(ctx, "openfaas-fn")
	_, message = refusal(t, err)
	require.Contains(t, message, "not a directory")

	require.EqualValues(t, 1, m.status("f").Replicas)
	callStatus, body := m.call("f")
	require.Equal(t, http.StatusOK, callStatus)
	require.Equal(t, "one\n", body)
	functions, err := m.List(ctx, "")
	require.NoError(t, err)
	require.Len(t, functions, 1)
	namespaces, err := m.Namespaces(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"dev", "openfaas-fn"}, namespaces)
	dev, err := m.Namespace(ctx, "dev")
	require.NoError(t, err)
	require.Empty(t, dev.Labels)
}
