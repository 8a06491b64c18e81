// Package kubernetes has the objects of the policy language as custom resources
// of a Kubernetes cluster: JwtIssuer, Policy and Role in the group
// iam.openfaas.com/v1, of one namespace, read and never written. Their
// definitions, to be applied by an administrator, are in the folder crds.
//
// An object goes through the same decoder as a file in a folder (package
// store), however the API server has checked it before: a cluster may have
// other definitions than ours. A faulty object is left out and the others count.
//
// Nothing is in force before all three kinds have been read once, as a part of
// the objects could be wrong in either direction. When the API server is lost
// afterwards, what was last known stays in force, without an end: who has to be
// shut out meanwhile is shut out at the gateway. What changed is made up for
// when the server is back.
package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/klog/v2"

	"github.com/gatehound/gatehound/auth/iam"
)

// DefaultNamespace is the namespace that OpenFaaS' documents use.
const DefaultNamespace = "openfaas"

const (
	maxWarnings = 50                     // of one load
	debounce    = 100 * time.Millisecond // from the first event to the load
)

// kind is one of the kinds of objects.
type kind struct{ name, resource string }

var kinds = []kind{{"JwtIssuer", "jwtissuers"}, {"Policy", "policies"}, {"Role", "roles"}}

func (k kind) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "iam.openfaas.com", Version: "v1", Resource: k.resource}
}

// Config says which objects to read.
type Config struct {
	// Client reaches the cluster; see Connect.
	Client dynamic.Interface
	// Namespace is where the objects are, and all that has to be readable;
	// empty = DefaultNamespace.
	Namespace string
	// Logf is told of every load, and when the API server is back; nil = nobody.
	Logf func(format string, args ...any)
	// Warnf is told of what an operator should mend, once for each version of an
	// object, and when the API server is lost; nil = Logf.
	Warnf func(format string, args ...any)
}

// Store has the objects of one namespace. Current and Problems are safe for
// concurrent use.
type Store struct {
	config  Config
	changed chan struct{} // has room for one
	state   atomic.Pointer[state]

	mu      sync.Mutex
	objects map[kind]map[string]object // by name; no entry for a kind that was not read yet
	trouble map[kind]string            // why a kind cannot be followed now; no entry = it is

	warned map[warning]bool // of the last load; load's alone
}

type state struct {
	set      *iam.Set
	problems []iam.Problem
}

// warning is what is logged only once.
type warning struct {
	version string // of the object
	problem iam.Problem
}

// New returns a store that holds nothing until it runs.
func New(c Config) *Store {
	c.Namespace = cmp.Or(c.Namespace, DefaultNamespace)
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Warnf == nil {
		c.Warnf = c.Logf
	}
	return &Store{config: c, changed: make(chan struct{}, 1), objects: map[kind]map[string]object{}, trouble: map[kind]string{}}
}

// Current returns the objects in force: nil until all of them have been read
// once.
func (s *Store) Current() *iam.Set {
	if state := s.state.Load(); state != nil {
		return state.set
	}
	return nil
}

// Problems returns what is wrong with the objects in force.
func (s *Store) Problems() []iam.Problem {
	if state := s.state.Load(); state != nil {
		return slices.Clone(state.problems)
	}
	return nil
}

// Run follows the objects until ctx is done; call it once.
func (s *Store) Run(ctx context.Context) {
	// client-go logs on its own, to standard error; what an operator has to
	// know is said by follow.
	ctx = klog.NewContext(ctx, klog.Logger{})
	var running sync.WaitGroup
	defer running.Wait()
	for _, k := range kinds {
		running.Go(func() { s.follow(ctx, k) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
		// Not from the last event, of which there may never be one.
		select {
		case <-ctx.Done():
			return
		case <-time.After(debounce):
		}
		select {
		case <-s.changed: // what came meanwhile is in this load
		default:
		}
		s.load()
	}
}

// load puts what is known in force, if all kinds are.
func (s *Store) load() {
	var objects iam.Objects
	var problems []iam.Problem
	versions := map[string]string{}
	s.mu.Lock()
	if len(s.objects) < len(kinds) {
		s.mu.Unlock()
		return
	}
	for _, k := range kinds {
		byName := s.objects[k]
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			o := byName[name]
			objects.Issuers = append(objects.Issuers, o.objects.Issuers...)
			objects.Policies = append(objects.Policies, o.objects.Policies...)
			objects.Roles = append(objects.Roles, o.objects.Roles...)
			problems = append(problems, o.problems...)
			versions[s.source(k, name)] = o.version
		}
	}
	s.mu.Unlock()
	set, faults := iam.Compile(objects)
	problems = append(problems, faults...)
	s.state.Store(&state{set: set, problems: problems})

	s.config.Logf("iam: namespace %s: loaded %d issuers, %d policies and %d roles, with %d problems",
		s.config.Namespace, len(objects.Issuers), len(objects.Policies), len(objects.Roles), len(problems))
	warned := map[warning]bool{}
	fresh := 0
	for _, p := range problems {
		w := warning{versions[p.Source], p}
		if !s.warned[w] && !warned[w] {
			if fresh++; fresh <= maxWarnings {
				s.config.Warnf("iam: %s: %s", p.Source, p.Message)
			}
		}
		warned[w] = true
	}
	if fresh > maxWarnings {
		s.config.Warnf("iam: namespace %s: and %d more problems", s.config.Namespace, fresh-maxWarnings)
	}
	s.warned = warned
}

// source is an object's name in problems.
func (s *Store) source(k kind, name string) string {
	return fmt.Sprintf("%s %s/%s", k.name, s.config.Namespace, name)
}
