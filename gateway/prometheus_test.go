package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// vector is Prometheus' answer to an instant query, as its documentation has it.
func vector(samples ...string) string {
	var b strings.Builder
	for i := 0; i < len(samples); i += 2 {
		fmt.Fprintf(&b, `,{"metric":{"function_name":%q},"value":[1435781451.781,%q]}`, samples[i], samples[i+1])
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.TrimPrefix(b.String(), ",") + `]}}`
}

// fakePrometheus answers with what is in status and body.
type fakePrometheus struct {
	address string
	asked   atomic.Int32
	status  atomic.Int32
	body    atomic.Value
	hold    chan struct{} // nil = answer at once
}

func newFakePrometheus(t *testing.T, hold chan struct{}) *fakePrometheus {
	t.Helper()
	p := &fakePrometheus{hold: hold}
	p.status.Store(200)
	p.body.Store(vector())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if r.URL.Path != "/api/v1/query" || r.URL.Query().Get("query") != "sum by (function_name) (gateway_function_invocation_total)" {
			t.Errorf("asked for %s", r.URL)
		}
		if p.hold != nil {
			select {
			case <-p.hold:
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(p.status.Load()))
		fmt.Fprint(w, p.body.Load())
	}))
	t.Cleanup(server.Close)
	p.address = strings.TrimPrefix(server.URL, "http://")
	return p
}

// expire has the next look ask again.
func (c *counts) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
}

func (c *counts) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asking == nil
}

func TestInvocationsFromPrometheus(t *testing.T) {
	t.Parallel()
	p := newFakePrometheus(t, nil)
	p.body.Store(vector("env.dev", "12", "gone.dev", "7", "cows.prod", "3", "", "9"))
	a := newAPI(t, func(c *Config) { c.Prometheus = p.address })
	a.gateway.counts.client.Timeout = 20 * time.Second // this machine may be slow
	cows := func() float64 { return a.gateway.metrics.functions.invocations(mustFunction(t, a.gateway, "cows.dev")) }
	a.gateway.metrics.functions.invoked(mustFunction(t, a.gateway, "cows.dev")).end(200)
	list := func() map[string]float64 {
		status, answer := a.send(t, "GET", "/system/functions?namespace=dev", asAdmin, "")
		require.Equal(t, 200, status, answer)
		var functions []types.FunctionStatus
		require.NoError(t, json.Unmarshal([]byte(answer), &functions))
		counted := map[string]float64{}
		for _, f := range functions {
			counted[f.Name] = f.InvocationCount
		}
		return counted
	}
	require.Equal(t, map[string]float64{"env": 12, "cows": 0}, list(), "those that are there, with Prometheus' numbers alone")
	_, answer := a.send(t, "GET", "/system/function/env?namespace=dev", asAdmin, "")
	require.Contains(t, answer, `"invocationCount":12`)
	require.EqualValues(t, 1, p.asked.Load(), "an answer is good for a while")

	p.status.Store(503)
	a.gateway.counts.expire()
	require.Equal(t, map[string]float64{"env": 0, "cows": cows()}, list(), "our own")
	require.EqualValues(t, 1, cows())
	for range 2 {
		a.gateway.counts.expire()
		require.Equal(t, map[string]float64{"env": 0, "cows": 1}, list())
		require.Eventually(t, a.gateway.counts.settled, 10*time.Second, time.Millisecond)
	}
	require.Equal(t, 1, strings.Count(a.log.String(), "503 Service Unavailable, want 200 OK; invocations are those of this gateway"))

	p.status.Store(200)
	a.gateway.counts.expire()
	list() // asks, and does not wait
	require.Eventually(t, a.gateway.counts.settled, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 12, list()["env"])
	require.Contains(t, a.log.String(), "answers again")
}

// TestPrometheusAnswersLate: all who look at one time ask once, wait as long as
// is allowed, and not at all as long as it stays so.
func TestPrometheusAnswersLate(t *testing.T) {
	t.Parallel()
	p := newFakePrometheus(t, make(chan struct{}))
	c := newCounts(p.address, zerolog.Nop())
	started := time.Now()
	var lookers sync.WaitGroup
	for range 20 {
		lookers.Go(func() {
			if c.get() != nil {
				t.Error("counts without an answer")
			}
		})
	}
	lookers.Wait()
	require.WithinRange(t, time.Now(), started.Add(countsWait), started.Add(5*countsWait))
	require.EqualValues(t, 1, p.asked.Load())
	c.expire()
	started = time.Now()
	require.Nil(t, c.get())
	require.Less(t, time.Since(started), countsWait)

	close(p.hold)
	p.body.Store(vector("env.dev", "1"))
	require.Eventually(t, func() bool {
		c.expire()
		return c.get() != nil
	}, 10*time.Second, 10*time.Millisecond)
}

// TestPrometheusAway: nobody listens there, or somebody else does.
func TestPrometheusAway(t *testing.T) {
	t.Parallel()
	require.Nil(t, newCounts("127.0.0.1:1", zerolog.Nop()).get())
	p := newFakePrometheus(t, nil)
	p.body.Store("<html>")
	require.Nil(t, newCounts(p.address, zerolog.Nop()).get())
	p.body.Store(strings.Repeat(" ", maxCounts) + vector())
	c := newCounts(p.address, zerolog.Nop())
	c.client.Timeout = 20 * time.Second // this machine may be slow
	_, err := c.fetch()
	require.ErrorContains(t, err, "more than 4194304 bytes")
}

func TestParseCounts(t *testing.T) {
	t.Parallel()
	counted, err := parseCounts([]byte(vector("a.b", "1e3", "nan.b", "NaN", "inf.b", "+Inf", "less.b", "-1", "text.b", "x", "", "2")))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a.b": 1000, "": 2}, counted)
	for _, bad := range []string{
		"", "[]", `{"status":"error","errorType":"bad_data","error":"parse error"}`,
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`,
		`{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"1"]}}`,
		`{"status":"success","data":{"resultType":"vector","result":[{"value":7}]}}`,
	} {
		_, err := parseCounts([]byte(bad))
		require.Error(t, err, bad)
	}
	counted, err = parseCounts([]byte(`{"data":{"resultType":"vector","result":[{"metric":{"function_name":"a"},"value":["1"]},{"value":[1,2]}]}}`))
	require.NoError(t, err)
	require.Empty(t, counted)
}

func FuzzParseCounts(f *testing.F) {
	f.Add(vector("a.b", "1", "c.d", "NaN"))
	f.Add(`{"status":"error"}`)
	f.Fuzz(func(t *testing.T, body string) {
		counted, err := parseCounts([]byte(body))
		if (err == nil) != (counted != nil) {
			t.Fatalf("%v and %v", counted, err)
		}
		for name, n := range counted {
			if math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
				t.Fatalf("%q: %v", name, n)
			}
		}
	})
}

func mustFunction(t *testing.T, g *Gateway, name string) provider.Function {
	t.Helper()
	f, ok := g.functionName([]byte(name))
	require.True(t, ok, name)
	return f
}
