package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

func TestHour(t *testing.T) {
	t.Parallel()
	env := provider.Function{Namespace: "dev", Name: "env"}
	p := &inventory{}
	p.set(nil, env)
	g := New(Config{Provider: p, Log: zerolog.Nop()})
	for range 3 {
		g.metrics.functions.invoked(env).end(200)
	}
	g.metrics.functions.invoked(env).end(503)
	h := g.Hour(t.Context(), "dev", "env")
	require.Equal(t, []int{200, 503}, h.SortedCodes())
	var calls, timed float64
	for i, n := range h.Calls() {
		calls += n
		for _, n := range h.Buckets[i] {
			timed += n
		}
	}
	require.Equal(t, 4.0, calls)
	require.Equal(t, 4.0, timed)
	require.Positive(t, h.Overall(0.5))
	require.False(t, h.Everywhere)
	require.Empty(t, g.Hour(t.Context(), "dev", "other").Codes)
}

// TestHourOfPrometheus: without it, ours is shown; what it does is logged once.
func TestHourOfPrometheus(t *testing.T) {
	t.Parallel()
	env := provider.Function{Namespace: "dev", Name: "env"}
	var away atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"data":{"resultType":"matrix","result":[{"metric":{"function_name":"env.dev","code":"418"},"values":[[%s,"5"]]}]}}`, r.FormValue("end"))
	}))
	t.Cleanup(server.Close)
	p := &inventory{}
	p.set(nil, env)
	var logged strings.Builder
	g := New(Config{Provider: p, Log: zerolog.New(&logged), Prometheus: server.Listener.Addr().String()})
	g.metrics.functions.invoked(env).end(200)
	h := g.Hour(t.Context(), "dev", "env")
	require.Equal(t, []int{418}, h.SortedCodes())
	require.True(t, h.Everywhere)
	away.Store(true)
	for range 2 {
		h = g.Hour(t.Context(), "dev", "env")
		require.Equal(t, []int{200}, h.SortedCodes())
		require.False(t, h.Everywhere)
	}
	require.Equal(t, []int{200}, g.Hours(t.Context(), "dev")["env.dev"].SortedCodes())
	away.Store(false)
	require.False(t, g.Hour(t.Context(), "dev", "env").Everywhere, "it is given time")
	g.hours.until = time.Time{}
	require.True(t, g.Hours(t.Context(), "dev")["env.dev"].Everywhere)
	require.True(t, g.Hour(t.Context(), "dev", "env").Everywhere)
	require.Equal(t, 2, strings.Count(logged.String(), "\n"), "%s", logged.String())
	require.NotContains(t, logged.String(), "query=")
}
