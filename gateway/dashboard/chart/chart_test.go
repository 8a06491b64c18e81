package chart

import (
	"encoding/binary"
	"encoding/xml"
	"html/template"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormats(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.5: "0.5", 1.25: "1.25", 12.34: "12.3", 999: "999", 999.6: "1k", 1000: "1k", 1500: "1.5k",
		12500: "12.5k", 999_400: "999k", 999_600: "1M", 2.5e9: "2.5G", 1e15: "1000T", 1e300: ">9999T", 0.001: "<0.01",
		-1: "–", math.Inf(1): "–",
	} {
		require.Equal(t, want, Number(v), v)
	}
	require.Equal(t, "–", Number(math.NaN()))
	for v, want := range map[float64]string{
		0: "0", 0.0000001: "<1 µs", 0.00025: "250 µs", 0.0009999: "1 ms", 0.0025: "2.5 ms", 0.25: "250 ms", 0.9999: "1 s", 1.5: "1.5 s",
		90: "90 s", 600: "10 min", 3600: "60 min", 360000: "100 h", 1e300: ">9999T h", -1: "–",
	} {
		require.Equal(t, want, Seconds(v), v)
	}
	for _, c := range []struct {
		part, whole float64
		want        string
	}{{0, 10, "0%"}, {10, 10, "100%"}, {1, 3, "33.3%"}, {1, 1e6, "<0.1%"}, {999999, 1e6, ">99.9%"}, {1, 0, "–"}, {0, 0, "–"}} {
		require.Equal(t, c.want, Percent(c.part, c.whole))
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		highest float64
		whole   bool
		want    float64
	}{
		{1, true, 4}, {4, true, 4}, {5, true, 8}, {11, true, 12}, {58, true, 60}, {100, true, 100}, {101, true, 120}, {1e6, true, 1e6},
		{0.3, false, 0.32}, {0.0021, false, 0.0024}, {1, false, 1}, {9.7, false, 10}, {1e-300, false, 4e-9},
	} {
		require.InEpsilon(t, c.want, axis(c.highest, c.whole), 1e-9, c.highest)
	}
}

func minutes(at map[int]float64) []float64 {
	values := make([]float64, 60)
	for i, v := range at {
		values[i] = v
	}
	return values
}

func TestStacked(t *testing.T) {
	t.Parallel()
	got := string(Chart{Title: "Calls <per minute>", Summary: "5 calls", Whole: true, Series: []Series{
		{Name: "200", Class: "c2", Total: "4", Values: minutes(map[int]float64{0: 1, 59: 3})},
		{Name: "500", Class: "c5", Values: minutes(map[int]float64{59: 1})},
	}}.Stacked())
	require.Contains(t, got, `<path class="bar c2" d="M1 160V120h8V160zM591 160V40h8V160z"/>`)
	require.Contains(t, got, `<path class="bar c5" d="M591 40V0h8V40z"/>`, "on top of the other")
	require.Contains(t, got, `aria-label="Calls &lt;per minute&gt;. 5 calls"`)
	require.Contains(t, got, `<span>4</span><span>3</span><span>2</span><span>1</span><span>0</span>`)
	require.Contains(t, got, "<title>this minute\n200: 3\n500: 1</title>")
	require.Contains(t, got, `<tr><th scope="row">this minute</th><td class="number">3</td><td class="number">1</td></tr><tr><th scope="row">59 min ago</th><td class="number">1</td><td class="number">0</td></tr>`)
	require.Contains(t, got, `200 <b>4</b></li>`)
	require.NotContains(t, got, "style=")
	require.NotContains(t, got, "<style")
	require.NotContains(t, got, " id=")
}

func TestLines(t *testing.T) {
	t.Parallel()
	gap := math.NaN()
	got := string(Chart{Title: "Latency", Format: Seconds, Series: []Series{{Name: "p50", Class: "p50", Values: []float64{1, 1, gap, 0.5, gap, 0}}}}.Lines())
	require.Contains(t, got, `<path class="line p50" d="M50 0L150 0"/><path class="dot p50" d="M350 80h0M550 160h0"/>`, "a gap is no line, and one value between two is a dot")
	require.Contains(t, got, `<span>1 s</span><span>750 ms</span>`)
	require.Contains(t, got, `<td class="number">500 ms</td>`)
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]float64{"none": nil, "zeros": make([]float64, 60), "no numbers": {math.NaN(), math.Inf(1), -1}} {
		c := Chart{Title: "Calls", Empty: "No calls in the last hour.", Series: []Series{{Name: "200", Values: values}}}
		for _, got := range []template.HTML{c.Stacked(), c.Lines()} {
			require.Contains(t, got, `<p class="empty">No calls in the last hour.</p>`, name)
			require.NotContains(t, got, "<svg", name)
		}
		require.Equal(t, template.HTML(`<span class="none">no &amp; calls</span>`), Spark("no & calls", "c2", values), name)
	}
	require.Contains(t, Chart{Empty: "nothing"}.Stacked(), "nothing")
}

func TestSpark(t *testing.T) {
	t.Parallel()
	got := string(Spark("3 calls", "calls", []float64{0, 1, math.NaN()}))
	require.Contains(t, got, `aria-label="3 calls"`)
	require.Contains(t, got, `d="M-9 99V24L20 24L60 1.78L100 24H999V99"`)
	// Idle minutes take no room: a page has many of these.
	idle := string(Spark("1 call", "calls", minutes(map[int]float64{30: 1})))
	require.Contains(t, idle, `V24L1 24L59 24L61 1.78L63 24L119 24H999`)
}

var coordinate = regexp.MustCompile(`-?[0-9.e+]+|NaN|Inf`)

// FuzzChart: whatever the values are, the picture is well-formed, and nothing in it
// is outside of it.
func FuzzChart(f *testing.F) {
	values := func(all ...float64) (data []byte) {
		for _, v := range all {
			data = binary.BigEndian.AppendUint64(data, math.Float64bits(v))
		}
		return data
	}
	f.Add("200", values(1), values())
	f.Add("<b>\"&'", values(math.NaN(), math.Inf(1), math.Inf(-1), -1), values(math.MaxFloat64, math.SmallestNonzeroFloat64))
	f.Add("p99", values(0, 0, 0), values(1e15, 1e15, 1e-9))
	f.Add("x", values(1e308, 1e308), values(1e308, 1, 1, 1))
	f.Fuzz(func(t *testing.T, name string, one, two []byte) {
		read := func(data []byte) (all []float64) {
			for ; len(data) >= 8 && len(all) < 100; data = data[8:] {
				all = append(all, math.Float64frombits(binary.BigEndian.Uint64(data)))
			}
			return all
		}
		name = strings.Map(func(r rune) rune { // XML has no other way to write these
			if r < ' ' || r >= 0xFFFE || r == '\uFFFD' {
				return -1
			}
			return r
		}, name)
		c := Chart{Title: name, Summary: name, Empty: name, Series: []Series{{name, name, name, read(one)}, {name, name, name, read(two)}}}
		spark := Spark(name, name, read(one))
		for _, drawn := range []template.HTML{c.Stacked(), c.Lines(), spark} {
			d := xml.NewDecoder(strings.NewReader(string(drawn)))
			for {
				token, err := d.Token()
				if err == io.EOF {
					break
				}
				require.NoError(t, err, drawn)
				start, _ := token.(xml.StartElement)
				for _, a := range start.Attr {
					switch a.Name.Local {
					case "d", "x", "width", "height":
						for _, number := range coordinate.FindAllString(a.Value, -1) {
							v, err := strconv.ParseFloat(number, 64)
							require.NoError(t, err, "%s", a.Value)
							inside := v >= 0 && v <= width || drawn == spark && (v == -9 || v == 999)
							require.True(t, inside, "%s: %s", number, a.Value)
						}
					}
				}
			}
		}
	})
}
