package local

import (
	"context"
	"reflect"
	"time"

	"github.com/openfaas/faas-provider/types"
)

// stackPoll is how often a stack file is looked at. What it says is applied when
// two looks have found the same: an editor may be in the middle of writing it.
const stackPoll = 400 * time.Millisecond

// FollowStack applies what changes in the stack file at path, of which applied
// is in force, until ctx ends. A file that is bad changes nothing.
func (p *Provider) FollowStack(ctx context.Context, path string, applied []types.FunctionDeployment) {
	tick := time.NewTicker(stackPoll)
	defer tick.Stop()
	seen, complaint := applied, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		found, err := ReadStack(path, p.config.DefaultNamespace)
		settled := err == nil && reflect.DeepEqual(found, seen)
		seen = found
		if settled && !reflect.DeepEqual(found, applied) {
			// Also what is refused is not tried again until it changes.
			applied = found
			if err = p.ApplyStack(ctx, found); err == nil {
				p.config.Log.Info().Msgf("%s has changed, and is in force", path)
			}
		}
		switch {
		case err == nil && settled:
			complaint = ""
		case err != nil && err.Error() != complaint && ctx.Err() == nil:
			complaint = err.Error()
			p.config.Log.Error().Msgf("the stack file has changed: %v", err)
		}
	}
}
