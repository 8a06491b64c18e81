package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// stackOf writes a stack.yml with one streaming function per name and command.
func stackOf(t *testing.T, dir string, functions map[string]string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("functions:\n")
	for name, command := range functions {
		fmt.Fprintf(&b, "  %s: {fprocess: %q, environment: {mode: streaming, exec_timeout: 0s}}\n", name, command)
	}
	path := filepath.Join(dir, "stack.yml")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

// TestStopFinishesCalls presses Ctrl-C in the middle of a call: the call ends
// well, new ones are refused, and nothing is left.
func TestStopFinishesCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The function says that it runs, and ends when the test says so.
	gate := filepath.Join(dir, "gate")
	g := startUp(t, dir, []string{"port=" + freeport.Take()}, "-f", stackOf(t, dir, map[string]string{
		"wait": fmt.Sprintf("bash -c 'touch %[1]s.started; until [ -e %[1]s ]; do sleep 0.01; done; echo done'", gate),
	}))
	done := make(chan answer, 1)
	go func() {
		res, err := http.Get(g.url + "/function/wait")
		if err != nil {
			done <- answer{body: err.Error()}
			return
		}
		defer res.Body.Close()
		body := make([]byte, 100)
		n, _ := res.Body.Read(body)
		done <- answer{status: res.StatusCode, body: string(body[:n])}
	}()
	eventually(t, func() bool { _, err := os.Stat(gate + ".started"); return err == nil }, "the function never ran")
	require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
	g.stderr.find(t, g.program, "stopping")
	eventually(t, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	}, "new connections are still accepted")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	require.Equal(t, answer{status: 200, body: "done\n"}, <-done)
	require.Zero(t, g.wait(t))
	require.Empty(t, relatives(t, dir))
}

// TestSecondSignal does not wait for calls.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started := filepath.Join(dir, "started")
	g := startUp(t, dir, nil, "-f", stackOf(t, dir, map[string]string{"wait": fmt.Sprintf("bash -c 'touch %s; sleep 3600'", started)}))
	runDir, err := os.Readlink(filepath.Join(dir, ".gatehound", "run"))
	require.NoError(t, err)
	go http.Get(g.url + "/function/wait")
	eventually(t, func() bool { _, err := os.Stat(started); return err == nil }, "the function never ran")
	require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
	g.stderr.find(t, g.program, "stopping")
	eventually(t, func() bool {
		g.cmd.Process.Signal(os.Interrupt)
		select {
		case <-g.exited:
			return true
		default:
			return false
		}
	}, "a second Ctrl-C does not end it")
	eventually(t, func() bool { return len(relatives(t, runDir)) == 0 }, "processes are left")
}

// TestSlowReader asks for an endless answer and does not read it: the function
// is ended when a write has waited for write_timeout.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := startUp(t, dir, []string{"write_timeout=1s"}, "-f", stackOf(t, dir, map[string]string{"endless": "yes " + filepath.Base(dir) + "-endless"}))
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET /function/endless HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	isRunning := func() bool {
		for _, command := range relatives(t, dir) {
			if strings.HasPrefix(command, "yes ") {
				return true
			}
		}
		return false
	}
	eventually(t, isRunning, "the function never ran")
	eventually(t, func() bool { return !isRunning() }, "the function still runs")
}

// TestStopLosesNoCall presses Ctrl-C while clients call on kept connections and
// on new ones: whatever was accepted is answered.
func TestStopLosesNoCall(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", []string{"port=" + freeport.Take()})
	token := "Bearer " + g.functionToken(t)
	const clients = 20
	var answered atomic.Int32
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			for {
				// A POST is not sent again by the client: what is lost shows.
				req, err := http.NewRequest(http.MethodPost, g.url+"/function/hello", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", token)
				res, err := transport.RoundTrip(req)
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if err != nil {
					t.Errorf("a call was lost: %v", err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("a call got %d %q %v", res.StatusCode, body, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	eventually(t, func() bool { return answered.Load() > 10*clients }, "the clients get no answers")
	require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
	wg.Wait()
	require.Zero(t, g.wait(t))
}
