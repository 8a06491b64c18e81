package executor

import (
	"bytes"
	"io"
	"log"
)

// copyLog copies the function's output from r, the stream called name, to dst
// line by line until it ends. It keeps reading whatever the lines look like:
// a full pipe would stop the function.
func (c Config) copyLog(dst io.Writer, name string, r io.ReadCloser) {
	defer r.Close()
	prefix, flags := "", 0
	if c.PrefixLogs {
		prefix, flags = name+": ", log.LstdFlags|log.Lmsgprefix
	}
	logger := log.New(dst, prefix, flags)
	lines := &lineSplitter{max: c.MaxLine, emit: func(line []byte) { logger.Output(0, string(line)) }}
	if lines.max == 0 {
		lines.max = 64 << 10
	}
	io.CopyBuffer(lines, struct{ io.Reader }{r}, make([]byte, 8<<10))
	lines.flush()
}

// lineSplitter calls emit for each line written to it, without its line break.
// A line of more than max bytes is emitted in pieces; max < 0 = unlimited.
type lineSplitter struct {
	max  int
	emit func(line []byte)
	rest []byte // the begin of a line; never as long as max
}

// Write implements io.Writer. It never fails.
func (s *lineSplitter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		line, after, whole := bytes.Cut(p, []byte{'\n'})
		if room := s.max - len(s.rest); s.max > 0 && len(line) > room {
			line, after, whole = p[:room], p[room:], false
		}
		p = after
		s.rest = append(s.rest, line...)
		if whole || s.max > 0 && len(s.rest) == s.max && len(p) > 0 && p[0] != '\n' {
			s.emitRest()
		}
	}
	return written, nil
}

// flush emits a last line that has no line break.
func (s *lineSplitter) flush() {
	if len(s.rest) > 0 {
		s.emitRest()
	}
}

func (s *lineSplitter) emitRest() {
	s.emit(bytes.TrimSuffix(s.rest, []byte{'\r'}))
	s.rest = s.rest[:0]
}
