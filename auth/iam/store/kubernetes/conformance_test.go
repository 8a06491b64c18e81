package kubernetes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store"
)

// backend is where objects may be, as an operator and the gateway see it.
type backend interface {
	// put creates or replaces an object; remove deletes it.
	put(t *testing.T, kind, name, spec string)
	remove(t *testing.T, kind, name string)
	// cut makes the objects unreachable for the store, while put and remove go
	// on, until restore.
	cut(t *testing.T)
	restore(t *testing.T)

	current() *iam.Set
	problems() []iam.Problem
	// lost reports whether the store has noticed that it is cut off.
	lost() bool
}

// conformance is what holds for every store. open returns a new, empty one that
// runs.
func conformance(t *testing.T, open func(t *testing.T) backend) {
	for name, test := range map[string]func(*testing.T, backend){
		"lifecycle":       lifecycle,
		"faulty object":   faultyObject,
		"duplicate iss":   duplicateIss,
		"rename":          rename,
		"burst":           burst,
		"within a second": withinASecond,
		"outage":          outage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

const roleSpec = `{policy: [p], principal: {"jwt:sub": [alice]}}`

func policySpec(resource string) string {
	return fmt.Sprintf(`{statement: [{effect: Allow, action: ["Function:Invoke"], resource: [%q]}]}`, resource)
}

// invokes returns what sub may invoke, separated by blanks.
func invokes(b backend, sub string) string {
	set := b.current()
	if set == nil {
		return "not loaded"
	}
	claims := map[string]any{"sub": sub}
	var all []string
	for _, r := range set.Resources(set.Policies(claims), "Function:Invoke", claims) {
		all = append(all, string(r))
	}
	return strings.Join(all, " ")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 5*time.Millisecond, what)
}

func eventuallyInvokes(t *testing.T, b backend, sub, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s may invoke %q", sub, want), func() bool { return invokes(b, sub) == want })
}

func lifecycle(t *testing.T, b backend) {
	b.put(t, "Role", "r", roleSpec)
	b.put(t, "Policy", "p", policySpec("dev:one"))
	b.put(t, "JwtIssuer", "i", `{iss: "https://idp", aud: [gw], tokenExpiry: 1h}`)
	eventuallyInvokes(t, b, "alice", "dev:one")
	require.Empty(t, invokes(b, "bob"))
	eventually(t, "the issuer is trusted", func() bool {
		i, ok := b.current().Issuer("https://idp")
		return ok && i.Spec.Expiry() == time.Hour && i.Spec.Aud[0] == "gw"
	})

	b.put(t, "Policy", "p", policySpec("dev:two"))
	eventuallyInvokes(t, b, "alice", "dev:two")
	b.put(t, "Role", "r", strings.Replace(roleSpec, "alice", "bob", 1))
	eventuallyInvokes(t, b, "bob", "dev:two")
	require.Empty(t, invokes(b, "alice"))

	b.remove(t, "JwtIssuer", "i")
	eventually(t, "the issuer is not trusted any more", func() bool { return len(b.current().Issuers()) == 0 })
	b.remove(t, "Role", "r")
	eventuallyInvokes(t, b, "bob", "")
}

func faultyObject(t *testing.T, b backend) {
	b.put(t, "Role", "r", roleSpec)
	b.put(t, "Role", "faulty", `{policy: [p], condition: {StringAlike: {"jwt:sub": bob}}}`)
	b.put(t, "Policy", "p", policySpec("dev:one"))
	eventuallyInvokes(t, b, "alice", "dev:one")
	eventually(t, "the fault is a problem", func() bool { return len(b.problems()) == 1 })
	require.Contains(t, b.problems()[0].Source, "faulty")
	require.Contains(t, b.problems()[0].Message, `the unknown operator "StringAlike"`)
	require.Empty(t, invokes(b, "bob"))

	b.put(t, "Role", "faulty", `{policy: [p], condition: {StringLike: {"jwt:sub": "bo*"}}}`)
	eventuallyInvokes(t, b, "bob", "dev:one")
	require.Empty(t, b.problems())
	// What was good and is faulty now goes.
	b.put(t, "Role", "faulty", `{policy: [p], condition: {StringAlike: {"jwt:sub": bob}}}`)
	eventuallyInvokes(t, b, "bob", "")
	require.Equal(t, "dev:one", invokes(b, "alice"))
}

func duplicateIss(t *testing.T, b backend) {
	trusted := func(iss string) func() bool {
		return func() bool { _, ok := b.current().Issuer(iss); return ok }
	}
	b.put(t, "JwtIssuer", "a", `{iss: "https://idp", aud: [one]}`)
	b.put(t, "JwtIssuer", "other", `{iss: "https://other", aud: [gw]}`)
	eventually(t, "the first is trusted", trusted("https://idp"))
	b.put(t, "JwtIssuer", "b", `{iss: "https://idp", aud: [two]}`)
	eventually(t, "neither of two is trusted", func() bool { return !trusted("https://idp")() })
	eventually(t, "others are", trusted("https://other"))
	require.Len(t, b.problems(), 2)
	b.remove(t, "JwtIssuer", "a")
	eventually(t, "the one that is left is trusted", trusted("https://idp"))
	i, _ := b.current().Issuer("https://idp")
	require.Equal(t, []string{"two"}, i.Spec.Aud)
}

func rename(t *testing.T, b backend) {
	b.put(t, "Policy", "p", policySpec("dev:one"))
	b.put(t, "Role", "r", roleSpec)
	eventuallyInvokes(t, b, "alice", "dev:one")
	b.put(t, "Policy", "renamed", policySpec("dev:one"))
	b.remove(t, "Policy", "p")
	eventuallyInvokes(t, b, "alice", "")
	b.put(t, "Role", "r", strings.Replace(roleSpec, "[p]", "[renamed]", 1))
	eventuallyInvokes(t, b, "alice", "dev:one")
	eventually(t, "no problem is left", func() bool { return len(b.problems()) == 0 })
}

func burst(t *testing.T, b backend) {
	const n = 500
	for i := range n {
		name := fmt.Sprintf("o%d", i)
		b.put(t, "Policy", name, policySpec("dev:"+name))
		b.put(t, "Role", name, fmt.Sprintf(`{policy: [%s], principal: {"jwt:sub": "u%d"}}`, name, i))
	}
	eventually(t, "all are there", func() bool { return invokes(b, "u499") == "dev:o499" && len(b.problems()) == 0 })
	for i := range n {
		require.Equal(t, fmt.Sprintf("dev:o%d", i), invokes(b, fmt.Sprintf("u%d", i)))
	}
}

func withinASecond(t *testing.T, b backend) {
	b.put(t, "Role", "r", roleSpec)
	var took []time.Duration
	for i := range 7 {
		want := fmt.Sprintf("dev:f%d", i)
		started := time.Now()
		b.put(t, "Policy", "p", policySpec(want))
		eventuallyInvokes(t, b, "alice", want)
		took = append(took, time.Since(started))
	}
	// The median, as this machine may be busy.
	slices.Sort(took)
	require.Less(t, took[3], time.Second, "%v", took)
}

func outage(t *testing.T, b backend) {
	b.put(t, "Policy", "p", policySpec("dev:one"))
	b.put(t, "Role", "r", roleSpec)
	b.put(t, "Role", "leaver", strings.Replace(roleSpec, "alice", "leaver", 1))
	eventuallyInvokes(t, b, "alice", "dev:one")
	eventuallyInvokes(t, b, "leaver", "dev:one")

	b.cut(t)
	b.put(t, "Policy", "p", policySpec("dev:two"))
	b.remove(t, "Role", "leaver")
	b.put(t, "Role", "joiner", strings.Replace(roleSpec, "alice", "joiner", 1))
	eventually(t, "the loss is noticed", b.lost)
	require.Equal(t, "dev:one", invokes(b, "alice"), "what was last known stays in force")
	require.Equal(t, "dev:one", invokes(b, "leaver"))
	require.Empty(t, invokes(b, "joiner"))

	b.restore(t)
	eventuallyInvokes(t, b, "alice", "dev:two")
	eventuallyInvokes(t, b, "leaver", "")
	eventuallyInvokes(t, b, "joiner", "dev:two")
	eventually(t, "the loss is over", func() bool { return !b.lost() })

	// And is followed as before.
	b.put(t, "Policy", "p", policySpec("dev:three"))
	eventuallyInvokes(t, b, "alice", "dev:three")
}

// log keeps what a store logs.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// count counts the lines that contain part.
func (l *log) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// start runs what a store runs until the test ends.
func start(t *testing.T, run func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	return func() { <-done }
}

// folder is the store of files, one for each object.
type folder struct {
	*store.Folder
	dir, away string
	gone      bool
}

func TestFolder(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) backend {
		parent := t.TempDir()
		f := &folder{dir: filepath.Join(parent, "iam"), away: filepath.Join(parent, "away")}
		require.NoError(t, os.Mkdir(f.dir, 0o700))
		var err error
		f.Folder, err = store.Open(store.Config{Dir: f.dir, Rescan: 50 * time.Millisecond})
		require.NoError(t, err)
		ctx := t.Context() // ends before the cleanups
		t.Cleanup(start(t, func() { f.Run(ctx) }))
		return f
	})
}

func (f *folder) path(kind, name string) string {
	dir := f.dir
	if f.gone {
		dir = f.away
	}
	return filepath.Join(dir, kind+"-"+name+".yaml")
}

func (f *folder) put(t *testing.T, kind, name, spec string) {
	path := f.path(kind, name)
	next := filepath.Join(filepath.Dir(path), ".new")
	require.NoError(t, os.WriteFile(next, []byte(manifest(kind, name, spec)), 0o600))
	require.NoError(t, os.Rename(next, path))
}

func (f *folder) remove(t *testing.T, kind, name string) {
	require.NoError(t, os.Remove(f.path(kind, name)))
}

func (f *folder) cut(t *testing.T) {
	require.NoError(t, os.Rename(f.dir, f.away))
	f.gone = true
}

func (f *folder) restore(t *testing.T) {
	require.NoError(t, os.Rename(f.away, f.dir))
	f.gone = false
}

func (f *folder) current() *iam.Set       { return f.Current() }
func (f *folder) problems() []iam.Problem { return f.Problems() }
func (f *folder) lost() bool {
	return slices.ContainsFunc(f.Problems(), func(p iam.Problem) bool { return p.Source == f.dir })
}

func manifest(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: iam.openfaas.com/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n", kind, name, spec)
}
