//go:build linux

package watchdog

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// asInit starts fwatchdog as process 1 of a PID namespace of its own.
func asInit(t *testing.T, env ...string) *program {
	unshare := []string{"unshare", "--fork", "--pid", "--mount-proc", "--kill-child"}
	if out, err := exec.Command(unshare[0], append(unshare[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, process 1 is NOT tested: a PID namespace cannot be made: %s: %s", err, bytes.TrimSpace(out))
	}
	return launchCommand(t, append(unshare, fwatchdog), env...)
}

// children returns the processes whose parent is pid.
func children(t *testing.T, pid int) (pids []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // one a thread
	require.NoError(t, err)
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(field)
			require.NoError(t, err)
			pids = append(pids, n)
		}
	}
	return pids
}

// inits returns process 1 and its child that serves, as seen from outside.
func (p *program) inits() (outer, inner int) {
	first := children(p.t, p.cmd.Process.Pid)
	require.Len(p.t, first, 1)
	second := children(p.t, first[0])
	require.NotEmpty(p.t, second)
	return first[0], second[0]
}

// As process 1 it inherits every orphan of its functions. One nobody waits for
// stays in the process table as long as the container lives.
func TestInitWaitsForOrphans(t *testing.T) {
	t.Parallel()
	calls := 1000
	if raceEnabled {
		calls = 200
	}
	p := asInit(t, script(`setsid sleep 0.01 >/dev/null 2>&1 & (sleep 0.02 >/dev/null 2>&1 &) ; (exit 0 &); echo ok`))
	p.awaitServing()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range calls / 4 {
				res, err := client.Get(p.url)
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v", res, err)
					return
				}
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	outer, inner := p.inits()
	p.eventually(func() bool { return len(children(t, outer)) == 1 && len(children(t, inner)) == 0 }, "no process left")
	require.NoError(t, syscall.Kill(outer, syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.Contains(t, p.stderr.String(), "Shutting down")
}

func TestInitExitStatus(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1, asInit(t, "fprocess=/does/not/exist").exit())

	p := asInit(t, "fprocess=cat")
	p.awaitServing()
	_, inner := p.inits()
	require.NoError(t, syscall.Kill(inner, syscall.SIGKILL))
	require.Equal(t, 128+9, p.exit())

	// The second signal ends it at once, as without an init, and not the first.
	p = asInit(t, "fprocess=cat", "healthcheck_interval=1m")
	p.awaitServing()
	outer, _ := p.inits()
	require.NoError(t, syscall.Kill(outer, syscall.SIGINT))
	p.logged("Shutting down")
	require.Equal(t, 503, p.get("/_/health").status)
	require.NoError(t, syscall.Kill(outer, syscall.SIGINT))
	require.Equal(t, 1, p.exit())
}

// A container's SIGHUP goes to process 1.
func TestInitPassesHangup(t *testing.T) {
	t.Parallel()
	f := newKeyFile(t)
	f.publish("stolen", "good")
	p := asInit(t, f.env("fprocess=cat")...)
	p.awaitServing()
	testHangup(t, f, p, func(p *program) int {
		outer, _ := p.inits()
		return outer
	})
}
