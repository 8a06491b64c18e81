package watchdog

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// writeCounter counts the writes that reach it.
type writeCounter struct {
	mu sync.Mutex
	n  int
	b  strings.Builder
}

func (c *writeCounter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.b.Write(p)
}

func (c *writeCounter) writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *writeCounter) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}

func TestLogBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b logBuffer
		var out writeCounter
		s := b.stream(&out)
		fmt.Fprintln(s, "first")
		require.Equal(t, "first\n", out.text(), "at once")
		fmt.Fprintln(s, "second")
		fmt.Fprintln(s, "third")
		time.Sleep(logDelay - time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 1, out.writes())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 2, out.writes())
		require.Equal(t, "first\nsecond\nthird\n", out.text())

		fmt.Fprintln(s, "still busy")
		require.Equal(t, 2, out.writes())
		time.Sleep(3 * logDelay)
		synctest.Wait()
		fmt.Fprintln(s, "quiet again")
		require.Equal(t, 4, out.writes())

		fmt.Fprint(s, strings.Repeat("x", logFlush))
		require.Equal(t, 5, out.writes(), "so much does not wait")

		fmt.Fprintln(s, "last")
		b.Flush()
		fmt.Fprintln(s, "too late to wait")
		require.Equal(t, 7, out.writes())
		require.True(t, strings.HasSuffix(out.text(), "last\ntoo late to wait\n"))
	})
}

// The streams' lines stay in order where both lead to the same place.
func TestLogBufferOrder(t *testing.T) {
	t.Parallel()
	var b logBuffer
	var out writeCounter
	var want strings.Builder
	one, two := b.stream(&out), b.stream(&out)
	for i := range 1000 {
		s := one
		if i%3 == 0 {
			s = two
		}
		fmt.Fprintf(s, "line %d\n", i)
		fmt.Fprintf(&want, "line %d\n", i)
	}
	b.Flush()
	require.Equal(t, want.String(), out.text())
}

// Under load a system call serves many lines, and none is lost or broken.
func TestLogBufferUnderLoad(t *testing.T) {
	t.Parallel()
	var b logBuffer
	var out writeCounter
	s := b.stream(&out)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 5000 {
				fmt.Fprintf(s, "2024/04/25 17:29:58 GET /%d/%d - 200 OK - ContentLength: 39B (0.0037s)\n", g, i)
			}
		})
	}
	all.Wait()
	b.Flush()
	require.Equal(t, 40_000, strings.Count(out.text(), "s)\n"))
	require.Less(t, out.writes(), 40_000/200)
}
