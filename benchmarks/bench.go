//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/gatehound/gatehound/benchmarks/issuer"
)

// bench is one run.
type bench struct {
	settings
	progress io.Writer
	dir      string            // of what is running
	binaries string            // folder of our programs
	programs map[string]string // of others: name → path; those that are here
	upstream string            // of-watchdog; "" = it is not here
	self     string            // this program, which is also the function

	issuer *issuer.Issuer
	token  string
	tokens []string // used in turn
	rate   float64  // calls per second: half of what ours and nginx both can
}

func newBench(s settings, binaries string, progress io.Writer) (*bench, error) {
	b := &bench{settings: s, progress: progress, binaries: binaries, programs: make(map[string]string), upstream: os.Getenv("PEER_WATCHDOG")}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	for _, name := range []string{"nginx", "haproxy", "wrk"} {
		// Debian has them where only root looks.
		for _, candidate := range []string{name, "/usr/sbin/" + name} {
			if path, err := exec.LookPath(candidate); err == nil {
				b.programs[name] = path
			}
		}
	}
	if b.upstream != "" {
		if b.upstream, err = filepath.Abs(b.upstream); err != nil {
			return nil, err
		}
		if _, err := os.Stat(b.upstream); err != nil {
			return nil, fmt.Errorf("PEER_WATCHDOG: %w", err)
		}
	}
	if b.issuer, err = issuer.NewAt(localAuthority[len("http://"):]); err != nil {
		if b.issuer, err = issuer.New(); err != nil { // of-watchdog's rows will say so
			return nil, err
		}
	}
	if b.dir, err = os.MkdirTemp("", "benchmarks"); err != nil {
		b.issuer.Close()
		return nil, err
	}
	b.token = b.issuer.Token("*")
	for range s.turn {
		b.tokens = append(b.tokens, b.issuer.Token("*"))
	}
	return b, nil
}

func (b *bench) close() {
	b.issuer.Close()
	os.RemoveAll(b.dir)
}

// A trial measures one thing once. What it returns is in the unit of its series.
type trial func(ctx context.Context) (float64, error)

// series is what was measured of one thing, a figure a round.
type series struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Values  []float64 `json:"values"` // one for each round
	Failure string    `json:"failure,omitempty"`

	trial trial
}

// row compares the series ours and peer, round by round.
type row struct {
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Ours   string  `json:"ours"`
	Peer   string  `json:"peer,omitempty"` // "" = ours is the figure itself
	Goal   float64 `json:"goal,omitempty"` // 0 = none: the row is there to be known
	AtMost bool    `json:"at_most,omitempty"`
}

// group is measured together, so that its series see the same machine.
type group struct {
	series []series
	rows   []row
}

// measure measures all groups that have a row that was asked for.
func (b *bench) measure(ctx context.Context) (*results, error) {
	r := &results{Machine: describe(b), Rounds: b.rounds, Duration: b.duration.String(), Bulk: b.bulk, Tokens: len(b.tokens), Idle: b.idle}
	for _, g := range b.groups() {
		rows, needed := b.wanted(g.rows)
		if len(rows) == 0 {
			continue
		}
		for round := range b.rounds {
			for turn := range g.series {
				s := &g.series[turn]
				if round%2 == 1 { // nobody is always the first
					s = &g.series[len(g.series)-1-turn]
				}
				if !needed[s.Name] || s.Failure != "" {
					continue
				}
				value, err := s.trial(ctx)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				if err != nil {
					s.Failure = err.Error()
					if !errors.Is(err, errMissing) {
						s.Failure = "FAILED: " + s.Failure
					}
					fmt.Fprintf(b.progress, "%s: %s\n", s.Name, s.Failure)
					continue
				}
				s.Values = append(s.Values, value)
				fmt.Fprintf(b.progress, "round %d/%d  %s: %s\n", round+1, b.rounds, s.Name, amount(value, s.Unit))
			}
		}
		for _, s := range g.series {
			if needed[s.Name] {
				r.Series = append(r.Series, s)
			}
		}
		r.Rows = append(r.Rows, rows...)
	}
	if len(r.Rows) == 0 {
		return nil, fmt.Errorf("-only %s matches no row", b.only)
	}
	r.Rate = b.rate
	return r, nil
}

// wanted returns the rows that were asked for, and the series they need.
func (b *bench) wanted(all []row) (rows []row, needed map[string]bool) {
	needed = make(map[string]bool)
	for _, r := range all {
		if b.only == nil || b.only.MatchString(r.Name) {
			rows = append(rows, r)
			needed[r.Ours], needed[r.Peer] = true, true
		}
	}
	return rows, needed
}

// with is a trial of a program that start starts: it is stopped afterwards.
func (b *bench) with(start starter, f func(ctx context.Context, s *subject) (float64, error)) trial {
	return func(ctx context.Context) (float64, error) {
		s, err := start(ctx)
		if err != nil {
			return 0, err
		}
		defer s.stop()
		if err := s.ready(ctx); err != nil {
			return 0, err
		}
		value, err := f(ctx, s)
		if err != nil {
			err = fmt.Errorf("%w; the end of the log: %s", err, s.log())
		}
		return value, err
	}
}
