//go:build linux

package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What an authenticated call costs fwatchdog in http mode once it is warm. Time
// depends on the machine, these do not: whoever adds to them does so on purpose,
// and says here why.
const (
	allocationsPerCall        = 4 // as runtime.ReadMemStats counts them
	gatewayAllocationsPerCall = 8 // the gateway's own, as runtime/metrics counts them, which leaves some out
	// Of the system calls that move bytes, those that did; how often something
	// is awaited depends on who is faster.
	readsPerCall, writesPerCall = 2, 2
	// slack is for what goes on besides the calls: the log's batches, the
	// scrape, the collector of garbage.
	slack = 0.5
)

// guarded are the programs whose calls are counted.
var guarded = []struct {
	name                       string
	start                      func(b *bench) starter
	allocations, reads, writes float64
}{
	// fwatchdog in http mode with jwt_auth, metrics and access log.
	{"fwatchdog", func(b *bench) starter { return b.watchdog(true, true, "http") }, allocationsPerCall, readsPerCall, writesPerCall},
	// The gateway in front of one, without it.
	{"gateway", func(b *bench) starter { return b.gateway }, gatewayAllocationsPerCall, readsPerCall, writesPerCall},
}

// warmSubject is a built program that has answered for a while; call makes calls on
// one connection.
func warmSubject(t *testing.T, start func(b *bench) starter) (s *subject, call func(calls int)) {
	b, err := newBench(small(t), os.Getenv(binariesVariable), t.Output())
	require.NoError(t, err)
	t.Cleanup(b.close)
	s, err = start(b)(t.Context())
	require.NoError(t, err)
	t.Cleanup(s.stop)
	require.NoError(t, s.ready(t.Context()))
	call = func(calls int) {
		l := s.load(1, 0)
		l.calls = calls
		_, err := l.run(t.Context())
		require.NoError(t, err)
	}
	call(500)
	return s, call
}

func TestAllocationsOfACall(t *testing.T) {
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) { testAllocations(t, g.start, g.allocations) })
	}
}

func testAllocations(t *testing.T, start func(b *bench) starter, pin float64) {
	s, call := warmSubject(t, start)
	total := regexp.MustCompile(`(?m)^go_memstats_mallocs_total (\S+)$`)
	mallocs := func() float64 {
		res, err := http.Get("http://" + s.metrics + "/metrics")
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		m := total.FindSubmatch(b)
		require.NotNil(t, m, "%s", b)
		n, err := strconv.ParseFloat(string(m[1]), 64)
		require.NoError(t, err)
		return n
	}
	mallocs() // what is allocated once
	const calls = 5000
	first := mallocs()
	before := mallocs()
	call(calls)
	each := (mallocs() - before - (before - first)) / calls // without what asking costs
	t.Logf("%.3f allocations a call", each)
	require.LessOrEqual(t, each, pin+slack)
}

func TestSystemCallsOfACall(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED, SYSTEM CALLS WERE NOT COUNTED: strace is not installed")
	}
	for _, g := range guarded {
		t.Run(g.name, func(t *testing.T) { testSystemCalls(t, strace, g.start, g.reads, g.writes) })
	}
}

func testSystemCalls(t *testing.T, strace string, start func(b *bench) starter, readsPin, writesPin float64) {
	s, call := warmSubject(t, start)
	file := filepath.Join(t.TempDir(), "counts")
	cmd := exec.Command(strace, "-f", "-c", "-U", "name,calls,errors", "-o", file, "-p", strconv.Itoa(s.cmd.Process.Pid))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	attached := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		ok := false
		for !ok && lines.Scan() {
			t.Log(lines.Text())
			ok = strings.Contains(lines.Text(), "attached")
		}
		attached <- ok
		io.Copy(io.Discard, stderr)
	}()
	select {
	case ok := <-attached:
		if !ok {
			cmd.Wait()
			t.Skip("SKIPPED, SYSTEM CALLS WERE NOT COUNTED: strace may not look at other processes here")
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Skip("SKIPPED, SYSTEM CALLS WERE NOT COUNTED: strace does not attach")
	}
	const calls = 2000
	call(calls)
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	cmd.Wait() // it ends by the signal it was sent
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	t.Logf("%s", b)
	var reads, writes float64
	for _, m := range regexp.MustCompile(`(?m)^\s*(\w+)\s+(\d+)\s*(\d*)$`).FindAllStringSubmatch(string(b), -1) {
		n, _ := strconv.ParseFloat(m[2], 64)
		failed, _ := strconv.ParseFloat(m[3], 64) // "" = 0
		n -= failed
		switch m[1] {
		case "read", "readv", "recvfrom", "recvmsg":
			reads += n / calls
		case "write", "writev", "sendto", "sendmsg":
			writes += n / calls
		}
	}
	t.Logf("%.3f reads and %.3f writes a call", reads, writes)
	require.Positive(t, reads)
	require.LessOrEqual(t, reads, readsPin+slack)
	require.LessOrEqual(t, writes, writesPin+slack)
}
