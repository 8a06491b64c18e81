// Auth measures what jwt_auth costs: calls per second of a function that
// answers at once, with and without it, behind the built fwatchdog in http mode
// and with package watchdog inside the function. Both get the same bytes, the
// token included, over Unix sockets, which makes the share of the check larger
// than TCP would. Linux only, since it reads /proc.
//
//	go run ./benchmarks/auth -rounds 30 -round 1s
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/gatehound/gatehound/benchmarks/issuer"
	"github.com/gatehound/gatehound/benchmarks/measure"
)

// goal is the least ratio of authenticated calls per second to others.
const goal = 0.95

func main() {
	if play() {
		return
	}
	rounds := flag.Int("rounds", 30, "how many pairs of rounds a mode")
	round := flag.Duration("round", time.Second, "how long one round lasts")
	connections := flag.Int("connections", 8, "keep-alive connections")
	flag.Parse()
	results, err := compare(*rounds, *round, *connections, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "auth:", err)
		os.Exit(1)
	}
	for _, r := range results {
		if median(r.ratios()) < goal {
			fmt.Printf("%s: below the goal of %.2f\n", r.mode, goal)
			os.Exit(1)
		}
	}
}

// result has one number a round, of calls per second.
type result struct {
	mode       string
	with, open []float64
}

// ratios are the pairs': both rounds of one saw the same machine.
func (r result) ratios() []float64 {
	ratios := make([]float64, len(r.with))
	for i := range ratios {
		ratios[i] = r.with[i] / r.open[i]
	}
	return ratios
}

// compare runs both modes and prints a table.
func compare(rounds int, round time.Duration, connections int, out io.Writer) (results []result, err error) {
	dir, err := os.MkdirTemp("", "auth")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "fwatchdog")
	if err := measure.Build(dir, "watchdog/cmd/fwatchdog"); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	gateway, err := issuer.New()
	if err != nil {
		return nil, err
	}
	defer gateway.Close()
	token := gateway.Token("*")

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "mode\tcalls/s with jwt_auth\twithout\tratio\t25%\t75%\tCPU µs a call\twithout\t")
	for _, mode := range []string{"http", "inproc"} {
		r := result{mode: mode}
		var targets [2]*target
		for i, jwtAuth := range []string{"true", "false"} {
			env := []string{"jwt_auth=" + jwtAuth, "jwt_auth_authority=" + gateway.URL}
			switch mode {
			case "http":
				socket := filepath.Join(dir, "upstream-"+jwtAuth)
				env = append(env, "mode=http", "fprocess="+self, "upstream_url=unix://"+socket, roleVariable+"=upstream", socketVariable+"="+socket)
				targets[i], err = launch(program, filepath.Join(dir, mode+jwtAuth), env)
			case "inproc":
				targets[i], err = launch(self, filepath.Join(dir, mode+jwtAuth), append(env, roleVariable+"=function"))
			}
			if err != nil {
				return nil, fmt.Errorf("mode %s: %w", mode, err)
			}
			defer targets[i].stop()
		}
		if err := targets[0].mustRefuse(); err != nil {
			return nil, fmt.Errorf("mode %s: %w", mode, err)
		}
		for i := -1; i < rounds; i++ { // the first warms up
			var rates [2]float64
			for turn := range targets {
				which := (turn + i + 1) % 2 // neither is always the first
				if rates[which], err = targets[which].load(self, token, round, connections); err != nil {
					return nil, fmt.Errorf("mode %s: %w", mode, err)
				}
			}
			if i < 0 {
				targets[0].forget()
				targets[1].forget()
				continue
			}
			r.with, r.open = append(r.with, rates[0]), append(r.open, rates[1])
		}
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.3f\t%.3f\t%.3f\t%.1f\t%.1f\t\n", mode, median(r.with), median(r.open),
			median(r.ratios()), measure.Quantile(r.ratios(), 0.25), measure.Quantile(r.ratios(), 0.75), targets[0].cpuPerCall(), targets[1].cpuPerCall())
		results = append(results, r)
	}
	return results, table.Flush()
}

func median(values []float64) float64 { return measure.Quantile(values, 0.5) }
