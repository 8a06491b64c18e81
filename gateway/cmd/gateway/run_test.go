package main

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// writes notes each write.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

// TestFunctionOutput: lines that come together are written together, and the next
// ones do not repeat them.
func TestFunctionOutput(t *testing.T) {
	t.Parallel()
	for json, want := range map[bool]writes{
		false: {"env | one\nenv | two\n", "env | three\n"},
		true: {
			`{"level":"info","function":"env.dev","message":"one"}` + "\n" + `{"level":"info","function":"env.dev","message":"two"}` + "\n",
			`{"level":"info","function":"env.dev","message":"three"}` + "\n",
		},
	} {
		var got, other writes
		f := provider.Function{Namespace: "dev", Name: "env"}
		output := functionOutput(&got, config.Gateway{LogJSON: json}, zerolog.New(&other))
		output(f, []string{"one", "two"})
		output(f, []string{"three"})
		require.Equal(t, want, got)
		require.Empty(t, other)
		output(f, []string{strings.Repeat("x", 2*maxBlock)})
		output(f, []string{"after"})
		require.Contains(t, got[3], "after")
		require.NotContains(t, got[3], "x")
	}
}

func TestWarnOfIgnored(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	settings, err := config.ParseGateway([]string{"async=true", "faas_nats_address=nats"})
	require.NoError(t, err)
	warnOfIgnored(settings, zerolog.New(&out))
	require.Equal(t, `{"level":"warn","message":"async, faas_nats_address: no effect, as async calls are not implemented in this release"}
`, out.String())
	out.Reset()
	warnOfIgnored(config.Gateway{}, zerolog.New(&out))
	require.Empty(t, out.String())
}
