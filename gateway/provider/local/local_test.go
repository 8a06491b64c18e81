package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

func TestUpdateReplacesWhenReady(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo one")))
	require.NoError(t, m.Scale(t.Context(), fn("f"), 2))
	m.waitReplicas("f", 2)
	created := m.status("f").CreatedAt

	// Callers notice nothing of updates and of scaling.
	stop := make(chan struct{})
	var calls atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body := m.call("f"); status != http.StatusOK {
					t.Errorf("%d %s", status, body)
				}
				calls.Add(1)
			}
		})
	}
	for i := range 3 {
		require.NoError(t, m.Update(t.Context(), shell("f", fmt.Sprintf("echo update %d", i))))
		_, body := m.call("f")
		require.Equal(t, fmt.Sprintf("update %d\n", i), body)
		require.NoError(t, m.Scale(t.Context(), fn("f"), uint64(1+i%2)))
	}
	close(stop)
	callers.Wait()
	require.Positive(t, calls.Load())
	require.Equal(t, created, m.status("f").CreatedAt)
	require.EqualValues(t, 1, m.status("f").Replicas)
}

func TestUpdateThatNeverGetsReady(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "", func(c *Config) { c.ReadyTimeout = 300 * time.Millisecond })
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo one")))
	eventually(t, func() bool { return m.status("f").AvailableReplicas == 1 }, "ready")

	for name, bad := range map[string]types.FunctionDeployment{
		"no such command":  {EnvProcess: "/does/not/exist", EnvVars: map[string]string{"mode": "http"}},
		"ends at once":     {EnvProcess: "true", EnvVars: map[string]string{"mode": "http"}},
		"never accepts":    {EnvProcess: "sleep 3600", EnvVars: map[string]string{"mode": "http", "ready_path": "/"}},
		"no such keys yet": {EnvProcess: "cat", EnvVars: map[string]string{"jwt_auth": "true", "jwt_auth_jwks_file": "/nowhere", "jwt_auth_issuer": "http://x"}},
	} {
		bad.Service, bad.Namespace = "f", "openfaas-fn"
		maps.Copy(bad.EnvVars, fastExit)
		status, message := refusal(t, m.Update(t.Context(), bad))
		require.Equal(t, http.StatusUnprocessableEntity, status, name)
		require.Contains(t, message, "the one before it stays", name)
		code, body := m.call("f")
		require.Equal(t, http.StatusOK, code, name)
		require.Equal(t, "one\n", body, name)
	}
	require.Contains(t, m.status("f").EnvProcess, "echo one")
	eventually(t, func() bool { return len(m.processes()) == 1 }, "versions that were refused still run")
	m.stop()
	again := newMachine(t, m.state)
	require.Contains(t, again.status("f").EnvProcess, "echo one")
}

func TestScaleFromZeroOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo x")))
	m.waitReplicas("f", 1)
	require.NoError(t, m.Scale(t.Context(), fn("f"), 0))
	eventually(t, func() bool { return len(m.processes()) == 0 }, "it still runs")
	before := m.function(fn("f")).started

	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if status, body := m.call("f"); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	callers.Wait()
	require.Equal(t, before+1, m.function(fn("f")).started, "one start, however many wait")
	require.EqualValues(t, 1, m.status("f").Replicas)
}

// TestStayAtZero: where calls are not to start functions, they say so.
func TestStayAtZero(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "", func(c *Config) { c.StayAtZero = true })
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo x")))
	m.waitReplicas("f", 1)
	require.NoError(t, m.Scale(t.Context(), fn("f"), 0))
	_, err := m.Endpoint(t.Context(), fn("f"))
	status, message := refusal(t, err)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, message, "scaled to zero replicas, and calls do not start it (scale_from_zero=false)")
	require.Zero(t, m.status("f").Replicas)
	require.NoError(t, m.Scale(t.Context(), fn("f"), 1))
	status, body := m.call("f")
	require.Equal(t, http.StatusOK, status, body)
}

// TestScaleFromZeroOnAFullDisk: a call is answered, though the number of
// replicas cannot be kept.
func TestScaleFromZeroOnAFullDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo x")))
	m.waitReplicas("f", 1)
	require.NoError(t, m.Scale(t.Context(), fn("f"), 0))
	require.NoError(t, os.Rename(m.state, m.state+".away")) // nothing can be written there
	status, body := m.call("f")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, m.log.String(), "cannot be kept")
}

func TestCrashLoop(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "", func(c *Config) { c.ReadyTimeout = 500 * time.Millisecond })
	require.NoError(t, m.Deploy(t.Context(), types.FunctionDeployment{
		Service: "f", Namespace: "openfaas-fn", EnvProcess: "/does/not/exist", EnvVars: map[string]string{"mode": "http"},
	}))
	eventually(t, func() bool { return strings.Contains(m.log.String(), "starting it again") }, "it has not ended")
	began := time.Now()
	status, body := m.call("f")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "function f.openfaas-fn")
	require.Less(t, time.Since(began), 5*time.Second)
	require.Zero(t, m.status("f").AvailableReplicas)

	// An update that works is in force at once: there is nothing to protect.
	require.NoError(t, m.Update(t.Context(), shell("f", "echo mended")))
	eventually(t, func() bool { _, body := m.call("f"); return body == "mended\n" }, "never mended")
}

func TestRestartsWhatWasKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.Deploy(t.Context(), shell("f", "echo one")))
	m.waitReplicas("f", 1)
	f := m.function(fn("f"))
	f.mu.Lock()
	pid := int(f.replicas[0].pid.Load())
	f.mu.Unlock()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		now := int(f.replicas[0].pid.Load())
		return now != 0 && now != pid && f.replicas[0].ready
	}, "it was not started again")
	status, _ := m.call("f")
	require.Equal(t, http.StatusOK, status)
}

func TestDeleteDrains(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	gate := filepath.Join(t.TempDir(), "gate")
	require.NoError(t, m.Deploy(t.Context(), shell("f", fmt.Sprintf("touch %[1]s.began; until [ -e %[1]s ]; do sleep 0.01; done; echo done", gate))))
	answered := make(chan string, 1)
	go func() { _, body := m.call("f"); answered <- body }()
	eventually(t, func() bool { return isFile(gate + ".began") }, "the call never began")
	require.NoError(t, m.Delete(t.Context(), fn("f")))
	status, _ := m.call("f")
	require.Equal(t, http.StatusNotFound, status)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, "done\n", <-answered)
	m.empty()
	require.Empty(t, m.processes())
	require.NoFileExists(t, m.recordPath(fn("f")))
}

// TestCallsDuringReplacements: who waits for a version that never gets ready is
// served by the one that takes its place.
func TestCallsDuringReplacements(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	for i := range 10 {
		require.NoError(t, m.Deploy(t.Context(), types.FunctionDeployment{
			Service: "f", Namespace: "openfaas-fn", EnvProcess: "sleep 3600",
			EnvVars: map[string]string{"mode": "http", "ready_path": "/", "GORACE": fastExit["GORACE"]},
		}))
		answers := make(chan string, 5)
		for range cap(answers) {
			go func() { _, body := m.call("f"); answers <- body }()
		}
		require.NoError(t, m.Update(t.Context(), shell("f", "echo x")))
		for range cap(answers) {
			require.Equal(t, "x\n", <-answers, i)
		}
		require.NoError(t, m.Delete(t.Context(), fn("f")))
	}
}

func TestDeleteDuringStart(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	for range 10 {
		require.NoError(t, m.Deploy(t.Context(), types.FunctionDeployment{
			Service: "f", Namespace: "openfaas-fn", EnvProcess: "sleep 3600", EnvVars: map[string]string{"mode": "http", "ready_path": "/"},
		}))
		waiting := make(chan int, 1)
		go func() { status, _ := m.call("f"); waiting <- status }()
		require.NoError(t, m.Delete(t.Context(), fn("f")))
		require.Equal(t, http.StatusNotFound, <-waiting, "who waits is told")
	}
	m.empty()
	require.Empty(t, m.processes())
}

func TestConcurrentDeploys(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if err := m.Deploy(context.Background(), shell("f", fmt.Sprintf("echo %d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	status, body := m.call("f")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, m.status("f").EnvProcess, "echo "+strings.TrimSpace(body))
	eventually(t, func() bool { return len(m.processes()) == 1 }, "earlier versions still run")
	eventually(t, func() bool { entries, _ := os.ReadDir(m.dir); return len(entries) == 1 }, "their folders are left")
}

// TestChurn deploys, scales and deletes many times: 200, and 1000 with
// GATEHOUND_LONG_TESTS. Nothing is left.
func TestChurn(t *testing.T) {
	cycles := 200
	if raceDetector {
		cycles = 30 // each start of a process is slow then
	}
	if os.Getenv("GATEHOUND_LONG_TESTS") != "" {
		cycles = 1000
	}
	const workers = 4
	m := newMachine(t, "")
	one := func(i int) {
		name := "f" + strconv.Itoa(i%workers)
		err := m.Deploy(t.Context(), shell(name, "echo x"))
		if status, body := m.call(name); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
		err = errors.Join(err, m.Scale(t.Context(), fn(name), uint64(i/workers%3)), m.Delete(t.Context(), fn(name)))
		if err != nil {
			t.Error(err)
		}
	}
	measure := func() (goroutines, descriptors int) {
		m.empty()
		eventually(t, func() bool { return len(m.processes()) == 0 }, "processes are left")
		entries, _ := os.ReadDir("/proc/self/fd")
		return runtime.NumGoroutine(), len(entries)
	}
	one(0)
	goroutines, descriptors := measure()
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := w; i < cycles; i += workers {
				one(i)
			}
		})
	}
	working.Wait()
	eventually(t, func() bool {
		g, d := measure()
		return g <= goroutines+5 && d <= descriptors+5
	}, "goroutines or descriptors are left")
	files, err := filepath.Glob(filepath.Join(m.state, "*.json"))
	require.NoError(t, err)
	require.Empty(t, files)
}

func TestStateOutlivesTheGateway(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	require.NoError(t, m.CreateNamespace(t.Context(), types.FunctionNamespace{Name: "dev", Labels: map[string]string{"team": "a"}}))
	require.NoError(t, m.CreateSecret(t.Context(), types.Secret{Namespace: "openfaas-fn", Name: "key", Value: "v1"}))
	d := shell("f", "cat $OPENFAAS_SECRETS/key")
	d.Secrets = []string{"key"}
	d.Annotations = &map[string]string{"topic": "x"}
	require.NoError(t, m.Deploy(t.Context(), d))
	require.NoError(t, m.Scale(t.Context(), fn("f"), 2))
	other := shell("g", "echo g")
	other.Namespace = "dev"
	require.NoError(t, m.Deploy(t.Context(), other))
	require.NoError(t, m.Scale(t.Context(), provider.Function{Namespace: "dev", Name: "g"}, 0))
	want, err := m.List(t.Context(), "")
	require.NoError(t, err)
	m.stop()
	require.Empty(t, m.processes())

	// What is damaged is reported and harms nothing else.
	require.NoError(t, os.WriteFile(filepath.Join(m.state, "bad.openfaas-fn.json"), []byte(`{"deployment":{"serv`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(m.state, "moved.openfaas-fn.json"), []byte(`{"deployment":{"service":"f","namespace":"openfaas-fn"}}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(m.state, temporaryPrefix+"1"), []byte(`{`), 0o600))
	cutShort := m.secretPath("openfaas-fn", temporaryPrefix+"1")
	require.NoError(t, os.WriteFile(cutShort, []byte("half of a secret"), 0o600))
	again := newMachine(t, m.state)
	require.NoFileExists(t, cutShort)
	for _, name := range []string{"bad.openfaas-fn.json", "moved.openfaas-fn.json"} {
		require.Contains(t, again.log.String(), name)
		require.FileExists(t, filepath.Join(m.state, name))
	}
	require.NoFileExists(t, filepath.Join(m.state, temporaryPrefix+"1"))
	again.waitReplicas("f", 2)
	got, err := again.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, got, 2)
	for i := range got {
		want[i].AvailableReplicas, got[i].AvailableReplicas = 0, 0
	}
	require.Equal(t, want, got)
	_, body := again.call("f")
	require.Equal(t, "v1", body)
	n, err := again.Namespace(t.Context(), "dev")
	require.NoError(t, err)
	require.Equal(t, "a", n.Labels["team"])
}
