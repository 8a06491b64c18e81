package chart

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gatehound/gatehound/gateway/history"
)

// noCalls is shown in place of all pictures of an hour without calls.
const noCalls = "No calls in the last hour."

// Calls draws the calls per minute by status code.
func Calls(h history.Hour) template.HTML {
	total := sum(h.Calls())
	return Chart{
		Title: "Calls per minute", Empty: noCalls, Whole: !h.Everywhere,
		Summary: fmt.Sprintf("%s, %s a minute on average", count(total, "call"), Number(total/float64(counted(h)))),
		Series:  byCode(h, func(int) bool { return true }),
	}.Stacked()
}

// Errors draws the calls that failed, by status code.
func Errors(h history.Hour) template.HTML {
	failed, total := failures(h), sum(h.Calls())
	empty := "No errors in the last hour."
	if total == 0 {
		empty = noCalls
	}
	return Chart{
		Title: "Errors per minute", Empty: empty, Whole: !h.Everywhere,
		Summary: fmt.Sprintf("%s, %s of calls", count(failed, "error"), Percent(failed, total)),
		Series:  byCode(h, isError),
	}.Stacked()
}

// Latency draws how long calls took.
func Latency(h history.Hour) template.HTML {
	c := Chart{Title: "Latency", Empty: noCalls, Format: Seconds}
	for _, p := range []int{50, 95, 99} {
		q := float64(p) / 100
		c.Series = append(c.Series, Series{Name: fmt.Sprintf("p%d", p), Class: fmt.Sprintf("p%d", p), Total: Seconds(h.Overall(q)), Values: h.Quantile(q)})
	}
	c.Summary = "half of the calls were answered within " + Seconds(h.Overall(0.5))
	return c.Lines()
}

// Line draws the calls of an hour for a table's cell.
func Line(h history.Hour) template.HTML {
	total := sum(h.Calls())
	if total == 0 {
		return Spark("no calls", "", nil)
	}
	return Spark(count(total, "call")+" in the last hour, "+count(failures(h), "error"), "calls", h.Calls())
}

// Rate says how many calls there were, and ErrorShare how many of them failed;
// each "–" without calls.
func Rate(h history.Hour) string {
	if total := sum(h.Calls()); total > 0 {
		return Number(total/float64(counted(h))) + "/min"
	}
	return "–"
}

// ErrorShare is told at Rate.
func ErrorShare(h history.Hour) string { return Percent(failures(h), sum(h.Calls())) }

// counted is over how many minutes an hour's calls are spread: fewer after a start.
func counted(h history.Hour) int {
	if h.Since.IsZero() {
		return history.Minutes
	}
	return min(max(int(time.Since(h.Since).Round(time.Minute)/time.Minute), 1), history.Minutes)
}

func isError(code int) bool { return code >= 400 }

func failures(h history.Hour) (n float64) {
	for code, values := range h.Codes {
		if isError(code) {
			n += sum(values)
		}
	}
	return n
}

// perClass is how many codes of a class, such as 4xx, have a colour of their own:
// more of a hue could not be told apart.
const perClass = 2

// byCode makes a series of each code that is wanted; the rarer ones of a class are
// one together.
func byCode(h history.Hour, wanted func(code int) bool) []Series {
	var all []Series
	for class := 1; class <= 9; class++ {
		var codes []int
		for _, code := range h.SortedCodes() {
			if code/100 == class && wanted(code) {
				codes = append(codes, code)
			}
		}
		slices.SortStableFunc(codes, func(a, b int) int { return cmp.Compare(sum(h.Codes[b]), sum(h.Codes[a])) })
		hue := min(max(class, 2), 5) // 1xx is none that a call ends with, and what is above 5xx is no success
		for i, code := range codes {
			if i == perClass && len(codes) > perClass+1 {
				rest := make([]float64, history.Minutes)
				for _, code := range codes[i:] {
					for minute, n := range h.Codes[code] {
						rest[minute] += n
					}
				}
				all = append(all, Series{Name: fmt.Sprintf("other %dxx", class), Class: fmt.Sprintf("c%d-%d", hue, i), Total: Number(sum(rest)), Values: rest})
				break
			}
			name := strconv.Itoa(code)
			if text := http.StatusText(code); text != "" {
				name += " " + text
			}
			all = append(all, Series{Name: name, Class: fmt.Sprintf("c%d-%d", hue, i), Total: Number(sum(h.Codes[code])), Values: h.Codes[code]})
		}
	}
	return all
}

func sum(values []float64) (total float64) {
	for _, v := range values {
		if known(v) {
			total += v
		}
	}
	return total
}

// count writes a number of things: "1 call", "2k calls".
func count(n float64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Number(n) + " " + thing + "s"
}
