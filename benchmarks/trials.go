//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

// measurement is taken of a program that is ready.
type measurement func(ctx context.Context, s *subject) (float64, error)

// many takes the same measurement of several programs.
func (b *bench) many(unit string, f measurement, programs map[string]starter) (all []series) {
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		all = append(all, series{Name: name, Unit: unit, trial: b.with(programs[name], f)})
	}
	return all
}

// warmUp is a part of the load that does not count.
func (b *bench) warmUp(ctx context.Context, l load) error {
	l.duration, l.rate = b.duration/5, 0
	_, err := l.run(ctx)
	return err
}

// saturated measures calls per second.
func (b *bench) saturated(connections int) measurement {
	return func(ctx context.Context, s *subject) (float64, error) {
		l := s.load(connections, b.duration)
		if err := b.warmUp(ctx, l); err != nil {
			return 0, err
		}
		o, err := l.run(ctx)
		return o.perSecond, err
	}
}

// cpuOfCall measures the CPU time of a call that a program uses itself, its
// workers' included, in µs. What else the machine does changes its ratios less
// than those of calls per second.
func (b *bench) cpuOfCall(ctx context.Context, s *subject) (float64, error) {
	l := s.load(32, b.duration)
	if err := b.warmUp(ctx, l); err != nil {
		return 0, err
	}
	before, err1 := s.cpu()
	o, err2 := l.run(ctx)
	after, err3 := s.cpu()
	return microseconds(after-before) / float64(max(1, len(o.latencies))), errors.Join(err1, err2, err3)
}

// wrk measures calls per second by another load generator, to check ours.
func (b *bench) wrk(ctx context.Context, s *subject) (float64, error) {
	if b.programs["wrk"] == "" {
		return 0, fmt.Errorf("%w: wrk is not installed", errMissing)
	}
	seconds := max(1, int(b.duration.Seconds())) // it knows no fractions
	out, err := exec.CommandContext(ctx, b.programs["wrk"], "-t1", "-c32", "-d", fmt.Sprint(seconds), "-H", "Authorization: Bearer "+s.token, "http://"+s.address+s.path).Output()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "Requests/sec:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(rest), 64)
		}
	}
	return 0, fmt.Errorf("wrk printed %q", out)
}

// latency measures the median at one connection, in µs.
func (b *bench) latency(ctx context.Context, s *subject) (float64, error) {
	l := s.load(1, b.duration)
	if err := b.warmUp(ctx, l); err != nil {
		return 0, err
	}
	o, err := l.run(ctx)
	if err != nil {
		return 0, err
	}
	return microseconds(o.quantile(0.5)), nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// tail measures the 99th percentile, in µs, at half of the calls per second that
// both one and other can answer; the same rate for both.
func (b *bench) tail(start, one, other starter) trial {
	at := b.with(start, func(ctx context.Context, s *subject) (float64, error) {
		l := s.load(32, b.duration)
		if err := b.warmUp(ctx, l); err != nil {
			return 0, err
		}
		l.rate = b.rate
		o, err := l.run(ctx)
		if err != nil {
			return 0, err
		}
		return microseconds(o.quantile(0.99)), nil
	})
	return func(ctx context.Context) (float64, error) {
		if b.rate == 0 {
			first, err1 := b.with(one, b.saturated(32))(ctx)
			second, err2 := b.with(other, b.saturated(32))(ctx)
			if err := errors.Join(err1, err2); err != nil {
				return 0, err
			}
			b.rate = min(first, second) / 2
			fmt.Fprintf(b.progress, "half of the saturation rate: %.0f calls/s\n", b.rate)
		}
		return at(ctx)
	}
}

// cold measures calls per second with each token for the first time.
func (b *bench) cold(ctx context.Context, s *subject) (float64, error) {
	l := s.load(32, b.duration)
	if err := b.warmUp(ctx, l); err != nil { // with a token of its own
		return 0, err
	}
	l.requests, l.calls = nil, len(b.tokens)
	for _, token := range b.tokens {
		l.requests = append(l.requests, s.request("GET", s.path, token, ""))
	}
	o, err := l.run(ctx)
	return o.perSecond, err
}

// What the modes that fork are sent, and on how many connections.
const (
	forkBody        = "hello"
	forkConnections = 4
)

// forked measures calls per second of a program that forks cat.
func (b *bench) forked(ctx context.Context, s *subject) (float64, error) {
	l := s.load(forkConnections, b.duration)
	l.requests, l.want = [][]byte{s.request("POST", s.path, s.token, forkBody)}, forkBody
	if err := b.warmUp(ctx, l); err != nil {
		return 0, err
	}
	o, err := l.run(ctx)
	return o.perSecond, err
}

// spawned measures how many processes a second a bare loop spawns.
func (b *bench) spawned(ctx context.Context) (float64, error) {
	program := filepath.Join(b.binaries, "spawn")
	if _, err := os.Stat(program); err != nil {
		return 0, fmt.Errorf("%w: gcc is not installed", errMissing)
	}
	cmd := exec.CommandContext(ctx, program, strconv.Itoa(forkConnections), fmt.Sprint(b.duration.Seconds()), forkBody)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("spawn: %w: %s", err, stderr.Bytes())
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

// exchanges measures the gateway's CPU time of an exchange, in µs; each is of
// another subject token.
func (b *bench) exchanges(ctx context.Context, s *subject) (float64, error) {
	l := load{network: s.network, address: s.address, connections: 4, calls: len(b.tokens)}
	header := "POST /oauth/token HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s"
	for range b.tokens {
		body := exchangeForm(b.issuer.IDToken("alice"))
		l.requests = append(l.requests, fmt.Appendf(nil, header, len(body), body))
	}
	warm := l
	warm.calls = max(1, len(b.tokens)/5)
	warm.requests = [][]byte{[]byte(l.requests[0])}
	if _, err := warm.run(ctx); err != nil {
		return 0, err
	}
	before, err1 := s.cpu()
	_, err2 := l.run(ctx)
	after, err3 := s.cpu()
	return microseconds(after-before) / float64(l.calls), errors.Join(err1, err2, err3)
}

// signatures measures the CPU time of one verification and one signature, in µs.
func (b *bench) signatures(ctx context.Context) (float64, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	digest := sha256.Sum256([]byte("a token"))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const rusageThread = 1
	var before, after syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &before); err != nil {
		return 0, err
	}
	n := 0
	for start := time.Now(); time.Since(start) < b.duration && ctx.Err() == nil; n++ {
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return 0, fmt.Errorf("a signature does not verify: %w", err)
		}
	}
	if err := syscall.Getrusage(rusageThread, &after); err != nil {
		return 0, err
	}
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	return float64(used) / 1000 / float64(n), nil
}

// transfer makes one call with a large body, either way, and returns its MiB/s.
func (b *bench) transfer(ctx context.Context, s *subject, method, path string) (float64, error) {
	var body io.Reader
	if method == "POST" {
		body = io.LimitReader(zeros{}, b.bulk)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://function"+path, body)
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.ContentLength = b.bulk
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	c := s.client()
	c.Timeout = 0
	defer c.CloseIdleConnections()
	began := time.Now()
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var moved int64
	if method == "POST" {
		var answer []byte
		if answer, err = io.ReadAll(res.Body); err == nil {
			moved, _ = strconv.ParseInt(string(answer), 10, 64)
		}
	} else {
		moved, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, make([]byte, 64<<10))
	}
	if err != nil || moved != b.bulk || res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s %s: status %d, %d bytes of %d: %w", method, path, res.StatusCode, moved, b.bulk, err)
	}
	return float64(moved) / (1 << 20) / time.Since(began).Seconds(), nil
}

func (b *bench) up(ctx context.Context, s *subject) (float64, error) {
	return b.transfer(ctx, s, "POST", "/count")
}

func (b *bench) down(ctx context.Context, s *subject) (float64, error) {
	return b.transfer(ctx, s, "GET", fmt.Sprintf("/bytes?n=%d", b.bulk))
}

// peak measures the most memory that a program ever had during both, in MiB.
func (b *bench) peak(ctx context.Context, s *subject) (float64, error) {
	_, err1 := b.up(ctx, s)
	_, err2 := b.down(ctx, s)
	bytes, err3 := s.memory("VmHWM")
	return bytes / (1 << 20), errors.Join(err1, err2, err3)
}

// idle measures the memory of a program that has answered a call or two.
func idle(_ context.Context, s *subject) (float64, error) {
	time.Sleep(300 * time.Millisecond)
	bytes, err := s.memory("VmRSS")
	return bytes / (1 << 20), err
}

func fileSize(path string) trial {
	return func(context.Context) (float64, error) {
		if path == "" {
			return 0, fmt.Errorf("%w: PEER_WATCHDOG names no of-watchdog binary", errMissing)
		}
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		return float64(info.Size()) / (1 << 20), nil
	}
}

// starts measures the time from a process' start to its first 200 from
// /_/health, in ms: the median of five.
func starts(start starter) trial {
	return func(ctx context.Context) (float64, error) {
		var times []float64
		for range 5 {
			began := time.Now()
			s, err := start(ctx)
			if err != nil {
				return 0, err
			}
			request := s.request("GET", "/_/health", "", "")
			for {
				l := load{network: s.network, address: s.address, connections: 1, requests: [][]byte{request}, calls: 1}
				if _, err = l.run(ctx); err == nil {
					times = append(times, float64(time.Since(began))/float64(time.Millisecond))
					break
				}
				if time.Since(began) > patience || ctx.Err() != nil {
					s.stop()
					return 0, fmt.Errorf("not healthy after %s: %w", patience, err)
				}
				pause := syscall.NsecToTimespec(100_000) // time.Sleep takes a millisecond
				syscall.Nanosleep(&pause, nil)
			}
			s.stop()
		}
		return measure.Quantile(times, 0.5), nil
	}
}

// idleConnections measures the memory that each idle connection takes, in KiB.
// All have made a call.
func (b *bench) idleConnections(ctx context.Context, s *subject) (float64, error) {
	l := s.load(b.settings.idle, 0)
	before, err := s.memory("VmRSS")
	if err != nil {
		return 0, err
	}
	connections, closeAll, err := l.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	errs := make([]error, 32)
	var workers sync.WaitGroup
	for i := range errs {
		workers.Go(func() {
			for n := i; n < len(connections) && errs[i] == nil; n += len(errs) {
				if _, errs[i] = connections[n].Write(l.requests[0]); errs[i] == nil {
					errs[i] = connections[n].receive(l.want)
				}
			}
		})
	}
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	time.Sleep(b.settings.quiet)
	after, err := s.memory("VmRSS")
	if err != nil {
		return 0, err
	}
	descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil || len(descriptors) < len(connections) {
		return 0, fmt.Errorf("%d descriptors for %d connections: some were closed: %w", len(descriptors), len(connections), err)
	}
	return (after - before) / 1024 / float64(len(connections)), nil
}
