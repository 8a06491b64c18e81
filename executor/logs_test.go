package executor

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLineSplitter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		max  int
		in   string
		want []string
	}{
		{10, "", nil},
		{10, "a\nb\r\n\nc", []string{"a", "b", "", "c"}},
		{3, "abcdefgh\nx\n", []string{"abc", "def", "gh", "x"}},
		{3, "abc\ndef\n", []string{"abc", "def"}}, // exactly full: no empty line
		{1, "ab\n\n", []string{"a", "b", ""}},
		{-1, strings.Repeat("x", 200_000) + "\n", []string{strings.Repeat("x", 200_000)}},
	} {
		for size := 1; size <= len(c.in) && size < 20 || size == 1; size++ { // however it arrives
			var got []string
			s := &lineSplitter{max: c.max, emit: func(l []byte) { got = append(got, string(l)) }}
			for rest := c.in; len(rest) > 0; {
				n := min(size, len(rest))
				s.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			s.flush()
			require.Equal(t, c.want, got, "max %d, %d bytes at once", c.max, size)
		}
	}
}

func FuzzLineSplitter(f *testing.F) {
	f.Add([]byte("a\nbc\r\n\n"), 3, 2)
	f.Add([]byte(strings.Repeat("x", 100)), 7, 50)
	f.Add([]byte("\r\r\n\r"), 1, 1)
	f.Add([]byte("\xde\n\xb0"), 47, 141) // one character, but for the line break
	f.Fuzz(func(t *testing.T, in []byte, limit, step int) {
		if limit == 0 || limit < -1 || step < 1 {
			return
		}
		var out []byte
		s := &lineSplitter{max: limit, emit: func(l []byte) {
			require.NotContains(t, string(l), "\n")
			require.True(t, limit < 0 || len(l) <= limit)
			out = append(out, l...)
		}}
		for rest := in; len(rest) > 0; {
			n := min(step, len(rest))
			s.Write(rest[:n])
			rest = rest[n:]
		}
		s.flush()
		// No byte but line breaks is lost.
		clean := func(b []byte) string { return strings.NewReplacer("\n", "", "\r", "").Replace(string(b)) }
		require.Equal(t, clean(in), clean(out))
	})
}

// lines is a writer that hands over what is written to it.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func TestCopyLogPrefix(t *testing.T) {
	t.Parallel()
	for _, prefixed := range []bool{true, false} {
		got := make(lines, 8)
		c := Config{PrefixLogs: prefixed}
		c.copyLog(got, "stderr", io.NopCloser(strings.NewReader("hello\nend")))
		close(got)
		for _, want := range []string{"hello\n", "end\n"} {
			line := <-got
			if prefixed {
				require.Regexp(t, `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d stderr: `+want+`$`, line)
			} else {
				require.Equal(t, want, line)
			}
		}
	}
}

// A function that never writes a line break must neither stop nor fill memory.
func TestCopyLogWithoutLineBreaks(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	var total, longest int
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := Config{}
		c.copyLog(writerFunc(func(p []byte) (int, error) {
			total += len(p) - 1
			longest = max(longest, len(p)-1)
			return len(p), nil
		}), "stdout", r)
	}()
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	w.SetWriteDeadline(time.Now().Add(time.Minute)) // copyLog must not stop reading
	for range 100 {
		_, err := w.Write(chunk)
		require.NoError(t, err)
	}
	w.Close()
	<-done
	require.Equal(t, 100<<20, total)
	require.Equal(t, 64<<10, longest)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
