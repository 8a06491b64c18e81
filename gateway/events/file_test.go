package events

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFile(t *testing.T) {
	t.Parallel()
	f := &File{Path: filepath.Join(t.TempDir(), "events.jsonl")}
	b := batch(t, 3)
	for range 2 {
		require.NoError(t, f.Deliver(t.Context(), b))
	}
	got, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	require.Equal(t, string(b.Lines)+string(b.Lines), string(got))
	require.NoError(t, os.Rename(f.Path, f.Path+".1"))
	require.NoError(t, f.Deliver(t.Context(), b))
	got, err = os.ReadFile(f.Path)
	require.NoError(t, err)
	require.Equal(t, string(b.Lines), string(got), "a log rotator has moved the first away")

	require.ErrorIs(t, (&File{Path: t.TempDir()}).Deliver(t.Context(), b), syscall.EISDIR)
	require.ErrorIs(t, (&File{Path: filepath.Join(t.TempDir(), "no", "folder")}).Deliver(t.Context(), b), os.ErrNotExist)
}

// TestPipe: nobody waits for a pipe's reader.
func TestPipe(t *testing.T) {
	t.Parallel()
	f := &File{Path: filepath.Join(t.TempDir(), "pipe")}
	require.NoError(t, syscall.Mkfifo(f.Path, 0o600))
	b := batch(t, 3)
	require.ErrorIs(t, f.Deliver(t.Context(), b), syscall.ENXIO)
	reader, err := os.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	require.NoError(t, f.Deliver(t.Context(), b))
	got := make([]byte, len(b.Lines))
	_, err = io.ReadFull(reader, got)
	require.NoError(t, err)
	require.Equal(t, string(b.Lines), string(got))
}

func TestStream(t *testing.T) {
	t.Parallel()
	reader, writer := io.Pipe()
	s := NewStream(writer)
	b := batch(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Deliver(ctx, b), context.DeadlineExceeded)
	require.ErrorIs(t, s.Deliver(ctx, b), context.DeadlineExceeded, "the first is still being written")
	got := make([]byte, 2*len(b.Lines))
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(reader, got)
		read <- err
	}()
	require.NoError(t, s.Deliver(t.Context(), b))
	require.NoError(t, <-read)
	require.Equal(t, string(b.Lines)+string(b.Lines), string(got), "whole, one after the other")
	require.NoError(t, reader.CloseWithError(errors.New("gone")))
	require.EqualError(t, s.Deliver(t.Context(), b), "gone")
}
