package gateway

import (
	"context"
	"sync"

	"github.com/gatehound/gatehound/gateway/provider"
)

// turns lets one at a time do something to a function. The zero value is ready
// for use.
type turns struct {
	mu   sync.Mutex
	busy map[provider.Function]chan struct{} // closed when done
}

// take waits for a turn until ctx ends. done gives it back.
func (t *turns) take(ctx context.Context, f provider.Function) (done func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.busy[f]
		if !busy {
			break
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer t.mu.Unlock()
	mine := make(chan struct{})
	if t.busy == nil {
		t.busy = make(map[provider.Function]chan struct{})
	}
	t.busy[f] = mine
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.busy, f)
		close(mine)
	}, nil
}
