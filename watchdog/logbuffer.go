package watchdog

import (
	"io"
	"sync"
	"time"
)

const (
	// logDelay is how long a line may wait for company.
	logDelay = 100 * time.Millisecond
	// logFlush is how many bytes may wait.
	logFlush = 32 << 10
)

// logBuffer collects log lines, so that under load many go out with one system
// call. The first line after a quiet moment goes out at once; those that follow
// wait for logDelay, or until logFlush bytes have come together. All streams go
// through one buffer, which keeps the order of their lines. A reader that is
// slow to take them slows down who writes them, as without a buffer.
type logBuffer struct {
	mu      sync.Mutex
	buf     []byte
	parts   []logPart
	timer   *time.Timer // runs while busy
	busy    bool        // lines have gone out less than logDelay ago
	through bool        // nothing waits any more
}

// logPart is where in the buffer a run of one stream's lines ends.
type logPart struct {
	to  *logStream
	end int
}

// logStream is one way out of a logBuffer.
type logStream struct {
	buffer *logBuffer
	out    io.Writer
}

// stream returns a writer whose lines reach out through b. It may be used by
// several goroutines; each Write must be of whole lines.
func (b *logBuffer) stream(out io.Writer) *logStream { return &logStream{b, out} }

// Write implements io.Writer. It never fails: there is nobody to tell.
func (s *logStream) Write(p []byte) (int, error) {
	b := s.buffer
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if n := len(b.parts); n > 0 && b.parts[n-1].to == s {
		b.parts[n-1].end = len(b.buf)
	} else {
		b.parts = append(b.parts, logPart{s, len(b.buf)})
	}
	if b.through || !b.busy || len(b.buf) >= logFlush {
		b.writeOut()
		b.wait()
	}
	return len(p), nil
}

// wait lets the lines that come now wait for logDelay.
func (b *logBuffer) wait() {
	switch {
	case b.busy || b.through:
	case b.timer == nil:
		b.timer = time.AfterFunc(logDelay, b.tick)
	default:
		b.timer.Reset(logDelay)
	}
	b.busy = true
}

func (b *logBuffer) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	if len(b.buf) > 0 {
		b.writeOut()
		b.wait()
	}
}

func (b *logBuffer) writeOut() {
	start := 0
	for _, part := range b.parts {
		part.to.out.Write(b.buf[start:part.end])
		start = part.end
	}
	b.buf, b.parts = b.buf[:0], b.parts[:0]
	if cap(b.buf) > 4*logFlush { // one long line
		b.buf = nil
	}
}

// Flush writes what waits, and has later lines wait no more: the process is
// about to end.
func (b *logBuffer) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.through = true
	b.writeOut()
}
