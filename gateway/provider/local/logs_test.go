package local

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

func TestRing(t *testing.T) {
	t.Parallel()
	p := &Provider{functions: map[provider.Function]*function{fn("f"): {output: newRing()}}}
	r := p.function(fn("f")).output
	ask := func(request logs.Request) (texts []string) {
		t.Helper()
		request.Name, request.Namespace = "f", "openfaas-fn"
		require.NoError(t, p.Logs(t.Context(), request, func(m logs.Message) error {
			require.Equal(t, "f", m.Name)
			require.NotZero(t, m.Timestamp)
			texts = append(texts, m.Text)
			return nil
		}))
		return texts
	}
	require.Empty(t, ask(logs.Request{}))
	for i := range 600 { // more than a batch
		r.add(fmt.Sprintf("f-%d", i%2), fmt.Sprint(i))
	}
	require.Len(t, ask(logs.Request{}), 600)
	require.Equal(t, []string{"598", "599"}, ask(logs.Request{Tail: 2}))
	require.Equal(t, []string{"597", "599"}, ask(logs.Request{Tail: 2, Instance: "f-1"}))
	require.Len(t, ask(logs.Request{Tail: 1000}), 600)
	since := time.Now()
	r.add("f-0", "late")
	require.Equal(t, []string{"late"}, ask(logs.Request{Since: &since}))
	require.Equal(t, []string{"late"}, ask(logs.Request{Since: &since, Tail: 5}))

	// It is bounded, and keeps what came last.
	for i := range 100 {
		r.add("f-0", fmt.Sprintf("%05d", i)+strings.Repeat("x", 64<<10))
	}
	texts := ask(logs.Request{})
	require.LessOrEqual(t, len(texts), maxOutput>>16)
	require.True(t, strings.HasPrefix(texts[len(texts)-1], "00099x"))
	require.LessOrEqual(t, r.size, maxOutput)
}

// TestFollowLogs: a follower that does not read misses lines and stalls nobody.
func TestFollowLogs(t *testing.T) {
	t.Parallel()
	p := &Provider{functions: map[provider.Function]*function{fn("f"): {output: newRing()}}}
	r := p.function(fn("f")).output
	r.add("f-0", "first")
	got, stalled, goOn := make(chan string, 100_000), make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- p.Logs(t.Context(), logs.Request{Name: "f", Namespace: "openfaas-fn", Follow: true, Tail: 1}, func(m logs.Message) error {
			if m.Text == "first" {
				close(stalled)
				<-goOn
			}
			got <- m.Text
			return nil
		})
	}()
	<-stalled
	const many = 50_000
	for i := range many {
		r.add("f-0", fmt.Sprint(i))
	}
	close(goOn)
	require.Equal(t, "first", <-got)
	last := ""
	for n := 0; last != fmt.Sprint(many-1); n++ {
		select {
		case last = <-got:
		case <-time.After(patience):
			require.Fail(t, "the last line never came", last)
		}
		require.Less(t, n, many/2, "nothing was missed: the ring has no bound")
	}
	r.close()
	require.NoError(t, <-ended, "it ends with the function")

	enough := errors.New("enough")
	require.ErrorIs(t, p.Logs(t.Context(), logs.Request{Name: "f", Namespace: "openfaas-fn"}, func(logs.Message) error { return enough }), enough)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, p.Logs(ctx, logs.Request{Name: "f", Namespace: "openfaas-fn", Follow: true}, func(logs.Message) error { return nil }))
	require.ErrorIs(t, p.Logs(ctx, logs.Request{Name: "g", Namespace: "openfaas-fn"}, nil), provider.ErrNotFound)
}

// TestLogsOutliveUpdates: what the version before has printed is still there.
func TestLogsOutliveUpdates(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo said by one >&2")))
	m.call("f")
	require.NoError(t, m.Update(t.Context(), shell("f", "echo said by two >&2")))
	eventually(t, func() bool {
		m.call("f")
		var all strings.Builder
		instances := map[string]bool{}
		require.NoError(t, m.Logs(t.Context(), logs.Request{Name: "f", Namespace: "openfaas-fn"}, func(l logs.Message) error {
			if strings.Contains(l.Text, "said by") {
				instances[l.Instance] = true
			}
			all.WriteString(l.Text + "\n")
			return nil
		}))
		return strings.Contains(all.String(), "said by one") && strings.Contains(all.String(), "said by two") && len(instances) == 2
	}, "lines are missing")
}
