package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/openfaas/faas-provider/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// inventory is a provider that has these functions, and does not list those in
// the namespace "hidden".
type inventory struct {
	provider.Provider // nil: nothing else is asked
	mu                sync.Mutex
	functions         []provider.Function
	fail              error
}

func (p *inventory) List(context.Context, string) (all []types.FunctionStatus, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.functions {
		if f.Namespace != "hidden" {
			all = append(all, types.FunctionStatus{Name: f.Name, Namespace: f.Namespace, Replicas: 2})
		}
	}
	return all, p.fail
}

func (p *inventory) Status(_ context.Context, f provider.Function, _ bool) (types.FunctionStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.fail != nil:
		return types.FunctionStatus{}, p.fail
	case !slices.Contains(p.functions, f):
		return types.FunctionStatus{}, provider.ErrNotFound
	}
	return types.FunctionStatus{}, nil
}

func (p *inventory) set(fail error, functions ...provider.Function) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.functions, p.fail = functions, fail
}

// scrape returns the series of functions: name{labels} value.
func scrape(t *testing.T, m *metrics) []string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m.functions)
	families, err := registry.Gather()
	require.NoError(t, err)
	var series []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := ""
			for _, l := range metric.GetLabel() {
				labels += l.GetValue() + " "
			}
			value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			series = append(series, fmt.Sprintf("%s %s%v", family.GetName(), labels, value))
		}
	}
	return series
}

// TestDeletedFunction: its series are gone with it, whoever deletes it, also when
// a call still runs; and another of its name begins at zero.
func TestDeletedFunction(t *testing.T) {
	t.Parallel()
	env, secret := provider.Function{Namespace: "dev", Name: "env"}, provider.Function{Namespace: "hidden", Name: "env"}
	p := &inventory{}
	p.set(nil, env, secret)
	m := newMetrics(p, zerolog.Nop())
	m.functions.invoked(env).end(200)
	m.functions.invoked(env).end(504)
	m.functions.invoked(secret).end(200)
	running := m.functions.invoked(env)
	hidden := []string{
		"gateway_function_invocation_started env.hidden 1",
		"gateway_function_invocation_total 200 env.hidden 1",
		"gateway_functions_seconds 200 env.hidden 1",
	}
	all := append([]string{
		"gateway_function_invocation_started env.dev 3",
		"gateway_function_invocation_total 200 env.dev 1",
		"gateway_function_invocation_total 504 env.dev 1",
		"gateway_functions_seconds 200 env.dev 1",
		"gateway_functions_seconds 504 env.dev 1",
	}, hidden...)
	replicas := "gateway_service_count env.dev 2"
	require.ElementsMatch(t, append([]string{replicas}, all...), scrape(t, m))
	require.EqualValues(t, 2, m.functions.invocations(env))

	p.set(errors.New("the provider is away"))
	require.ElementsMatch(t, all, scrape(t, m), "what cannot be asked for is not taken for deleted")

	// By this gateway.
	p.set(nil, secret)
	m.functions.forget(env)
	require.ElementsMatch(t, hidden, scrape(t, m))
	running.end(200)
	require.ElementsMatch(t, hidden, scrape(t, m), "a call that ends later brings nothing back")
	require.Zero(t, m.functions.invocations(env))
	p.set(nil, env, secret)
	m.functions.invoked(env).end(200)
	again := []string{
		replicas,
		"gateway_function_invocation_started env.dev 1",
		"gateway_function_invocation_total 200 env.dev 1",
		"gateway_functions_seconds 200 env.dev 1",
	}
	require.ElementsMatch(t, append(again, hidden...), scrape(t, m))

	// By others.
	p.set(nil, secret)
	require.ElementsMatch(t, hidden, scrape(t, m))
	require.Zero(t, m.functions.invocations(env))
}

// TestCountingRaces has calls, deletions and scrapes at once.
func TestCountingRaces(t *testing.T) {
	t.Parallel()
	p := &inventory{}
	m := newMetrics(p, zerolog.Nop())
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			f := provider.Function{Namespace: "dev", Name: fmt.Sprint("f", i%2)}
			for range 300 {
				m.functions.invoked(f).end(200)
				m.functions.forget(f)
			}
		})
		running.Go(func() {
			for range 20 {
				scrape(t, m)
			}
		})
	}
	running.Wait()
	require.Empty(t, scrape(t, m))
}
