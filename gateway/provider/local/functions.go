package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/provider"
)

// maxReplicas bounds what one call may start, each of them a process.
const maxReplicas = 100

// minScaleLabel is upstream's label for how many replicas there are at first,
// and after a call has woken the function.
const minScaleLabel = "com.openfaas.scale.min"

// List implements provider.Provider.
func (p *Provider) List(_ context.Context, namespace string) ([]types.FunctionStatus, error) {
	statuses := []types.FunctionStatus{}
	for _, f := range p.sorted(namespace) {
		statuses = append(statuses, f.status())
	}
	return statuses, nil
}

// Status implements provider.Provider.
func (p *Provider) Status(_ context.Context, name provider.Function, usage bool) (types.FunctionStatus, error) {
	f := p.function(name)
	if f == nil {
		return types.FunctionStatus{}, provider.ErrNotFound
	}
	status := f.status()
	if usage {
		status.Usage = f.usage()
	}
	return status, nil
}

// exclusively returns a function that is there, with its name taken as by
// exclusive.
func (p *Provider) exclusively(ctx context.Context, name provider.Function) (f *function, done func(), err error) {
	if done, err = p.exclusive(ctx, name); err != nil {
		return nil, nil, err
	}
	if f = p.function(name); f == nil {
		done()
		return nil, nil, provider.ErrNotFound
	}
	return f, done, nil
}

// Deploy implements provider.Provider. It does not wait for readiness.
func (p *Provider) Deploy(ctx context.Context, d types.FunctionDeployment) error {
	return p.put(ctx, d, false)
}

// Update implements provider.Provider. While the version in place serves calls,
// it goes on until the new one is ready; when that takes longer than
// ReadyTimeout, it stays.
func (p *Provider) Update(ctx context.Context, d types.FunctionDeployment) error {
	if p.function(provider.Function{Namespace: d.Namespace, Name: d.Service}) == nil {
		return provider.ErrNotFound
	}
	return p.put(ctx, d, false)
}

func (p *Provider) put(ctx context.Context, d types.FunctionDeployment, fromStack bool) error {
	name := provider.Function{Namespace: d.Namespace, Name: d.Service}
	done, err := p.exclusive(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	r := record{Deployment: d, Created: time.Now().UTC(), Replicas: minReplicas(d), Stack: fromStack}
	old := p.function(name)
	if old != nil {
		r.Created, r.Replicas = old.created, old.wantedReplicas()
	}
	if missing := p.missingSecrets(name.Namespace, d.Secrets); len(missing) > 0 && !fromStack {
		// Those of a stack file may be created when the gateway is up.
		return invalid("function %s: there is no secret %s", name, createThem(name.Namespace, missing))
	}
	f, err := p.newFunction(r)
	if err != nil {
		return err
	}
	if old != nil {
		f.output = old.output
		if _, ready, _ := old.counts(); ready > 0 && !f.single && !old.single {
			if err := f.rollOut(ctx, p.config.ReadyTimeout); err != nil {
				f.close()
				return err
			}
		}
	}
	if err := p.insert(f, old); err != nil {
		f.close()
		return err
	}
	if old != nil {
		ended := old.close()
		if f.single || old.single {
			// They may want the same address.
			select {
			case <-ended:
			case <-ctx.Done():
			}
		}
	}
	f.converge()
	if old == nil {
		return nil
	}
	// Once more, for a secret that has changed before f was known to have it.
	if err := f.writeSecrets(d.Secrets...); err != nil {
		f.log.Warn().Msg(err.Error())
	}
	return nil
}

// insert has f take the place of old, which may be nil, in memory and on disk.
func (p *Provider) insert(f, old *function) error {
	p.mu.Lock()
	if _, exists := p.namespaces[f.name.Namespace]; !exists {
		p.mu.Unlock()
		return invalid("function %s: there is no namespace %q: create it first, with faas-cli namespace create %[2]s", f.name, f.name.Namespace)
	}
	p.functions[f.name] = f
	p.mu.Unlock()
	err := p.save(f)
	if err != nil {
		p.mu.Lock()
		if delete(p.functions, f.name); old != nil {
			p.functions[f.name] = old
		}
		p.mu.Unlock()
	}
	return err
}

// Delete implements provider.Provider. New calls are refused at once; those that
// run are drained after it has returned.
func (p *Provider) Delete(ctx context.Context, name provider.Function) error {
	f, done, err := p.exclusively(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	// First, so that a function that is said to be gone does not come back.
	if err := p.forget(name); err != nil {
		return err
	}
	p.mu.Lock()
	delete(p.functions, name)
	p.mu.Unlock()
	f.close()
	f.output.close()
	return nil
}

// Scale implements provider.Provider. It does not wait for the replicas.
func (p *Provider) Scale(ctx context.Context, name provider.Function, replicas uint64) error {
	if replicas > maxReplicas {
		return invalid("%d replicas of function %s are too many: want at most %d", replicas, name, maxReplicas)
	}
	f, done, err := p.exclusively(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if f.single && replicas > 1 {
		return invalid("function %s: %v", name, f.tooMany(replicas))
	}
	return p.scale(f, replicas)
}

func (p *Provider) scale(f *function, replicas uint64) error {
	before := f.wantedReplicas()
	f.want(replicas)
	if err := p.save(f); err != nil {
		f.want(before)
		return err
	}
	f.converge()
	return nil
}

// wake gives a function at zero its replicas back. Callers wait in exclusive for
// the first of them.
func (p *Provider) wake(ctx context.Context, name provider.Function) error {
	f, done, err := p.exclusively(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if f.wantedReplicas() > 0 {
		return nil
	}
	f.want(minReplicas(f.deployment))
	if err := p.save(f); err != nil {
		// A full disk is no reason to refuse calls: after a restart it is at zero
		// again, and the next call wakes it.
		f.log.Warn().Msg(message(err))
	}
	f.converge()
	return nil
}

// minReplicas is what d's label asks for, and 1 at least: newFunction has
// refused a label that is no such number.
func minReplicas(d types.FunctionDeployment) uint64 {
	if d.Labels != nil {
		if n, err := strconv.ParseUint((*d.Labels)[minScaleLabel], 10, 64); err == nil {
			return max(n, 1)
		}
	}
	return 1
}

// ApplyStack makes the functions of a stack file what deployments say: those
// that differ are replaced, and those of an earlier stack file that are not
// among them are deleted. What came by the API alone stays. Every fault is
// reported, and what is good applied all the same.
func (p *Provider) ApplyStack(ctx context.Context, deployments []types.FunctionDeployment) error {
	var faults []error
	listed := make(map[provider.Function]bool)
	for _, d := range deployments {
		name := provider.Function{Namespace: d.Namespace, Name: d.Service}
		listed[name] = true
		if err := p.ensureNamespace(ctx, d.Namespace); err != nil {
			faults = append(faults, errors.New(message(err)))
		}
		if f := p.function(name); f != nil && f.stack && reflect.DeepEqual(f.deployment, normal(d)) {
			continue
		}
		if err := p.put(ctx, d, true); err != nil {
			faults = append(faults, errors.New(message(err)))
		}
	}
	for _, f := range p.sorted("") {
		if f.stack && !listed[f.name] {
			if err := p.Delete(ctx, f.name); err != nil {
				faults = append(faults, fmt.Errorf("function %s: %s", f.name, message(err)))
			}
		}
	}
	return errors.Join(faults...)
}

// message is what err says to a person who has made no HTTP request.
func message(err error) string {
	var refusal *provider.Error
	if errors.As(err, &refusal) {
		return refusal.Message
	}
	return err.Error()
}

// rollOut starts the replicas and waits until all are ready.
func (f *function) rollOut(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f.converge()
	for {
		wanted, ready, changed := f.counts()
		if ready >= wanted {
			return nil
		}
		reason := "it was not ready within " + limit.String()
		if err := f.failure(); err != nil {
			reason = err.Error()
		} else {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
		}
		return &provider.Error{
			Status:  http.StatusUnprocessableEntity,
			Message: fmt.Sprintf("function %s: the new version does not start, so the one before it stays: %s; its logs say more", f.name, reason),
		}
	}
}
