package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	minBackoff  = 250 * time.Millisecond
	maxBackoff  = 5 * time.Second
	settled     = 30 * time.Second // a watch that lived so long was a good one
	listTimeout = 30 * time.Second
)

// follow keeps one kind's objects the same as the cluster's until ctx is done.
// It runs the reflector, the part of client-go's informers that lists, watches,
// and lists again when a watch has missed something (410). Its retries are not
// used: they end up a minute apart, which is for clusters with thousands of
// clients, and for as long a withdrawn role would stay in force.
func (s *Store) follow(ctx context.Context, k kind) {
	client := s.config.Client.Resource(k.gvr()).Namespace(s.config.Namespace)
	calls := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			bounded, cancel := context.WithTimeout(ctx, listTimeout)
			defer cancel()
			return client.List(bounded, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := client.Watch(ctx, options)
			if utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err) {
				return nil, fmt.Errorf("%v", err) // what the reflector does not know it does not retry
			}
			if err == nil {
				s.recovered(k)
			}
			return w, err
		},
	}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(calls, s.config.Client),
		&unstructured.Unstructured{}, reflected{s, k}, cache.ReflectorOptions{Name: "iam", TypeDescription: k.resource})

	backoff := minBackoff
	for {
		started := time.Now()
		err := reflector.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			s.failed(k, err)
		}
		if time.Since(started) > settled {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff/2 + rand.N(backoff/2)): // not all gateways at once
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// failed notes why a kind cannot be followed, and logs it unless it is known,
// be it from another kind.
func (s *Store) failed(k kind, err error) {
	trouble := s.explain(k, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble[k] == trouble {
		return
	}
	known := s.has(trouble)
	s.leave(k)
	s.trouble[k] = trouble
	if !known {
		meanwhile := "what was last known stays in force"
		if len(s.objects) < len(kinds) {
			meanwhile = "nobody is trusted until then"
		}
		s.config.Warnf("iam: %s; this is tried again, and %s: %v", trouble, meanwhile, err)
	}
}

// recovered notes that a kind is followed again.
func (s *Store) recovered(k kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(k)
}

// leave takes a kind out of its trouble, and says so if it was the last one.
func (s *Store) leave(k kind) {
	trouble, was := s.trouble[k]
	delete(s.trouble, k)
	if was && !s.has(trouble) {
		s.config.Logf("iam: over: %s", trouble)
	}
}

func (s *Store) has(trouble string) bool {
	return slices.Contains(slices.Collect(maps.Values(s.trouble)), trouble)
}

// explain says what the operator has to mend, without what differs from try to
// try.
func (s *Store) explain(k kind, err error) string {
	crd := k.gvr().GroupResource().String()
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("the cluster does not have the CustomResourceDefinition %s: run kubectl apply -f auth/iam/store/kubernetes/crds", crd)
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the gateway may not read %s in the namespace %s: give it an RBAC Role with the verbs get, list and watch", crd, s.config.Namespace)
	case apierrors.IsUnauthorized(err):
		return "the Kubernetes API server refuses the gateway's credentials"
	}
	return "the Kubernetes API server cannot be reached"
}
