package dashboard

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/login"
)

// party is the provider's client, made when it is first needed: the gateway
// starts, and serves its other callers, while the provider is down.
type party struct {
	config login.Config
	now    func() time.Time

	mu     sync.Mutex
	client *login.Client
	err    error
	failed time.Time
}

// discoveryPause is the time between two attempts at a provider that does not answer.
const discoveryPause = 5 * time.Second

// get asks the provider for its metadata, until it has once answered.
func (p *party) get(ctx context.Context) (*login.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		return p.client, nil
	}
	if p.err != nil && p.now().Sub(p.failed) < discoveryPause {
		return nil, p.err
	}
	// If the person leaves meanwhile, that is no failure of the provider.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if p.client, p.err = login.Discover(bounded, p.config); p.err != nil {
		p.client, p.failed = nil, p.now()
	}
	return p.client, p.err
}

// warnPause is the time between two warnings of the same: others may change their
// objects all the time.
const warnPause = time.Minute

// Run warns, until ctx ends, when the IAM objects do not let anybody log in at the
// provider: at the start, and after changes.
func (d *Dashboard) Run(ctx context.Context) {
	if d.config.Provider == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last *iam.Set
	var said string
	var at time.Time
	for ctx.Err() == nil {
		if objects := d.config.Objects(); objects != last {
			last = objects
			lack, now := d.lack(), d.config.Now()
			if lack != "" && (lack != said || now.Sub(at) >= warnPause) {
				d.config.Log.Warn().Msg("primary_issuer: " + lack)
				at = now
			}
			said = lack
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lack says what the IAM objects lack for anybody to log in at the provider; "" =
// nothing, or it is not known yet.
func (d *Dashboard) lack() string {
	p, objects := d.config.Provider, d.config.Objects()
	if p == nil || objects == nil {
		return ""
	}
	bare := strings.TrimSuffix(p.Issuer, "/") // only the provider knows whether its iss ends with a slash
	for _, iss := range []string{bare, bare + "/"} {
		if _, trusted := objects.Issuer(iss); trusted {
			return ""
		}
	}
	return fmt.Sprintf("no JwtIssuer trusts %s, so nobody can log in there: add one with spec.iss %q and %q among spec.aud", p.Issuer, p.Issuer, p.ClientID)
}
