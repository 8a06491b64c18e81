package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

var alice = map[string]any{"sub": "alice"}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

// replace puts a file in place at once, as writers should.
func replace(t testing.TB, dir, name, content string) {
	t.Helper()
	write(t, dir, ".new", content)
	require.NoError(t, os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, name)))
}

// invokes returns what alice may invoke now.
func invokes(f *Folder) []iam.Resource {
	set := f.Current()
	return set.Resources(set.Policies(alice), "Function:Invoke", alice)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 5*time.Second, 5*time.Millisecond, what)
}

// run runs a folder until the test ends, and returns what it logged.
func run(t testing.TB, c Config) (*Folder, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	c.Logf = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf(format, args...))
	}
	f, err := Open(c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, lines...)
	}
}

func TestOpenReadsTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "b.yml", policyP)
	write(t, dir, "a.yaml", roleR+"---\n"+issuerI)
	write(t, dir, "notes.txt", "no: [yaml")
	write(t, dir, ".hidden.yaml", "no: [yaml")
	write(t, dir, "c.yaml~", "no: [yaml")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	write(t, filepath.Join(dir, "sub"), "d.yaml", "no: [yaml")

	f, err := Open(Config{Dir: dir})
	require.NoError(t, err)
	require.Empty(t, f.Problems())
	require.Equal(t, []iam.Resource{"dev:env"}, invokes(f))
	require.Len(t, f.Current().Issuers(), 1)
}

func TestOpenWithoutAFolder(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{Dir: filepath.Join(t.TempDir(), "none")})
	require.ErrorContains(t, err, "the IAM folder cannot be read: open /")
}

func TestProblemsNameFileAndLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "1-syntax.yaml", "a: b: c\n")
	write(t, dir, "2-field.yaml", strings.Replace(roleR, "name: r", "name: q", 1)+"  conditions: {}\n")
	write(t, dir, "3-rule.yaml", "\n\n"+strings.Replace(policyP, "Allow", "Deny", 1))
	write(t, dir, "4-large.yaml", "#"+strings.Repeat(" ", maxFileSize))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "5-folder.yaml"), 0o700))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "6-pipe.yaml"), 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "7-dangling.yaml")))
	write(t, dir, "8-good.yaml", issuerI)

	f, err := Open(Config{Dir: dir})
	require.NoError(t, err)
	got := map[string]string{}
	for _, p := range f.Problems() {
		got[strings.TrimPrefix(p.Source, dir+"/")] = p.Message
	}
	for source, message := range map[string]string{
		"1-syntax.yaml":   "yaml: mapping values",
		"2-field.yaml:7":  "the field spec.conditions is unknown",
		"3-rule.yaml:3":   `Policy "p": spec.statement[0]: effect is "Deny"`,
		"4-large.yaml":    "larger than 1048576 bytes",
		"5-folder.yaml":   "no regular file",
		"6-pipe.yaml":     "no regular file",
		"7-dangling.yaml": "no such file",
	} {
		require.Contains(t, got[source], message)
	}
	require.Len(t, got, 7, "%v", got)
	require.Len(t, f.Current().Issuers(), 1)
	require.Empty(t, invokes(f))
}

func TestChangesAreLive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, _ := run(t, Config{Dir: dir, Rescan: time.Hour})
	require.Empty(t, invokes(f))

	write(t, dir, "role.yaml", roleR)
	write(t, dir, "policy.yaml", policyP)
	eventually(t, "new files count", func() bool { return len(invokes(f)) == 1 })

	replace(t, dir, "policy.yaml", strings.Replace(policyP, "dev:env", "dev:*", 1))
	eventually(t, "a renamed file counts", func() bool { return invokes(f)[0] == "dev:*" })

	// A slip keeps what was there, and only there.
	replace(t, dir, "policy.yaml", "{")
	eventually(t, "a broken file is a problem", func() bool { return len(f.Problems()) == 1 })
	require.Contains(t, f.Problems()[0].Message, "stays in force")
	require.Equal(t, []iam.Resource{"dev:*"}, invokes(f))
	write(t, dir, "issuer.yaml", issuerI)
	eventually(t, "others keep changing", func() bool { return len(f.Current().Issuers()) == 1 })
	require.Equal(t, []iam.Resource{"dev:*"}, invokes(f))

	replace(t, dir, "policy.yaml", policyP)
	eventually(t, "a mended file counts", func() bool { return invokes(f)[0] == "dev:env" })
	require.Empty(t, f.Problems())

	// A faulty object in a good file is no slip: it goes.
	replace(t, dir, "policy.yaml", strings.Replace(policyP, "Allow", "Deny", 1))
	eventually(t, "a faulty object does not count", func() bool { return len(invokes(f)) == 0 })
	require.NotEmpty(t, f.Problems())
	replace(t, dir, "policy.yaml", policyP)
	eventually(t, "a mended object counts", func() bool { return len(invokes(f)) == 1 })

	require.NoError(t, os.Remove(filepath.Join(dir, "role.yaml")))
	eventually(t, "a deleted file takes its objects along", func() bool { return len(invokes(f)) == 0 })
}

// A ConfigMap is mounted as links through ..data, which is swapped at once.
func TestConfigMapSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mount := func(version, policy string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		write(t, filepath.Join(dir, version), "role.yaml", roleR)
		write(t, filepath.Join(dir, version), "policy.yaml", policy)
		require.NoError(t, os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	mount("..2024_01", policyP)
	for _, name := range []string{"role.yaml", "policy.yaml"} {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)))
	}
	f, _ := run(t, Config{Dir: dir, Rescan: time.Hour})
	require.Empty(t, f.Problems())
	require.Equal(t, []iam.Resource{"dev:env"}, invokes(f))
	// Run is watching once it has seen one file, and its first load is over once
	// it has seen another: from then on nothing but the swap can tell of the swap.
	for _, name := range []string{"i", "j"} {
		write(t, dir, name+".yaml", strings.NewReplacer("name: i", "name: "+name, "//idp", "//"+name).Replace(issuerI))
		eventually(t, "the folder is watched", func() bool { _, ok := f.Current().Issuer("https://" + name); return ok })
	}

	mount("..2024_02", strings.Replace(policyP, "dev:env", "dev:two", 1))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..2024_01")))
	eventually(t, "the swap counts", func() bool { r := invokes(f); return len(r) == 1 && r[0] == "dev:two" })
	require.Empty(t, f.Problems())
}

// Where no event tells, as behind a replaced folder, the rescan does; and it is
// quiet as long as nothing changes.
func TestRescan(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir, link := filepath.Join(parent, "one"), filepath.Join(parent, "iam")
	other := filepath.Join(parent, "two")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Mkdir(other, 0o700))
	write(t, dir, "all.yaml", roleR+"---\n"+policyP)
	write(t, other, "all.yaml", roleR+"---\n"+strings.Replace(policyP, "dev:env", "dev:two", 1))
	write(t, other, "broken.yaml", "{")
	require.NoError(t, os.Symlink("one", link))

	f, logged := run(t, Config{Dir: link, Rescan: 10 * time.Millisecond})
	require.Equal(t, []iam.Resource{"dev:env"}, invokes(f))

	require.NoError(t, os.Remove(link))
	eventually(t, "a folder that is gone is a problem", func() bool { return len(f.Problems()) == 1 })
	require.Contains(t, f.Problems()[0].Message, "what it held before stays in force")
	require.Equal(t, []iam.Resource{"dev:env"}, invokes(f))

	require.NoError(t, os.Symlink("two", link))
	eventually(t, "the new folder counts", func() bool { return invokes(f)[0] == "dev:two" })

	// A later change shows that several rescans have gone by.
	write(t, other, "issuer.yaml", issuerI)
	eventually(t, "a change in the new folder counts", func() bool { return len(f.Current().Issuers()) == 1 })
	loads, problems := 0, 0
	for _, line := range logged() {
		if strings.Contains(line, ": loaded ") {
			loads++
		}
		if strings.Contains(line, "broken.yaml") {
			problems++
		}
	}
	require.LessOrEqual(t, loads, 6, "%v", logged())
	require.LessOrEqual(t, problems, loads)
	require.Positive(t, problems)
}

// A reader never sees a folder half loaded.
func TestReadersSeeWholeSets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "all.yaml", roleR+"---\n"+policyP)
	f, _ := run(t, Config{Dir: dir, Rescan: time.Millisecond})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if r := invokes(f); len(r) != 1 || !strings.HasPrefix(string(r[0]), "dev:") {
						t.Errorf("alice may invoke %v", r)
						return
					}
				}
			}
		})
	}
	for i := range 20 {
		want := fmt.Sprint("dev:f", i)
		replace(t, dir, "all.yaml", roleR+"---\n"+strings.Replace(policyP, "dev:env", want, 1))
		eventually(t, want, func() bool { r := invokes(f); return len(r) == 1 && string(r[0]) == want })
	}
	close(stop)
	wg.Wait()
}
