// Soak runs mixed load against the built fwatchdog, in http mode and in a mode
// that forks, and fails unless memory, descriptors, threads and zombies stay
// flat. Loopback only; Linux only, since it reads /proc.
//
//	go run ./benchmarks/soak -duration 10m
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehound/gatehound/benchmarks/issuer"
	"github.com/gatehound/gatehound/benchmarks/measure"
)

func main() {
	if socket := os.Getenv(functionVariable); socket != "" {
		serveFunction(socket)
		return
	}
	duration := flag.Duration("duration", 10*time.Minute, "how long to keep the load up")
	flag.Parse()
	if err := soak(*duration, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak keeps the load up for duration and prints a table and a verdict to out.
func soak(duration time.Duration, out *os.File) error {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := measure.Build(dir, "watchdog/cmd/fwatchdog"); err != nil {
		return err
	}
	program := filepath.Join(dir, "fwatchdog")
	gateway, err := issuer.New()
	if err != nil {
		return err
	}
	defer gateway.Close()

	self, err := os.Executable()
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "f")
	modes := map[string][]string{
		"http":      {"mode=http", "fprocess=" + self, "upstream_url=unix://" + socket, functionVariable + "=" + socket},
		"streaming": {"mode=streaming", "fprocess=" + forkedFunction},
	}
	targets := make(map[string]*target)
	for name, env := range modes {
		t, err := launch(program, filepath.Join(dir, name), gateway, env)
		if err != nil {
			return fmt.Errorf("%s mode: %w", name, err)
		}
		defer t.stop()
		t.workers = map[string]int{"http": 8, "streaming": 3}[name]
		targets[name] = t
	}

	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	for _, t := range targets {
		t.load(ctx)
	}
	every := min(max(duration/200, 100*time.Millisecond), 5*time.Second)
	for ticker := time.NewTicker(every); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			ticker.Stop()
		case <-ticker.C:
			for _, t := range targets {
				t.sample()
			}
		}
	}
	for _, t := range targets {
		t.wait()
	}
	for _, name := range []string{"http", "streaming"} {
		t := targets[name]
		t.print(out, name)
		if verdict := t.verdict(); verdict != nil {
			err = fmt.Errorf("%s mode: %w", name, verdict)
			fmt.Fprintln(out, "FAIL:", err)
		}
	}
	return err
}
