//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain has the tests run in a namespace, as the command does.
func TestMain(m *testing.M) {
	if play() {
		return
	}
	enterNamespace()
	if os.Getenv(binariesVariable) != "" {
		os.Exit(m.Run())
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "benchmarks")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	inside, err := inNamespace(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "no network namespace:", err)
		os.Setenv(binariesVariable, dir)
		return m.Run()
	}
	var exit *exec.ExitError
	if err := inside.Wait(); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	} else if err != nil {
		panic(err)
	}
	return 0
}

// small are settings that show that everything works, and measure nothing.
func small(t *testing.T) settings {
	return settings{rounds: 1, duration: 100 * time.Millisecond, out: t.TempDir(), bulk: 4 << 20, turn: 100, idle: 200}
}

// TestSmoke measures every row once, shortly. Rows of peers that are not on
// this machine are skipped.
func TestSmoke(t *testing.T) {
	s := small(t)
	require.NoError(t, run(t.Context(), s, os.Getenv(binariesVariable), t.Output()))
	var r results
	b, err := os.ReadFile(filepath.Join(s.out, "benchmarks.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &r))
	for _, w := range r.Rows {
		t.Run(w.Name, func(t *testing.T) {
			v := r.verdict(w)
			if strings.HasPrefix(v.missing, errMissing.Error()) {
				t.Skip("SKIPPED, THIS ROW WAS NOT TRIED: " + v.missing)
			}
			require.Empty(t, v.missing)
			require.False(t, math.IsNaN(v.median) || math.IsInf(v.median, 0), "%v", v.median)
		})
	}
	table, err := os.ReadFile(filepath.Join(s.out, "benchmarks.md"))
	require.NoError(t, err)
	require.Equal(t, len(r.Rows)+2, strings.Count(string(table), "\n| ")+strings.Count(string(table), "\n|-"))
	picture, err := os.ReadFile(filepath.Join(s.out, "benchmarks.svg"))
	require.NoError(t, err)
	for d := xml.NewDecoder(strings.NewReader(string(picture))); err == nil; {
		_, err = d.Token()
	}
	require.ErrorIs(t, err, io.EOF)
}

// TestInterrupt: whatever is running when a run is ended early ends with it.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	s := small(t)
	s.duration, s.only = time.Minute, regexp.MustCompile("^gateway$") // with an fwatchdog and a function below it
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	require.ErrorIs(t, run(ctx, s, os.Getenv(binariesVariable), t.Output()), context.Canceled)
	left := func() (left []string) {
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		require.NoError(t, err)
		for _, file := range files {
			b, _ := os.ReadFile(file) // it may have ended just now
			if strings.Contains(string(b), dir) {
				left = append(left, file)
			}
		}
		return left
	}
	require.Eventually(t, func() bool { return len(left()) == 0 }, patience, 10*time.Millisecond, "still there: %v", left())
}

// TestCoordinatedOmission: a server that stands still once has to answer for
// all the calls that were due meanwhile.
func TestCoordinatedOmission(t *testing.T) {
	const stall = 200 * time.Millisecond
	l := load{connections: 2, rate: 500, duration: time.Second, want: "OK", requests: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}}
	l.network, l.address = stalls(t, 100, stall)
	o, err := l.run(t.Context())
	require.NoError(t, err)
	require.Len(t, o.latencies, 500)
	// 100 calls were due in the 200 ms, each a little less late than the last.
	require.Greater(t, o.quantile(0.9), stall/4)
	require.GreaterOrEqual(t, o.quantile(1), stall)

	l.rate, l.calls = 0, 500
	l.network, l.address = stalls(t, 100, stall)
	o, err = l.run(t.Context())
	require.NoError(t, err)
	require.Less(t, o.quantile(0.9), stall/4, "a closed loop does not see it: that is why it is no measure of a tail")
}

// TestBadAnswers: a load is no measurement if anything but good answers comes,
// or none.
func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"refusal":    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nOK",
		"other body": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nKO",
		"hangs up":   "",
		"once":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					http.ReadRequest(bufio.NewReader(c))
					io.WriteString(c, answer)
				}()
			}
		}()
		for _, rate := range []float64{0, 1000} {
			l := load{network: "tcp", address: ln.Addr().String(), connections: 3, rate: rate, duration: 50 * time.Millisecond,
				want: "OK", requests: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}}
			_, err := l.run(t.Context())
			require.Error(t, err, "%s at rate %v", name, rate)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	r := results{Series: []series{
		{Name: "a", Values: []float64{4, 1, 3}}, {Name: "b", Values: []float64{2, 2, 2}}, {Name: "c", Failure: "MISSING: c"}}}
	for _, c := range []struct {
		row    row
		median float64
		met    bool
	}{
		{row{Ours: "a", Peer: "b", Goal: 1.4}, 1.5, true},
		{row{Ours: "a", Peer: "b", Goal: 1.6}, 1.5, false},
		{row{Ours: "a", Peer: "b", Goal: 1.6, AtMost: true}, 1.5, true},
		{row{Ours: "a", Goal: 2, AtMost: true}, 3, false},
	} {
		v := r.verdict(c.row)
		require.Equal(t, c.median, v.median)
		require.Equal(t, c.met, v.met, "%+v", c.row)
	}
	require.Equal(t, "MISSING: c", r.verdict(row{Ours: "a", Peer: "c", Goal: 1}).missing)
	require.Equal(t, []string{"0.0123", "1.5", "12345", "0"}, []string{number(0.01234), number(1.5), number(12345.4), number(0)})
}

// stalls serves "OK" on any connection, but stands still once, at the n-th call.
func stalls(t *testing.T, n int, pause time.Duration) (network, address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	turn := make(chan int, 1) // held while a call is answered
	turn <- 0
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					req.Body.Close()
					calls := <-turn + 1
					if calls == n {
						time.Sleep(pause)
					}
					turn <- calls
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
				}
			}()
		}
	}()
	return "tcp", ln.Addr().String()
}
