// Package local is the embedded provider: functions are processes on this
// machine, each replica behind its own fwatchdog on a Unix socket, which is this
// same binary started under that name. It owns those processes, their folders
// and sockets, secrets, namespaces, and the last lines that functions printed.
// What was deployed is kept in files and is there again after a restart; it
// authenticates nobody: the gateway and the watchdogs do.
//
// Functions run as the user who runs the gateway. Nothing here keeps one from
// reading another's secrets.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
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
	// StateDir is where deployments, namespaces and secrets are kept, for this
	// user alone. It is made when it is not there.
	StateDir string
	// RunDir is an empty folder of our own for sockets and temporary files.
	// Socket paths have room for about 100 bytes, so keep it short.
	RunDir string
	// FunctionsDir has the folders in which functions are started whose image is
	// such a folder's path; "" = there are none.
	FunctionsDir string
	// WorkDir is where other functions are started, so that an fprocess may name
	// files beside the stack file; "" = a folder of each one's own below RunDir.
	WorkDir string
	// Path is the functions' PATH.
	Path string
	// Authority is the issuer whose function tokens the watchdogs accept.
	Authority string
	// DefaultNamespace is always there.
	DefaultNamespace string
	// ReadyTimeout bounds how long a call waits for a function that starts, and
	// how long an update waits for the new version; 0 = 10s.
	ReadyTimeout time.Duration
	// StayAtZero has calls to a function at zero replicas refused, which would
	// else start it.
	StayAtZero bool
	// Log takes the provider's own messages.
	Log zerolog.Logger
	// Output takes the lines that a function or its watchdog has printed, and may
	// not keep the slice. It is called concurrently.
	Output func(f provider.Function, lines []string)
}

// Provider implements provider.Provider.
type Provider struct {
	config  Config
	limiter limiter // of memory

	mu         sync.RWMutex // for the maps, and never held while something is waited for
	functions  map[provider.Function]*function
	namespaces map[string]types.FunctionNamespace
	busy       map[provider.Function]chan struct{} // see exclusive
	folders    int                                 // made below RunDir so far

	life    lifetime
	startMu sync.Mutex
}

// lifetime is how long processes may run: from Run until its context ends.
type lifetime struct {
	ctx     context.Context // nil before Run
	ended   bool
	running sync.WaitGroup // of goroutines that own processes or folders
}

// Open returns a provider with what StateDir holds. It starts nothing yet. A
// file that cannot be read is reported in the log, and the rest is kept.
func Open(c Config) (*Provider, error) {
	c.ReadyTimeout = cmp.Or(c.ReadyTimeout, 10*time.Second)
	p := &Provider{
		config:     c,
		functions:  make(map[provider.Function]*function),
		namespaces: map[string]types.FunctionNamespace{c.DefaultNamespace: {Name: c.DefaultNamespace}},
		busy:       make(map[provider.Function]chan struct{}),
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p, nil
}

// Run runs every function until ctx ends, then stops them all and returns when
// the last process is gone.
func (p *Provider) Run(ctx context.Context) {
	p.limiter.open()
	p.startMu.Lock()
	p.life.ctx = ctx
	p.startMu.Unlock()
	for _, f := range p.sorted("") {
		f.converge()
	}
	<-ctx.Done()
	p.startMu.Lock()
	p.life.ended = true // nothing is added to running from here on
	p.startMu.Unlock()
	p.life.running.Wait()
}

// launch has run in a goroutine of its own, for which Run waits; false = Run has
// not begun yet, or is at its end.
func (p *Provider) launch(run func(ctx context.Context)) bool {
	p.startMu.Lock()
	defer p.startMu.Unlock()
	if p.life.ctx == nil || p.life.ended {
		return false
	}
	p.life.running.Go(func() { run(p.life.ctx) })
	return true
}

// WaitReady waits until every function that should run has answered its
// readiness check, and returns the names of those that had not when ctx ended.
func (p *Provider) WaitReady(ctx context.Context) (unready []string) {
	for _, f := range p.sorted("") {
		for {
			wanted, ready, changed := f.counts()
			if ready >= wanted {
				break
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
			unready = append(unready, f.name.String())
			break
		}
	}
	return unready
}

// Ready implements provider.Provider.
func (p *Provider) Ready(name provider.Function) (provider.Endpoint, bool) {
	f := p.function(name)
	if f == nil {
		return provider.Endpoint{}, false
	}
	r := f.pick()
	if r == nil {
		return provider.Endpoint{}, false
	}
	return provider.Endpoint{Upstream: r.upstream, Memory: f.memory}, true
}

// Endpoint implements provider.Provider. A function that has no replica is given
// one, and one that starts is waited for, however many callers there are.
func (p *Provider) Endpoint(ctx context.Context, name provider.Function) (provider.Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.ReadyTimeout)
	defer cancel()
	for {
		// Each time: an update may have put another in its place.
		f := p.function(name)
		if f == nil {
			return provider.Endpoint{}, provider.ErrNotFound
		}
		wanted, _, changed := f.counts() // before pick, so that no change is missed
		if r := f.pick(); r != nil {
			return provider.Endpoint{Upstream: r.upstream, Memory: f.memory}, nil
		}
		if wanted == 0 && p.config.StayAtZero {
			return provider.Endpoint{}, unavailable("function %s is scaled to zero replicas, and calls do not start it (scale_from_zero=false): scale it up first", name)
		}
		if wanted == 0 {
			if err := p.wake(ctx, name); err != nil {
				return provider.Endpoint{}, err
			}
			continue
		}
		if f.failure() != nil {
			// The reason is for those who may read its logs.
			return provider.Endpoint{}, unavailable("function %s does not start: its logs say why", name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return provider.Endpoint{}, unavailable("function %s was not ready within %s", name, p.config.ReadyTimeout)
		}
	}
}

func unavailable(format string, args ...any) error {
	return &provider.Error{Status: http.StatusServiceUnavailable, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &provider.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &provider.Error{Status: http.StatusConflict, Message: fmt.Sprintf(format, args...)}
}

// failed is what err, of this machine's files, is to callers: they are authorized,
// and the path and the reason are what they need. A full disk is a 507 (RFC 4918 §11.5).
func failed(err error, format string, args ...any) error {
	status := http.StatusInternalServerError
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		status = http.StatusInsufficientStorage
	}
	return &provider.Error{Status: status, Message: fmt.Sprintf(format, args...) + ": " + err.Error()}
}

// Info implements provider.Provider.
func (p *Provider) Info(context.Context) (types.ProviderInfo, error) {
	release, revision := config.Version()
	return types.ProviderInfo{
		Name:          "gatehound",
		Orchestration: "processes",
		Version:       &types.VersionInfo{Release: release, SHA: revision},
	}, nil
}

func (p *Provider) function(name provider.Function) *function {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.functions[name]
}

// sorted returns the functions of a namespace; "" = all.
func (p *Provider) sorted(namespace string) []*function {
	p.mu.RLock()
	all := slices.Collect(maps.Values(p.functions))
	p.mu.RUnlock()
	if namespace != "" {
		all = slices.DeleteFunc(all, func(f *function) bool { return f.name.Namespace != namespace })
	}
	slices.SortFunc(all, func(a, b *function) int { return strings.Compare(a.name.String(), b.name.String()) })
	return all
}

// exclusive waits until nobody else changes name, which a function without a
// name makes its namespace, and has the others wait until done is called.
func (p *Provider) exclusive(ctx context.Context, name provider.Function) (done func(), err error) {
	for {
		p.mu.Lock()
		other, taken := p.busy[name]
		if !taken {
			mine := make(chan struct{})
			p.busy[name] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.busy, name)
				p.mu.Unlock()
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, conflict("another change of %s is still under way", strings.TrimPrefix(name.String(), "."))
		}
	}
}

// newFolder makes a folder below RunDir.
func (p *Provider) newFolder() (string, error) {
	p.mu.Lock()
	p.folders++
	n := p.folders
	p.mu.Unlock()
	dir := filepath.Join(p.config.RunDir, fmt.Sprint(n))
	return dir, os.Mkdir(dir, 0o700)
}
