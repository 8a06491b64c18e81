package kubernetes_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/gatehound/gatehound/auth/iam/store/kubernetes"
)

// fakeCluster is client-go's fake, which knows no resource versions: a watch
// begins when it is called for, and what happened between list and watch is
// missed. So nothing is done before the watches are there.
type fakeCluster struct {
	cluster
	client *fake.FakeDynamicClient // the store's, on the same objects as admin

	mu      sync.Mutex
	err     func(resource string) error // what the store's calls end in
	watches map[string]watch.Interface  // the last of each resource
	// missed answers the next watch, after a change that no watch has seen.
	missed  func() (watch.Interface, error)
	version int
}

func newFake(t *testing.T) *fakeCluster {
	scheme := runtime.NewScheme()
	lists := map[schema.GroupVersionResource]string{
		gvr("JwtIssuer"): "JwtIssuerList", gvr("Policy"): "PolicyList", gvr("Role"): "RoleList",
	}
	f := &fakeCluster{watches: map[string]watch.Interface{}, err: func(string) error { return nil }}
	admin := fake.NewSimpleDynamicClientWithCustomListKinds(scheme, lists)
	f.admin, f.namespace = admin, "openfaas"
	f.client = fake.NewSimpleDynamicClientWithCustomListKinds(scheme, lists)
	f.client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if err := f.refusal(a); err != nil {
			return true, nil, err
		}
		return clienttesting.ObjectReaction(admin.Tracker())(a)
	})
	f.client.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		if err := f.refusal(a); err != nil {
			return true, nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if missed := f.missed; missed != nil {
			f.missed = nil
			change := object(t, manifest("Policy", "p", policySpec("dev:missed")))
			change.SetNamespace(f.namespace)
			if err := admin.Tracker().Update(gvr("Policy"), change, f.namespace); err != nil {
				return true, nil, err
			}
			w, err := missed()
			return true, w, err
		}
		w, err := admin.Tracker().Watch(a.GetResource(), a.GetNamespace())
		f.watches[a.GetResource().Resource] = w
		return true, w, err
	})
	return f
}

func (f *fakeCluster) refusal(a clienttesting.Action) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.GetNamespace() != f.namespace {
		return apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("cluster-wide"))
	}
	return f.err(a.GetResource().Resource)
}

func (f *fakeCluster) fail(err func(resource string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeCluster) cut(*testing.T) {
	f.fail(func(string) error { return errors.New("dial tcp: no route to host") })
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, w := range f.watches {
		w.Stop()
		delete(f.watches, name)
	}
}

func (f *fakeCluster) restore(t *testing.T) {
	f.fail(func(string) error { return nil })
	f.awaitWatches(t)
}

func (f *fakeCluster) awaitWatches(t *testing.T) {
	t.Helper()
	eventually(t, "all kinds are watched", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.watches) == 3
	})
}

func (f *fakeCluster) put(t *testing.T, kind, name, spec string) {
	t.Helper()
	// The fake's watches have room for 100 events, and panic when there is none.
	for {
		f.mu.Lock()
		w := f.watches[gvr(kind).Resource]
		f.mu.Unlock()
		if w == nil || len(w.ResultChan()) < 50 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	f.cluster.put(t, kind, name, spec)
}

func openFake(t *testing.T) *fakeCluster {
	f := newFake(t)
	f.open(t, f.client)
	f.awaitWatches(t)
	eventually(t, "the store has loaded", func() bool { return f.Current() != nil })
	return f
}

func TestFake(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) backend { return openFake(t) })
}

// A watch that asks for a version that is too old is answered 410, at once or
// in the stream: what it has missed has to be listed.
func TestExpired(t *testing.T) {
	t.Parallel()
	expired := apierrors.NewResourceExpired("too old resource version: 1 (2)")
	for name, answer := range map[string]func() (watch.Interface, error){
		"status": func() (watch.Interface, error) { return nil, expired },
		"event": func() (watch.Interface, error) {
			w := watch.NewRaceFreeFake()
			status := expired.Status()
			w.Error(&status)
			return w, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFake(t)
			f.put(t, "Role", "r", roleSpec)
			f.put(t, "Policy", "p", policySpec("dev:one"))
			eventuallyInvokes(t, f, "alice", "dev:one")

			f.mu.Lock()
			f.missed = answer
			f.watches["policies"].Stop()
			delete(f.watches, "policies")
			f.mu.Unlock()
			eventually(t, "the answer was given", func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.missed == nil
			})
			eventuallyInvokes(t, f, "alice", "dev:missed")
			require.False(t, f.lost())
			require.Zero(t, f.log.count(unreachable), "it is no loss: %v", f.log.lines)
		})
	}
}

// Without a cluster the store trusts nobody, and takes up what there is when
// one comes.
func TestStartWithoutServer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.put(t, "Role", "r", roleSpec)
	f.put(t, "Policy", "p", policySpec("dev:one"))
	f.cut(t)
	f.open(t, f.client)
	eventually(t, "the loss is noticed", f.lost)
	require.Nil(t, f.Current())
	require.Equal(t, 1, f.log.count("nobody is trusted until then"), "%v", f.log.lines)
	f.restore(t)
	eventuallyInvokes(t, f, "alice", "dev:one")
}

// What the operator has to mend is said in full, once, and tried again.
func TestMissingDefinition(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.put(t, "Role", "r", roleSpec)
	f.put(t, "Policy", "p", policySpec("dev:one"))
	const definition, permission = "the cluster does not have the CustomResourceDefinition roles.iam.openfaas.com: run kubectl apply",
		"the gateway may not read policies.iam.openfaas.com in the namespace openfaas: give it an RBAC Role"
	f.fail(func(resource string) error {
		group := schema.GroupResource{Group: "iam.openfaas.com", Resource: resource}
		switch resource {
		case "roles":
			return &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound, Message: "the server could not find the requested resource"}}
		case "policies":
			return apierrors.NewForbidden(group, "", errors.New("RBAC"))
		}
		return nil
	})
	f.open(t, f.client)
	eventually(t, "both are said", func() bool { return f.log.count(definition) == 1 && f.log.count(permission) == 1 })
	tries := len(f.client.Actions())
	eventually(t, "it is tried again", func() bool { return len(f.client.Actions()) >= tries+4 })
	require.Nil(t, f.Current(), "nothing is in force before all kinds are known")
	require.Equal(t, 1, f.log.count(definition))
	require.Equal(t, 1, f.log.count(permission))

	f.restore(t)
	eventuallyInvokes(t, f, "alice", "dev:one")
	eventually(t, "both are over", func() bool {
		return f.log.count("over: "+definition) == 1 && f.log.count("over: "+permission) == 1
	})
}

// All that is there at the start is compiled once.
func TestStartLoadsOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for i := range 100 {
		name := fmt.Sprintf("o%d", i)
		f.put(t, "Policy", name, policySpec("dev:"+name))
		f.put(t, "Role", name, fmt.Sprintf(`{policy: [%s], principal: {"jwt:sub": "u%d"}}`, name, i))
	}
	f.open(t, f.client)
	eventuallyInvokes(t, f, "u99", "dev:o99")
	require.Equal(t, 1, f.log.count("loaded 0 issuers, 100 policies and 100 roles"))
	require.Equal(t, 1, f.log.count("loaded"))
}

// A problem is logged once for each version of its object, however often the
// others change.
func TestProblemsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	f := openFake(t)
	change := func(want string) {
		f.put(t, "Policy", "p", policySpec(want))
		eventuallyInvokes(t, f, "alice", want)
	}
	faulty := func(spec string) {
		u := object(t, manifest("Role", "faulty", spec))
		u.SetNamespace(f.namespace)
		f.version++
		u.SetResourceVersion(fmt.Sprint(f.version)) // the fake gives none
		require.NoError(t, f.admin.(*fake.FakeDynamicClient).Tracker().Update(gvr("Role"), u, f.namespace))
	}
	const spec, problem = `{policy: [p], condition: {Like: {"jwt:sub": x}}}`, `the unknown operator "Like"`
	f.put(t, "Role", "r", roleSpec)
	f.put(t, "Role", "faulty", spec)
	change("dev:one")
	change("dev:two")
	require.Equal(t, 1, f.log.count(problem), "%v", f.log.lines)
	require.Equal(t, 1, f.log.count("iam: Role openfaas/faulty: "), "it names the object")
	faulty(spec)
	eventually(t, "a new version's is logged again", func() bool { return f.log.count(problem) == 2 })
	change("dev:three")
	require.Equal(t, 2, f.log.count(problem))
}

// The decoder is the folder's; what only a cluster does to an object is here.
func TestDecoding(t *testing.T) {
	t.Parallel()
	f := openFake(t)
	f.put(t, "Policy", "p", policySpec("dev:one"))
	for name, spec := range map[string]string{
		"number":   `{policy: [p], principal: {"jwt:sub": 12345678901234567890}}`,
		"fraction": `{policy: [p], principal: {"jwt:sub": [a, 1.5]}}`,
		"field":    `{policy: [p], principle: {"jwt:sub": a}, condition: {StringEqual: {"jwt:sub": mallory}}}`,
		"integer":  `{policy: [p], principal: {"jwt:sub": 9007199254740993}}`,
		"boolean":  `{policy: [p], principal: {"jwt:sub": true}}`,
		"symbols":  `{policy: [p], principal: {"jwt:sub": "<a&b>\u2028\u0085\U0001f600"}}`,
	} {
		f.put(t, "Role", name, spec)
	}
	eventually(t, "all are read", func() bool { return f.log.count("1 policies and 3 roles, with 3 problems") == 1 })
	problems := map[string]string{}
	for _, p := range f.problems() {
		problems[p.Source] = p.Message
	}
	require.Contains(t, problems["Role openfaas/number"], "spec.principal.jwt:sub is the number 1.2345678901234567e+19")
	require.Contains(t, problems["Role openfaas/fraction"], "spec.principal.jwt:sub[1] is the number 1.5")
	require.Contains(t, problems["Role openfaas/field"], "the field spec.principle is unknown")
	require.Equal(t, "dev:one", invokes(f, "9007199254740993"))
	require.Equal(t, "dev:one", invokes(f, "<a&b>\u2028\u0085\U0001f600"))
	require.Empty(t, invokes(f, "mallory"))

	// Annotations are nobody's business.
	u := object(t, manifest("Role", "annotated", `{policy: [p], principal: {"jwt:sub": annotated}}`))
	u.SetNamespace(f.namespace)
	u.SetAnnotations(map[string]string{"a": "\x7f", "b": "\u0080"})
	require.NoError(t, f.admin.(*fake.FakeDynamicClient).Tracker().Create(gvr("Role"), u, f.namespace))
	eventuallyInvokes(t, f, "annotated", "dev:one")
}

func TestConnectErrors(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := kubernetes.Connect("")
	require.ErrorContains(t, err, "set KUBECONFIG to a kubeconfig file")
	_, err = kubernetes.Connect(t.TempDir() + "/none")
	require.ErrorContains(t, err, "/none")
}
