package main

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(functionVariable); socket != "" {
		serveFunction(socket)
		return
	}
	os.Exit(m.Run())
}

func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	require.NoError(t, soak(10*time.Second, os.Stdout))
}

// TestVerdict: a soak that cannot fail would prove nothing.
func TestVerdict(t *testing.T) {
	t.Parallel()
	for name, leak := range map[string]func(s *sample, i int){
		"memory":      func(s *sample, i int) { s.rss += i * 1024 },
		"descriptors": func(s *sample, i int) { s.descriptors += i },
		"threads":     func(s *sample, i int) { s.threads += i },
		"processes":   func(s *sample, i int) { s.children = 1 },
	} {
		steady := sample{rss: 20 << 10, descriptors: 10, threads: 8}
		x := &target{idle: steady}
		for i := range 100 {
			s := steady
			leak(&s, i)
			x.samples = append(x.samples, s)
		}
		require.ErrorContains(t, x.verdict(), name)
	}
}
