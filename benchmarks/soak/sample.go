package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

// sample is what /proc says of a process at one moment.
type sample struct {
	at          time.Time
	rss         int // KiB
	descriptors int
	threads     int
	children    int
	zombies     []int // PIDs
}

// read takes a sample of pid.
func read(pid int) sample {
	s := sample{at: time.Now()}
	s.rss, _ = measure.Status(pid, "VmRSS")
	s.threads, _ = measure.Status(pid, "Threads")
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	s.descriptors = len(fds)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		b, _ := os.ReadFile(file)
		// "pid (name) state ppid …", where the name may hold anything.
		end := strings.LastIndexByte(string(b), ')')
		if end < 0 {
			continue
		}
		fields := strings.Fields(string(b[end+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		s.children++
		if fields[0] == "Z" {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			s.zombies = append(s.zombies, child)
		}
	}
	return s
}

// zombieSamples is how many samples in a row may see the same zombie: one
// between a process' end and its being waited for is no leak.
const zombieSamples = 3

func (t *target) sample() {
	s := read(t.cmd.Process.Pid)
	t.samples = append(t.samples, s)
	seen := make(map[int]int)
	for _, pid := range s.zombies {
		seen[pid] = t.zombies[pid] + 1
		if seen[pid] == zombieSamples {
			t.note("zombie", fmt.Errorf("process %d has ended and nobody waits for it", pid))
		}
	}
	t.zombies = seen
}

// wait waits for the last calls, then for the process to come to rest.
func (t *target) wait() {
	t.running.Wait()
	for range 50 {
		t.sample()
		last := t.samples[len(t.samples)-1]
		if last.descriptors <= t.idle.descriptors+slackAtRest && last.children <= t.idle.children {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// What counts as flat: the worst of the last third against the worst of the
// first third after the warm-up, with room for noise.
const (
	warmUp           = 5    // a fifth of the samples
	slackRSS         = 8192 // KiB, and a fifth
	slackDescriptors = 16
	slackThreads     = 6
	slackAtRest      = 10 // idle connections to the function
)

// peaks returns the worst values of samples.
func peaks(samples []sample) (p sample) {
	for _, s := range samples {
		p.rss, p.descriptors = max(p.rss, s.rss), max(p.descriptors, s.descriptors)
		p.threads, p.children = max(p.threads, s.threads), max(p.children, s.children)
	}
	return p
}

func (t *target) verdict() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	t.mu.Lock()
	for _, f := range t.failures {
		bad("%s", f)
	}
	if t.failed > len(t.failures) {
		bad("and %d failures more", t.failed-len(t.failures))
	}
	t.mu.Unlock()
	warm := t.samples[len(t.samples)/warmUp:]
	if len(warm) < 6 {
		return errors.Join(append(errs, fmt.Errorf("only %d samples: soak for longer", len(t.samples)))...)
	}
	first, last, rest := peaks(warm[:len(warm)/3]), peaks(warm[len(warm)*2/3:]), warm[len(warm)-1]
	if last.rss > first.rss+first.rss/5+slackRSS {
		bad("memory grows: %d KiB, later %d KiB", first.rss, last.rss)
	}
	if last.descriptors > first.descriptors+slackDescriptors {
		bad("descriptors grow: %d, later %d", first.descriptors, last.descriptors)
	}
	if last.threads > first.threads+slackThreads {
		bad("threads grow: %d, later %d", first.threads, last.threads)
	}
	if rest.descriptors > t.idle.descriptors+slackAtRest {
		bad("descriptors stay open: %d before the load, %d after it", t.idle.descriptors, rest.descriptors)
	}
	if rest.children > t.idle.children {
		bad("processes stay: %d before the load, %d after it", t.idle.children, rest.children)
	}
	return errors.Join(errs...)
}

// print writes the table: about ten moments, and the calls.
func (t *target) print(out io.Writer, name string) {
	fmt.Fprintf(out, "\n%s mode\n", name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "time\tRSS MiB\tdescriptors\tthreads\tchildren\tzombies\t")
	line := func(label string, s sample) {
		fmt.Fprintf(w, "%s\t%.1f\t%d\t%d\t%d\t%d\t\n", label, float64(s.rss)/1024, s.descriptors, s.threads, s.children, len(s.zombies))
	}
	line("idle", t.idle)
	for i := 0; i < len(t.samples)-1; i += max(1, len(t.samples)/10) {
		line(t.samples[i].at.Sub(t.idle.at).Round(time.Second).String(), t.samples[i])
	}
	line("at rest", t.samples[len(t.samples)-1])
	line("peak", peaks(t.samples))
	w.Flush()
	t.mu.Lock()
	defer t.mu.Unlock()
	total := 0
	for _, n := range t.calls {
		total += n
	}
	fmt.Fprintf(out, "%d calls, %d failures:", total, t.failed)
	for _, kind := range slices.Sorted(maps.Keys(t.calls)) {
		fmt.Fprintf(out, " %s %d", kind, t.calls[kind])
	}
	fmt.Fprintln(out)
}
