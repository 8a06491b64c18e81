package main

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/config"
)

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
