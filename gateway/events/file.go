package events

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// File appends events to a file, one a line.
type File struct {
	// Path is opened for each batch, so that it can be moved away; a named pipe
	// without a reader is tried again.
	Path string

	turn sync.Mutex // outboxes that share a file must not undo each other's writes
	cut  bool       // a pipe's reader has got a part of a batch, which comes again
}

// fileTimeout bounds how long a pipe's reader may take for a batch.
const fileTimeout = 10 * time.Second

// Deliver implements Destination.
func (f *File) Deliver(_ context.Context, b Batch) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	file, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_ = file.SetWriteDeadline(time.Now().Add(fileTimeout)) // files that never block have none
	lines := b.Lines
	regular := info.Mode().IsRegular()
	if f.cut || regular && cutOff(f.Path, info.Size()) {
		lines = append([]byte("\n"), lines...)
	}
	n, err := file.Write(lines)
	f.cut = err != nil && !regular && (f.cut || n > 0)
	if err != nil && regular {
		err = errors.Join(err, file.Truncate(info.Size())) // the batch will come again
	}
	return errors.Join(err, file.Close())
}

// cutOff reports whether a file of size bytes has no newline at its end: a
// process was killed as it wrote a batch, which comes again. Its first event must not
// become the end of what was cut off.
func cutOff(path string, size int64) bool {
	if size == 0 {
		return false
	}
	file, err := os.Open(path)
	if err != nil {
		return false // we may write it, and not read it
	}
	defer file.Close()
	var last [1]byte
	_, err = file.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

// Stream writes events to what is open already, one a line: stdout.
type Stream struct {
	to   io.Writer
	turn chan struct{} // holds an element while somebody writes
	cut  bool          // a part of a batch has been written, which comes again; of whose turn it is
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
		lines := b.Lines
		if s.cut {
			lines = append([]byte("\n"), lines...)
		}
		n, err := s.to.Write(lines)
		s.cut = err != nil && (s.cut || n > 0)
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
