// Package chart draws the minutes of an hour as inline SVG: stacked bars, lines,
// and a small picture for a table's cell. It writes no script and no style
// attribute, which a strict Content-Security-Policy would block: the style sheet
// says which colour a class has, in light and in dark. All text is HTML beside
// the picture, so that it keeps its size when the picture is stretched; and there
// is a table of the figures for who cannot see the picture.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Chart is a picture of values by minute, the last of which is under way.
type Chart struct {
	// Title says what is shown: "Calls per minute".
	Title string
	// Summary says what there is to see, in a sentence; "" = nothing.
	Summary string
	// Empty is shown in place of a picture without any value above 0.
	Empty string
	// Format writes a value; nil = Number.
	Format func(float64) string
	// Whole says that the axis has whole numbers alone.
	Whole bool
	// Series are drawn in this order, in Stacked from the bottom.
	Series []Series
}

// Series are the values of one kind.
type Series struct {
	Name string
	// Class has the style sheet colour it; see the classes in it.
	Class string
	// Total is shown beside the name; "" = nothing.
	Total string
	// Values are oldest first; all series of a chart have the same number. What
	// is no finite number from 0 up is no value: a gap.
	Values []float64
}

// The size of a picture in its own units. It is stretched to the place it has.
const (
	width  = 600.0
	height = 160.0
)

// most is the highest value that is drawn as it is.
const most = 1e15

// Stacked draws bars, those of a minute on top of each other.
func (c Chart) Stacked() template.HTML {
	n := c.minutes()
	sums := make([]float64, n)
	for _, s := range c.Series {
		for i, v := range s.Values {
			if known(v) {
				sums[i] = min(sums[i]+min(v, most), most)
			}
		}
	}
	return c.figure(highest(sums), func(b *strings.Builder, top float64) {
		bar := width / float64(n)
		base := make([]float64, n)
		for _, s := range c.Series {
			fmt.Fprintf(b, `<path class="bar %s" d="`, escape(s.Class))
			for i, v := range s.Values {
				if !known(v) || v == 0 {
					continue
				}
				from, to := height*(1-base[i]/top), height*(1-min(base[i]+v, top)/top)
				fmt.Fprintf(b, "M%s %sV%sh%sV%sz", point(float64(i)*bar+bar*0.1), point(from), point(to), point(bar*0.8), point(from))
				base[i] = min(base[i]+v, top)
			}
			b.WriteString(`"/>`)
		}
	})
}

// Lines draws a line for each series, with gaps where it has no value.
func (c Chart) Lines() template.HTML {
	top := 0.0
	for _, s := range c.Series {
		top = max(top, highest(s.Values))
	}
	n := c.minutes()
	return c.figure(top, func(b *strings.Builder, top float64) {
		for _, s := range c.Series {
			drawn, dots := line(s.Values, n, top, height, width)
			fmt.Fprintf(b, `<path class="line %[1]s" d="%[2]s"/><path class="dot %[1]s" d="%[3]s"/>`, escape(s.Class), drawn, dots)
		}
	})
}

// Spark draws values as a small picture without axes, for a cell of a table.
// label says in words what is in it.
func Spark(label, class string, values []float64) template.HTML {
	const width, height = 120.0, 24.0
	if highest(values) == 0 {
		return template.HTML(`<span class="none">` + escape(label) + `</span>`)
	}
	// A stroke's own half would be cut off at the top. What closes the area is
	// outside of the picture.
	drawn, _ := line(zeros(values), len(values), highest(values)*1.08, height, width)
	return template.HTML(fmt.Sprintf(`<svg class="spark %s" viewBox="0 0 %v %v" preserveAspectRatio="none" role="img" aria-label="%s"><path d="M-9 99V%[3]v%[5]sH999V99"/></svg>`,
		escape(class), width, height, escape(label), strings.ReplaceAll(drawn, "M", "L")))
}

// zeros has a 0 for each gap.
func zeros(values []float64) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		if known(v) {
			all[i] = v
		}
	}
	return all
}

// line is the d of a path through the values, and that of the dots for those
// between two gaps: lines without a length, which have a round cap.
func line(values []float64, n int, top, height, width float64) (drawn, dots string) {
	var lines, points strings.Builder
	step := width / float64(n)
	drawing := false
	for i, v := range values {
		if !known(v) {
			drawing = false
			continue
		}
		x, y := point((float64(i)+0.5)*step), point(height*(1-min(v, top)/top))
		switch {
		case drawing && 0 < i && i+1 < len(values) && values[i-1] == v && v == values[i+1]:
			// The line goes through here anyway.
		case drawing:
			fmt.Fprintf(&lines, "L%s %s", x, y)
		case i+1 < len(values) && known(values[i+1]):
			fmt.Fprintf(&lines, "M%s %s", x, y)
		default:
			fmt.Fprintf(&points, "M%s %sh0", x, y)
		}
		drawing = true
	}
	return lines.String(), points.String()
}

func (c Chart) minutes() int {
	n := 0
	for _, s := range c.Series {
		n = max(n, len(s.Values))
	}
	return n
}

// steps are how many parts the axis of values has.
const steps = 4

// figure writes all but what is drawn.
func (c Chart) figure(highest float64, draw func(b *strings.Builder, top float64)) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<figure class="chart"><figcaption><span class="title">%s</span>`, escape(c.Title))
	if c.Summary != "" && highest > 0 {
		fmt.Fprintf(&b, ` <span class="summary">%s</span>`, escape(c.Summary))
	}
	b.WriteString("</figcaption>")
	if highest == 0 {
		fmt.Fprintf(&b, `<p class="empty">%s</p></figure>`, escape(c.Empty))
		return template.HTML(b.String())
	}

	top := axis(highest, c.Whole)
	b.WriteString(`<div class="plot"><div class="y" aria-hidden="true">`)
	for i := steps; i >= 0; i-- {
		fmt.Fprintf(&b, "<span>%s</span>", escape(c.format(top*float64(i)/steps)))
	}
	fmt.Fprintf(&b, `</div><svg viewBox="0 0 %v %v" preserveAspectRatio="none" role="img" aria-label="%s"><path class="grid" d="`,
		width, height, escape(strings.TrimSuffix(c.Title+". "+c.Summary, ". ")))
	for i := range steps + 1 {
		fmt.Fprintf(&b, "M0 %sH%v", point(height*float64(i)/steps), width)
	}
	b.WriteString(`"/>`)
	draw(&b, top)
	c.tips(&b)
	b.WriteString("</svg>")
	n := c.minutes()
	fmt.Fprintf(&b, `<div class="x" aria-hidden="true"><span>%d min ago</span><span>%d</span><span>%d</span><span>%d</span><span>now</span></div></div>`, n, n*3/4, n/2, n/4)
	c.legend(&b)
	c.table(&b)
	b.WriteString("</figure>")
	return template.HTML(b.String())
}

// tips are what a pointer that rests on a minute is told.
func (c Chart) tips(b *strings.Builder) {
	n := c.minutes()
	bar := width / float64(n)
	b.WriteString(`<g class="tips">`)
	for i := range n {
		if said := c.said(i); said != "" {
			fmt.Fprintf(b, `<rect x="%s" width="%s" height="%v"><title>%s</title></rect>`, point(float64(i)*bar), point(bar), height, escape(ago(n-1-i)+"\n"+said))
		}
	}
	b.WriteString("</g>")
}

// said is what there was in a minute; "" = nothing.
func (c Chart) said(minute int) string {
	var lines []string
	for _, s := range c.Series {
		if minute < len(s.Values) && known(s.Values[minute]) && s.Values[minute] > 0 {
			lines = append(lines, s.Name+": "+c.format(s.Values[minute]))
		}
	}
	return strings.Join(lines, "\n")
}

func (c Chart) legend(b *strings.Builder) {
	b.WriteString(`<ul class="legend">`)
	for _, s := range c.Series {
		fmt.Fprintf(b, `<li><svg class="key %s" viewBox="0 0 16 10" aria-hidden="true"><path class="bar" d="M0 0H16V10H0z"/><path class="line" d="M1 5H15"/></svg>%s`, escape(s.Class), escape(s.Name))
		if s.Total != "" {
			fmt.Fprintf(b, ` <b>%s</b>`, escape(s.Total))
		}
		b.WriteString("</li>")
	}
	b.WriteString("</ul>")
}

// table has the minutes in which there was something, the newest first.
func (c Chart) table(b *strings.Builder) {
	fmt.Fprintf(b, `<details><summary>Figures</summary><div class="scroll" tabindex="0" role="region" aria-label="%[1]s, figures"><table><caption class="unseen">%[1]s</caption><thead><tr><th scope="col">Minute</th>`, escape(c.Title))
	for _, s := range c.Series {
		fmt.Fprintf(b, `<th scope="col" class="number">%s</th>`, escape(s.Name))
	}
	b.WriteString("</tr></thead><tbody>")
	n := c.minutes()
	for i := n - 1; i >= 0; i-- {
		if c.said(i) == "" {
			continue
		}
		fmt.Fprintf(b, `<tr><th scope="row">%s</th>`, ago(n-1-i))
		for _, s := range c.Series {
			value := "–"
			if i < len(s.Values) && known(s.Values[i]) {
				value = c.format(s.Values[i])
			}
			fmt.Fprintf(b, `<td class="number">%s</td>`, escape(value))
		}
		b.WriteString("</tr>")
	}
	b.WriteString("</tbody></table></div></details>")
}

func ago(minutes int) string {
	if minutes == 0 {
		return "this minute"
	}
	return fmt.Sprintf("%d min ago", minutes)
}

func (c Chart) format(v float64) string {
	if c.Format != nil {
		return c.Format(v)
	}
	return Number(v)
}

func known(v float64) bool { return v >= 0 && !math.IsInf(v, 0) } // and not NaN

func highest(values []float64) float64 {
	top := 0.0
	for _, v := range values {
		if known(v) {
			top = max(top, min(v, most))
		}
	}
	return top
}

// axis returns the upper end of an axis on which each step is a round number.
func axis(highest float64, whole bool) float64 {
	step := max(highest/steps, 1e-9)
	if whole {
		step = max(step, 1)
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, round := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if round*power >= step*(1-1e-9) && !(whole && math.Trunc(round*power) != round*power) {
			return steps * round * power
		}
	}
	return steps * 10 * power
}

// point writes a coordinate, to a hundredth.
func point(v float64) string {
	s := fmt.Sprintf("%.2f", v)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func escape(s string) string { return template.HTMLEscapeString(s) }
