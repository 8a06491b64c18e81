//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehound/gatehound/benchmarks/measure"
)

// results are what benchmarks.json holds.
type results struct {
	Machine  machine  `json:"machine"`
	Rounds   int      `json:"rounds"`
	Duration string   `json:"duration"`
	Bulk     int64    `json:"bulk_bytes"`
	Tokens   int      `json:"tokens"`
	Idle     int      `json:"idle_connections"`
	Rate     float64  `json:"rate,omitempty"` // calls per second, of the 99th percentile
	Rows     []row    `json:"rows"`
	Series   []series `json:"series"`
}

// verdict of a row.
type verdict struct {
	ours, peer   *series
	median       float64 // of the rounds' ratios, or of the figure itself
	low, high    float64 // their quartiles
	missing      string  // why there is none of that; "" = there is
	met, hasGoal bool
}

func (r *results) verdict(w row) verdict {
	v := verdict{hasGoal: w.Goal > 0}
	for i := range r.Series {
		switch s := &r.Series[i]; s.Name {
		case w.Ours:
			v.ours = s
		case w.Peer:
			v.peer = s
		}
	}
	for _, s := range []*series{v.ours, v.peer} {
		if s != nil && s.Failure != "" {
			v.missing = s.Failure
			return v
		}
	}
	ratios := slices.Clone(v.ours.Values)
	if v.peer != nil {
		for i := range ratios { // both of a round saw the same machine
			ratios[i] /= v.peer.Values[i]
		}
	}
	v.median, v.low, v.high = measure.Quantile(ratios, 0.5), measure.Quantile(ratios, 0.25), measure.Quantile(ratios, 0.75)
	v.met = v.median >= w.Goal
	if w.AtMost {
		v.met = v.median <= w.Goal
	}
	return v
}

// write writes the three files into the folder dir and the table to out.
func (r *results) write(dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	table := r.markdown()
	fmt.Fprintln(out, "\n"+table)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "benchmarks.json"), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(table), 0o644),
		os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(r.svg()), 0o644))
}

func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%d rounds, %s each; medians, in brackets the quartiles. A ratio is formed within a round.", r.Machine, r.Rounds, r.Duration)
	if r.Rate > 0 {
		fmt.Fprintf(&b, " Half of the saturation rate is %.0f calls/s.", r.Rate)
	}
	b.WriteString("\n\n")
	b.WriteString("| row | what | goal | measured | | ours | peer |\n|---|---|---|---|---|---|---|\n")
	for _, w := range r.Rows {
		v := r.verdict(w)
		goal := "–"
		if w.Goal > 0 {
			goal = "≥ " + number(w.Goal)
			if w.AtMost {
				goal = "≤ " + number(w.Goal)
			}
		}
		if v.missing != "" {
			fmt.Fprintf(&b, "| %s | %s | %s | **%s** | not measured | %s | %s |\n", w.Name, w.What, goal, oneLine(v.missing), figure(v.ours), figure(v.peer))
			continue
		}
		word := ""
		if v.hasGoal {
			word = map[bool]string{true: "met", false: "**missed**"}[v.met]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s [%s, %s] | %s | %s | %s |\n", w.Name, w.What, goal, number(v.median), number(v.low), number(v.high), word, figure(v.ours), figure(v.peer))
	}
	return b.String()
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}

// figure is a series' median, with its unit.
func figure(s *series) string {
	if s == nil || len(s.Values) == 0 {
		return ""
	}
	return amount(measure.Quantile(s.Values, 0.5), s.Unit)
}

func amount(value float64, unit string) string { return number(value) + " " + unit }

// number has three digits, or more before the point.
func number(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return fmt.Sprint(x)
	}
	digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	s := fmt.Sprintf("%.*f", digits, x)
	if digits > 0 {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

func size(bytes int64) string {
	if bytes >= 1<<30 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// svg is the table as a picture: how many times the goal each row reaches. It
// takes the colours of the page around it.
func (r *results) svg() string {
	const left, unit, height, most = 180, 160, 22, 2.5
	const figures = left + most*unit + 8 // a column beside the bars
	var bars strings.Builder
	y := 30
	for _, w := range r.Rows {
		v := r.verdict(w)
		if !v.hasGoal {
			continue
		}
		fmt.Fprintf(&bars, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-8, y+15, w.Name)
		if v.missing != "" {
			fmt.Fprintf(&bars, `<text x="%d" y="%d" class="quiet">not measured</text>`, int(figures), y+15)
		} else {
			times, class, sign := v.median/w.Goal, "missed", "≥"
			if w.AtMost {
				times, sign = w.Goal/v.median, "≤"
			}
			if v.met {
				class = "met"
			}
			width := min(times, most) * unit
			fmt.Fprintf(&bars, `<rect x="%d" y="%d" width="%.0f" height="%d" rx="2" class="%s"/>`, left, y+3, max(width, 2), height-6, class)
			fmt.Fprintf(&bars, `<text x="%d" y="%d">%s <tspan class="quiet">(%s %s)</tspan></text>`, int(figures), y+15, number(v.median), sign, number(w.Goal))
		}
		bars.WriteByte('\n')
		y += height
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12">
<style>
text { fill: #24292f } .quiet { fill: #6e7781 } .met { fill: #2da44e } .missed { fill: #cf222e } line { stroke: #6e7781 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #8b949e } .met { fill: #3fb950 } .missed { fill: #f85149 } }
</style>
%s<line x1="%d" x2="%d" y1="24" y2="%d" stroke-dasharray="3 3"/><text x="%d" y="16" text-anchor="middle" class="quiet">the goal</text>
</svg>
`, int(figures)+110, y+8, bars.String(), left+unit, left+unit, y+4, left+unit)
}
