package events

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// segment is a file of the spool, with the events of one batch:
// <number>-<delivery id>.jsonl. As the batch is the file, a retry after a restart
// has the same events and the same ID; and nothing needs to be noted but that the
// file is gone when it has been delivered.
type segment struct {
	path, id string
	begun    time.Time
	size     int64
	events   int
	file     *os.File // nil = closed
	damaged  bool     // has lines that are no events; of who delivers it
}

var segmentName = regexp.MustCompile(`^([0-9]{16})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl$`)

// recover finds what is in the folder, and whether it can be written.
func (o *Outbox) recover() error {
	if err := os.MkdirAll(o.config.Dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(o.config.Dir, ".probe-")
	if err != nil {
		return err
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return err
	}
	entries, err := os.ReadDir(o.config.Dir) // by name, and so by number
	if err != nil {
		return err
	}
	for _, entry := range entries {
		parts := segmentName.FindStringSubmatch(entry.Name())
		if parts == nil || !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(o.config.Dir, entry.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		o.number, _ = strconv.ParseUint(parts[1], 10, 64)
		s := &segment{path: path, id: parts[2], size: int64(len(data)), events: bytes.Count(data, []byte("\n"))}
		o.closed = append(o.closed, s)
		o.bytes += s.size
	}
	if len(o.closed) > 0 {
		o.config.Logf("%d bytes of %s events are left from before, and will be delivered", o.bytes, o.config.Type)
	}
	return nil
}

// write appends a line to the active segment, all of it or nothing. o.mu is held.
func (o *Outbox) write(line []byte) error {
	err := o.tryWrite(line)
	if failed := err != nil; failed != o.failing {
		o.failing = failed
		if failed {
			o.config.Warnf("%s events cannot be kept: %v", o.config.Type, err)
		} else {
			o.config.Logf("%s events can be kept again", o.config.Type)
		}
	}
	if err == nil {
		o.metrics.queued.Inc()
	}
	return err
}

func (o *Outbox) tryWrite(line []byte) error {
	if o.active != nil && o.active.size+int64(len(line)) > o.config.BatchBytes {
		o.rotate()
	}
	if o.active == nil {
		if err := o.open(); err != nil {
			return err
		}
	}
	s := o.active
	if _, err := s.file.Write(line); err != nil {
		// A part of it may be there. Where that cannot be undone, nothing follows it.
		if s.file.Truncate(s.size) != nil || s.size == 0 {
			o.rotate()
		}
		return err
	}
	s.size += int64(len(line))
	s.events++
	o.bytes += int64(len(line))
	if s.events >= o.config.BatchEvents || s.size >= o.config.BatchBytes {
		o.rotate()
	}
	if s.events == 1 || o.active == nil {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (o *Outbox) open() error {
	id := uuid.NewString()
	path := filepath.Join(o.config.Dir, fmt.Sprintf("%016d-%s.jsonl", o.number+1, id))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	o.number++
	o.active = &segment{path: path, id: id, begun: time.Now(), file: file}
	return nil
}

// rotate closes the active segment, for delivery. o.mu is held.
func (o *Outbox) rotate() {
	s := o.active
	if s == nil {
		return
	}
	o.active = nil
	_ = s.file.Close()
	s.file = nil
	if s.events == 0 {
		_ = os.Remove(s.path)
		return
	}
	o.closed = append(o.closed, s)
}

// writePending writes what could not be written before. o.mu is held.
func (o *Outbox) writePending() error {
	for len(o.pending) > 0 {
		if err := o.write(o.pending[0]); err != nil {
			return err
		}
		o.pending = o.pending[1:]
	}
	return nil
}

// makeRoom drops the oldest batches until n bytes more are within the bound. The
// one that is being delivered is no exception: it may be one that the destination
// never takes. o.mu is held.
func (o *Outbox) makeRoom(n int64) {
	if o.bytes+n <= o.config.MaxBytes {
		if o.full && o.bytes <= o.config.MaxBytes/2 {
			o.full = false
		}
		return
	}
	if !o.full {
		o.full = true // until it is half empty, it is said once
		o.config.Warnf("the spool of %s events has %d bytes: the oldest are dropped", o.config.Type, o.bytes)
	}
	for o.bytes+n > o.config.MaxBytes {
		if len(o.closed) == 0 {
			o.rotate()
		}
		s := o.first()
		if s == nil {
			return
		}
		o.remove(s)
		_ = os.Remove(s.path)
		o.metrics.dropped.Add(float64(s.events))
	}
}

// first returns the oldest batch; nil = there is none. o.mu is held.
func (o *Outbox) first() *segment {
	if len(o.closed) == 0 {
		return nil
	}
	return o.closed[0]
}

// forget takes s off the queue, and reports whether it was there.
func (o *Outbox) forget(s *segment) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first() != s {
		return false
	}
	o.remove(s)
	return true
}

// remove takes s, the oldest, off the queue. o.mu is held.
func (o *Outbox) remove(s *segment) {
	o.closed[0] = nil
	o.closed = o.closed[1:]
	o.bytes -= s.size
}

// size returns the bytes that wait.
func (o *Outbox) size() float64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return float64(o.bytes)
}
