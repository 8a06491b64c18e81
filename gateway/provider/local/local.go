// Package local is the embedded provider: each function is a process on this
// machine behind its own fwatchdog, which is this same binary started under
// that name. It owns those processes, their folders and their Unix sockets; it
// authenticates nobody (the watchdogs do) and keeps nothing across a restart.
package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// Config says how functions are run. Every field is needed unless its comment
// says otherwise.
type Config struct {
	// Executable is started with "fwatchdog" as its name.
	Executable string
	// RunDir is an empty folder of our own for sockets and temporary files.
	// Socket paths have room for about 100 bytes, so keep it short.
	RunDir string
	// WorkDir is where functions are started, so that an fprocess may name files
	// beside the stack file; "" = a folder of each one's own below RunDir.
	WorkDir string
	// Path is the functions' PATH.
	Path string
	// Authority is the issuer whose function tokens the watchdogs accept.
	Authority string
	// Log takes the provider's own messages.
	Log zerolog.Logger
	// Output takes each line that a function or its watchdog prints. It is
	// called concurrently.
	Output func(f provider.Function, line string)
}

// Provider implements provider.Provider.
type Provider struct {
	config    Config
	mu        sync.RWMutex
	functions map[provider.Function]*function
}

// New returns a provider without functions.
func New(c Config) *Provider {
	return &Provider{config: c, functions: make(map[provider.Function]*function)}
}

// Add makes a function known. Run starts it. The error is for what would keep
// its watchdog from starting, such as a bad value in its environment.
func (p *Provider) Add(d types.FunctionDeployment) error {
	name := provider.Function{Namespace: d.Namespace, Name: d.Service}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, exists := p.functions[name]; exists {
		return fmt.Errorf("function %s is already there", name)
	}
	dir := filepath.Join(p.config.RunDir, fmt.Sprint(len(p.functions)))
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return fmt.Errorf("cannot make a folder for function %s: %w", name, err)
	}
	f := newFunction(p.config, d, dir)
	if len(f.socket) > maxSocketPath {
		return fmt.Errorf("socket path %q of function %s is longer than %d bytes: set TMPDIR to a shorter path", f.socket, name, maxSocketPath)
	}
	// As its watchdog will do, but in time to be told.
	if _, err := config.ParseWatchdog(f.environment()); err != nil {
		return fmt.Errorf("function %s: %w", name, err)
	}
	p.functions[name] = f
	return nil
}

// maxSocketPath is what fits sun_path on Linux and on macOS.
const maxSocketPath = 103

// Run runs every function until ctx ends, then stops them all and returns when
// the last process is gone.
func (p *Provider) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, f := range p.sorted() {
		running.Go(func() { f.run(ctx) })
	}
	running.Wait()
}

// WaitReady waits until every function has answered its readiness check, and
// returns the names of those that had not when ctx ended.
func (p *Provider) WaitReady(ctx context.Context) (unready []string) {
	for _, f := range p.sorted() {
		for !f.ready.Load() {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
				continue
			}
			unready = append(unready, f.name.String())
			break
		}
	}
	return unready
}

// Endpoint implements provider.Provider.
func (p *Provider) Endpoint(_ context.Context, name provider.Function) (provider.Endpoint, error) {
	p.mu.RLock()
	f := p.functions[name]
	p.mu.RUnlock()
	if f == nil {
		return provider.Endpoint{}, provider.ErrNotFound
	}
	return provider.Endpoint{Upstream: f.upstream}, nil
}

// List implements provider.Provider.
func (p *Provider) List(_ context.Context, namespace string) ([]types.FunctionStatus, error) {
	statuses := []types.FunctionStatus{}
	for _, f := range p.sorted() {
		if namespace == "" || f.name.Namespace == namespace {
			statuses = append(statuses, f.status())
		}
	}
	return statuses, nil
}

func (p *Provider) sorted() []*function {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]*function, 0, len(p.functions))
	for _, f := range p.functions {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *function) int { return strings.Compare(a.name.String(), b.name.String()) })
	return all
}
