package gateway

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// slowToSay has no function at first, and is slow to say so: until one has been
// deployed, or half a second is over.
type slowToSay struct {
	*recorder
	looked   chan struct{}
	deployed chan struct{}

	mu    sync.Mutex
	image string // of what was deployed last
}

func (p *slowToSay) Status(context.Context, provider.Function, bool) (types.FunctionStatus, error) {
	close(p.looked)
	select {
	case <-p.deployed:
	case <-time.After(500 * time.Millisecond):
	}
	return types.FunctionStatus{}, provider.ErrNotFound
}

func (p *slowToSay) Deploy(_ context.Context, d types.FunctionDeployment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.image = d.Image; d.Image == "admin" {
		close(p.deployed)
	}
	return nil
}

// TestCreateReplacesNothing: who may only create does not replace what others
// make while it is looked whether there is something.
func TestCreateReplacesNothing(t *testing.T) {
	t.Parallel()
	p := &slowToSay{recorder: &recorder{}, looked: make(chan struct{}), deployed: make(chan struct{})}
	a := newAPI(t, func(c *Config) { c.Provider = p })
	a.grant(t, "Function:Create", "dev:*")
	token := "Bearer " + a.token(t, nil)
	created := make(chan struct{})
	go func() {
		defer close(created)
		_, _ = a.send(t, "POST", "/system/functions", token, `{"service":"new","namespace":"dev","image":"creator"}`)
	}()
	<-p.looked
	status, answer := a.send(t, "POST", "/system/functions", asAdmin, `{"service":"new","namespace":"dev","image":"admin"}`)
	require.Equal(t, 202, status, answer)
	<-created
	require.Equal(t, "admin", p.image)
}

func TestTurns(t *testing.T) {
	t.Parallel()
	var turns turns
	f, other := provider.Function{Name: "a"}, provider.Function{Name: "b"}
	done, err := turns.take(t.Context(), f)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = turns.take(ended, f)
	require.ErrorIs(t, err, context.Canceled)
	doneOther, err := turns.take(t.Context(), other)
	require.NoError(t, err, "another function is in nobody's way")
	doneOther()

	busy := 0
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			done, err := turns.take(t.Context(), f)
			if err != nil {
				t.Error(err)
				return
			}
			busy++ // the race detector sees two at a time
			done()
		})
	}
	done()
	all.Wait()
	require.Equal(t, 20, busy)
	require.Empty(t, turns.busy)
}
