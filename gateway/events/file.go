package events

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// File appends events to a file, one a line.
type File struct {
	// Path is opened for each batch, so that it can be moved away; a named pipe
	// without a reader is tried again.
	Path string
}

// fileTimeout bounds how long a pipe's reader may take for a batch.
const fileTimeout = 10 * time.Second

// Deliver implements Destination.
func (f *File) Deliver(_ context.Context, b Batch) error {
	file, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_ = file.SetWriteDeadline(time.Now().Add(fileTimeout)) // files that never block have none
	_, err = file.Write(b.Lines)
	if err != nil && info.Mode().IsRegular() {
		err = errors.Join(err, file.Truncate(info.Size())) // the batch will come again
	}
	return errors.Join(err, file.Close())
}

// Stream writes events to what is open already, one a line: stdout.
type Stream struct {
	to   io.Writer
	turn chan struct{} // holds an element while somebody writes
}

// NewStream returns a stream to w.
func NewStream(w io.Writer) *Stream { return &Stream{to: w, turn: make(chan struct{}, 1)} }

// Deliver implements Destination. It waits for as long as the reader takes, or
// until ctx ends; what is written then goes on.
func (s *Stream) Deliver(ctx context.Context, b Batch) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.to.Write(b.Lines)
		<-s.turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
