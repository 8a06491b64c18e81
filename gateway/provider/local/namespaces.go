package local

import (
	"context"
	"maps"
	"os"
	"slices"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Namespaces implements provider.Provider.
func (p *Provider) Namespaces(context.Context) ([]string, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Sorted(maps.Keys(p.namespaces)), nil
}

// Namespace implements provider.Provider.
func (p *Provider) Namespace(_ context.Context, name string) (types.FunctionNamespace, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n, exists := p.namespaces[name]
	if !exists {
		return n, provider.ErrNotFound
	}
	return n, nil
}

// CreateNamespace implements provider.Provider.
func (p *Provider) CreateNamespace(ctx context.Context, n types.FunctionNamespace) error {
	if !config.ValidName(n.Name) {
		return invalid("namespace %q: want a DNS label: lower case letters, digits and -", n.Name)
	}
	return p.putNamespace(ctx, n, func(exists bool) error {
		if exists {
			return conflict("namespace %s is already there", n.Name)
		}
		return nil
	})
}

// UpdateNamespace implements provider.Provider.
func (p *Provider) UpdateNamespace(ctx context.Context, n types.FunctionNamespace) error {
	return p.putNamespace(ctx, n, func(exists bool) error {
		if !exists {
			return provider.ErrNotFound
		}
		return nil
	})
}

// ensureNamespace makes a namespace that is not there yet.
func (p *Provider) ensureNamespace(ctx context.Context, name string) error {
	if _, err := p.Namespace(ctx, name); err == nil {
		return nil
	}
	return p.CreateNamespace(ctx, types.FunctionNamespace{Name: name})
}

func (p *Provider) putNamespace(ctx context.Context, n types.FunctionNamespace, allowed func(exists bool) error) error {
	done, err := p.exclusive(ctx, provider.Function{Namespace: n.Name})
	if err != nil {
		return err
	}
	defer done()
	_, missing := p.Namespace(ctx, n.Name)
	if err := allowed(missing == nil); err != nil {
		return err
	}
	n.Labels, n.Annotations = maps.Clone(n.Labels), maps.Clone(n.Annotations)
	if err := writeJSON(p.namespacePath(n.Name), n); err != nil {
		return failed(err, "namespace %s cannot be kept", n.Name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.namespaces[n.Name] = n
	return nil
}

// DeleteNamespace implements provider.Provider. The namespace's secrets go with
// it.
func (p *Provider) DeleteNamespace(ctx context.Context, name string) error {
	done, err := p.exclusive(ctx, provider.Function{Namespace: name})
	if err != nil {
		return err
	}
	defer done()
	if name == p.config.DefaultNamespace {
		return invalid("namespace %s is the default one and cannot be deleted", name)
	}
	n, err := p.removeNamespace(name)
	if err != nil {
		return err
	}
	if err = os.RemoveAll(p.secretPath(name, "")); err == nil {
		err = removeFile(p.namespacePath(name))
	}
	if err != nil {
		// It would be back after a restart, so it is there now.
		p.mu.Lock()
		p.namespaces[name] = n
		p.mu.Unlock()
		return failed(err, "namespace %s cannot be deleted", name)
	}
	return nil
}

// removeNamespace forgets an empty namespace, so that nothing is deployed to it
// from then on, and returns what it was.
func (p *Provider) removeNamespace(name string) (types.FunctionNamespace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, exists := p.namespaces[name]
	if !exists {
		return n, provider.ErrNotFound
	}
	for f := range p.functions {
		if f.Namespace == name {
			return n, conflict("namespace %s has functions: delete them first", name)
		}
	}
	delete(p.namespaces, name)
	return n, nil
}
