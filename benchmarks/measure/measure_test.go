package measure_test

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	require.Equal(t, 2.5, measure.Quantile(values, 0.5))
	require.Equal(t, 1.75, measure.Quantile(values, 0.25))
	require.Equal(t, 4.0, measure.Quantile(values, 1))
	require.Equal(t, 7.0, measure.Quantile([]float64{7}, 0.5))
}

func TestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	before, err := measure.CPU(os.Getpid())
	require.NoError(t, err)
	for begin := time.Now(); ; {
		used, err := measure.CPU(os.Getpid())
		require.NoError(t, err)
		if used > before+20*time.Millisecond {
			break
		}
		require.Less(t, time.Since(begin), 30*time.Second, "a busy loop uses no CPU time")
	}
	threads, err := measure.Status(os.Getpid(), "Threads")
	require.NoError(t, err)
	require.Positive(t, threads)
	_, err = measure.Status(os.Getpid(), "Nothing")
	require.ErrorContains(t, err, "no Nothing")
}
