package store

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

// writeMany writes n roles and n policies, so many of each a file.
func writeMany(t testing.TB, dir string, n, perFile int) {
	var content strings.Builder
	for i := range n {
		content.WriteString(strings.Replace(policyP, "name: p", fmt.Sprint("name: p", i), 1) + "---\n")
		content.WriteString(strings.NewReplacer("name: r", fmt.Sprint("name: r", i), "[p]", fmt.Sprintf("[p%d]", i), "alice", fmt.Sprint("alice", i)).Replace(roleR) + "---\n")
		if (i+1)%perFile == 0 {
			write(t, dir, fmt.Sprintf("%05d.yaml", i), content.String())
			content.Reset()
		}
	}
}

// change gives alice another permission and returns how long it took to be in
// force, and how much work it was for the whole process.
func change(t testing.TB, dir string, f *Folder, to iam.Resource) (wall, cpu time.Duration) {
	started, before := time.Now(), cpuTime(t)
	replace(t, dir, "one.yaml", strings.Replace(policyP, "dev:env", string(to), 1)+"---\n"+roleR)
	for deadline := started.Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if r := invokes(f); len(r) == 1 && r[0] == to {
			return time.Since(started), cpuTime(t) - before
		}
		require.True(t, time.Now().Before(deadline), "the change is not live")
	}
}

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// With 10,000 roles and as many policies a change of one object is live within
// a second. Work is measured, as others may be keeping the machine busy; what is
// no work is the debounce. It is not parallel, so that nothing else of this
// process counts.
func TestReloadOfManyObjects(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 1000 // which is as much work
	}
	dir := t.TempDir()
	writeMany(t, dir, n, 1000)
	f, _ := run(t, Config{Dir: dir, Rescan: time.Hour})
	require.Empty(t, f.Problems())
	change(t, dir, f, "dev:first") // Run is past its first load
	least := time.Hour
	for i := range 3 {
		wall, cpu := change(t, dir, f, iam.Resource(fmt.Sprint("dev:new", i)))
		t.Logf("live after %v, with %v of work", wall, cpu)
		least = min(least, cpu)
	}
	require.Less(t, least, time.Second-debounce)
}

// Changes that never pause are live all the same.
func TestReloadAmongManyChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, _ := run(t, Config{Dir: dir, Rescan: time.Hour})
	write(t, dir, "one.yaml", policyP+"---\n"+roleR)
	for deadline := time.Now().Add(10 * time.Second); len(invokes(f)) == 0; time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the change is not live")
		write(t, dir, "other.yaml", issuerI)
	}
}

func BenchmarkReload(b *testing.B) {
	for _, perFile := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d-a-file", perFile), func(b *testing.B) {
			dir := b.TempDir()
			writeMany(b, dir, 10_000, perFile)
			f, _ := run(b, Config{Dir: dir, Rescan: time.Hour})
			change(b, dir, f, "dev:first")
			var work time.Duration
			i := 0
			for b.Loop() {
				_, cpu := change(b, dir, f, iam.Resource(fmt.Sprint("dev:new", i)))
				work += cpu
				i++
			}
			b.ReportMetric(work.Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}
