//go:build linux

// Benchmarks measures gatehound against what people would pick instead: it
// builds our programs, starts them and whichever peers are on this machine, loads
// one after the other, several rounds of it, and writes a table, the raw figures
// and a picture. README.md beside this file says what it measures and how.
//
//	go run ./benchmarks -rounds 7 -duration 2s -out /tmp/figures
//
// Linux only, since it reads /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

// settings of a run. The flags are for the first four; only the smoke test
// makes the others smaller.
type settings struct {
	rounds   int
	duration time.Duration // of one measurement
	only     *regexp.Regexp
	out      string

	bulk  int64         // bytes of a large body
	turn  int           // how many tokens are used in turn
	idle  int           // idle connections
	quiet time.Duration // before their memory is measured
}

func main() {
	if play() {
		return
	}
	enterNamespace()
	s := settings{bulk: 1 << 30, turn: 10_000, idle: 10_000, quiet: 10 * time.Second}
	flag.IntVar(&s.rounds, "rounds", 7, "how often each is measured, in turn")
	flag.DurationVar(&s.duration, "duration", 2*time.Second, "how long one measurement loads one program")
	only := flag.String("only", "", "measure only the rows whose name matches this regular expression")
	flag.StringVar(&s.out, "out", ".", "folder for benchmarks.md, benchmarks.json and benchmarks.svg")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), "go run ./benchmarks [flags]\n\n"+
			"Peers: nginx and haproxy if they are installed, of-watchdog if PEER_WATCHDOG names\n"+
			"its binary; gcc builds a bare posix_spawn loop. Rows of peers that are not here say so.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		err = fmt.Errorf("-only: %w", err)
	} else {
		err = isolated(s)
	}
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted: nothing was written")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// isolated measures in a network namespace of its own where the system gives
// one: upstream's watchdog needs the ports 8000 and 8081, and nobody else's
// packets count. In there this program runs again.
func isolated(s settings) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if binaries := os.Getenv(binariesVariable); binaries != "" {
		return run(ctx, s, binaries, os.Stdout)
	}
	dir, err := os.MkdirTemp("", "benchmarks")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Println("building")
	if err := build(dir); err != nil {
		return err
	}
	inside, err := inNamespace(dir)
	if err != nil {
		fmt.Printf("NO NETWORK NAMESPACE (%v): others on this machine are heard, and of-watchdog needs the ports 8000 and 8081\n", err)
		return run(ctx, s, dir, os.Stdout)
	}
	context.AfterFunc(ctx, func() { inside.Process.Signal(syscall.SIGTERM) })
	if err := inside.Wait(); err != nil {
		os.RemoveAll(dir)
		os.Exit(1) // it has said why
	}
	return nil
}

// build builds our programs, and the spawn loop if there is a compiler, into dir.
func build(dir string) error {
	if err := measure.Build(dir, "watchdog/cmd/fwatchdog", "gateway/cmd/gateway"); err != nil {
		return err
	}
	if gcc, err := exec.LookPath("gcc"); err == nil {
		source := filepath.Join(dir, "spawn.c")
		if err := os.WriteFile(source, spawnSource, 0o600); err != nil {
			return err
		}
		if out, err := exec.Command(gcc, "-O2", "-pthread", "-o", filepath.Join(dir, "spawn"), source).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build the spawn loop: %w\n%s", err, out)
		}
	}
	return nil
}

// run measures everything that s asks for, with our programs in the folder
// binaries, and writes the results.
func run(ctx context.Context, s settings, binaries string, progress io.Writer) error {
	// One thread for the load, as wrk's: the others are for what is measured.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	b, err := newBench(s, binaries, progress)
	if err != nil {
		return err
	}
	defer b.close()
	results, err := b.measure(ctx)
	if err != nil {
		return err
	}
	return results.write(s.out, progress)
}
