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

// TestFileAfterKill: what was cut off does not spoil the event that comes after it.
func TestFileAfterKill(t *testing.T) {
	t.Parallel()
	f, b := &File{Path: filepath.Join(t.TempDir(), "events.jsonl")}, batch(t, 3)
	cut := b.Lines[:len(b.Lines)-7]
	require.NoError(t, os.WriteFile(f.Path, cut, 0o600))
	for range 2 {
		require.NoError(t, f.Deliver(t.Context(), b))
	}
	got, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	require.Equal(t, string(cut)+"\n"+string(b.Lines)+string(b.Lines), string(got))
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

// shortWriter has room for some bytes, and after that for as many as it takes.
type shortWriter struct {
	room int
	got  []byte
}

func (w *shortWriter) Write(p []byte) (int, error) {
	if n := w.room; n > 0 {
		w.room = 0
		w.got = append(w.got, p[:n]...)
		return n, syscall.ENOSPC
	}
	w.got = append(w.got, p...)
	return len(p), nil
}

// TestStreamCutOff: stdout is a file on a disk that was full.
func TestStreamCutOff(t *testing.T) {
	t.Parallel()
	b, w := batch(t, 3), &shortWriter{room: 7}
	s := NewStream(w)
	require.ErrorIs(t, s.Deliver(t.Context(), b), syscall.ENOSPC)
	for range 2 {
		require.NoError(t, s.Deliver(t.Context(), b))
	}
	require.Equal(t, string(b.Lines[:7])+"\n"+string(b.Lines)+string(b.Lines), string(w.got))
}

// TestPipeCutOff: a pipe's reader goes away in the middle of a batch.
func TestPipeCutOff(t *testing.T) {
	t.Parallel()
	f, b := &File{Path: filepath.Join(t.TempDir(), "pipe")}, batch(t, 3000) // more than a pipe holds
	require.NoError(t, syscall.Mkfifo(f.Path, 0o600))
	open := func() *os.File {
		reader, err := os.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		require.NoError(t, err)
		return reader
	}
	read := func(reader *os.File, n int) []byte {
		got := make([]byte, n)
		require.Eventually(t, func() bool { // until there is a writer, it is at its end
			_, err := io.ReadFull(reader, got)
			return err == nil
		}, patience, time.Millisecond)
		return got
	}
	reader, done := open(), make(chan error, 1)
	go func() { done <- f.Deliver(t.Context(), b) }()
	read(reader, 1)
	require.NoError(t, reader.Close())
	require.ErrorIs(t, <-done, syscall.EPIPE)

	reader = open()
	defer reader.Close()
	go func() { done <- f.Deliver(t.Context(), b) }()
	require.Equal(t, "\n"+string(b.Lines), string(read(reader, 1+len(b.Lines))))
	require.NoError(t, <-done)
}
