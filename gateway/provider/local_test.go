package provider_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/gateway/provider/local"
	"github.com/gatehound/gatehound/watchdog"
)

// TestMain lets the test binary stand in for the gateway's, which is fwatchdog
// under that name, and for a faas-provider.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "fwatchdog":
		os.Exit(watchdog.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	case faasName:
		serveFaas(os.Args[1], os.Args[2])
		return
	}
	os.Exit(m.Run())
}

func TestLocalConformance(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) provider.Provider {
		executable, err := os.Executable()
		require.NoError(t, err)
		run, err := os.MkdirTemp("", "local-") // short, for the sockets
		require.NoError(t, err)
		p, err := local.Open(local.Config{
			Executable: executable, StateDir: t.TempDir(), RunDir: run,
			Path: os.Getenv("PATH"), Authority: "http://127.0.0.1:1", DefaultNamespace: "openfaas-fn",
			Log: zerolog.Nop(), Output: func(provider.Function, []string) {},
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-ended
			left, err := os.ReadDir(run)
			require.NoError(t, err)
			for _, e := range left {
				files, _ := filepath.Glob(filepath.Join(run, e.Name(), "*", "*"))
				require.Empty(t, files, "sockets of replicas are left")
			}
			require.NoError(t, os.RemoveAll(run))
		})
		return p
	})
}
