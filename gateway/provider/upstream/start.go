package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/provider"
)

const (
	// firstPause and longestPause are between two looks at a function that
	// starts; each is twice the one before.
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
	// probeTimeout bounds one probe.
	probeTimeout = 5 * time.Second
)

// ask is Status with a bound of its own, for it holds up calls.
func (p *Provider) ask(ctx context.Context, f provider.Function) (types.FunctionStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return p.Status(ctx, f, false)
}

// start waits until f has an available replica, after it has asked the provider
// for as many as com.openfaas.scale.min says if there should be none. Gateways
// beside us may do the same at the same moment, and the provider refuse one of
// them: its failures are no reason to give up before the limit.
func (p *Provider) start(ctx context.Context, f provider.Function, status types.FunctionStatus) error {
	asked := false
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if status.AvailableReplicas > 0 {
			return nil
		}
		if status.Replicas == 0 && !asked {
			last = p.scale(ctx, f, leastReplicas(status))
			if final(last) {
				return last
			}
			asked = last == nil
		}
		if !sleep(ctx, pause) {
			return p.late(ctx, fmt.Sprintf("function %s had no replica available", f), "scale_from_zero", last)
		}
		now, err := p.ask(ctx, f)
		if final(err) {
			return err
		}
		if err == nil {
			status = now
		}
		if err != nil || asked {
			last = err
		}
	}
}

// leastReplicas is what the label asks for, and 1 at least.
func leastReplicas(s types.FunctionStatus) uint64 {
	if s.Labels != nil {
		if n, err := strconv.ParseUint((*s.Labels)["com.openfaas.scale.min"], 10, 32); err == nil {
			return max(n, 1)
		}
	}
	return 1
}

// final reports whether to ask again is of no use: there is no such function, or
// the provider has refused and not failed.
func final(err error) bool {
	var refused *provider.Error
	return errors.Is(err, provider.ErrNotFound) || errors.As(err, &refused) && refused.Status < 500
}

// newProber returns the client for probes. It goes where calls go, by no proxy
// that the environment may name, and has no credentials.
func newProber(p *Provider) *http.Client {
	dialer := &net.Dialer{Timeout: probeTimeout}
	return &http.Client{CheckRedirect: stay, Timeout: probeTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if p.dial != nil {
				return p.dial(address)
			}
			return dialer.DialContext(ctx, network, address)
		},
	}}
}

// probe waits until f answers 200 at /_/ready.
func (p *Provider) probe(ctx context.Context, f provider.Function) error {
	target := p.base + "/function/" + f.String() + "/_/ready"
	if p.config.Direct {
		host, err := p.directHost(f)
		if err != nil {
			return err
		}
		target = "http://" + host + "/_/ready"
	}
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		res, err := p.prober.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxMessage))
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answered %s", res.Status)
		}
		if ctx.Err() == nil {
			last = err
		}
		if !sleep(ctx, pause) {
			return p.late(ctx, fmt.Sprintf("function %s did not answer 200 at /_/ready", f), "probe_functions", last)
		}
	}
}

// late is the error for a wait that ctx has ended. What the provider has said
// last is for the gateway's log, by Unwrap, and not for callers.
func (p *Provider) late(ctx context.Context, what, setting string, last error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	refusal := &provider.Error{Status: http.StatusServiceUnavailable,
		Message: fmt.Sprintf("%s within %s (%s; the limit is upstream_timeout): its status and its logs say why", what, p.config.StartTimeout, setting)}
	if last != nil {
		return fmt.Errorf("%w: %w", refusal, last)
	}
	return refusal
}

// sleep reports whether ctx has not ended by then.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
