package main

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if play() {
		return
	}
	os.Exit(m.Run())
}

// Short, and on a machine that does other things: it shows that the benchmark
// works, and that no call costs a signature. The goal is the command's to check.
func TestAuth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	const absurd = 0.8
	for attempt := 1; ; attempt++ {
		results, err := compare(8, 150*time.Millisecond, 4, os.Stdout)
		require.NoError(t, err)
		require.Len(t, results, 2)
		worst := min(median(results[0].ratios()), median(results[1].ratios()))
		if worst >= absurd {
			return
		}
		require.Less(t, attempt, 3, "the worse ratio is %.3f", worst)
	}
}

func TestRatios(t *testing.T) {
	t.Parallel()
	require.Equal(t, []float64{0.5, 2}, result{with: []float64{1, 4}, open: []float64{2, 2}}.ratios())
}
