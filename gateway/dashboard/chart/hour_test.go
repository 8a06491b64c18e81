package chart

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/history"
)

func TestHour(t *testing.T) {
	t.Parallel()
	h := history.Hour{
		Codes: map[int][]float64{
			200: minutes(map[int]float64{58: 30, 59: 26}), 404: minutes(map[int]float64{59: 1}),
			500: minutes(map[int]float64{59: 1}), 503: minutes(map[int]float64{58: 1}), 502: minutes(map[int]float64{58: 2}), 599: minutes(map[int]float64{58: 1}),
		},
		Bounds: []float64{0.1, 1}, Buckets: make([][]float64, history.Minutes),
	}
	h.Buckets[59] = []float64{50, 10, 2}
	var names, classes []string
	for _, s := range byCode(h, isError) {
		names, classes = append(names, s.Name), append(classes, s.Class)
	}
	require.Equal(t, []string{"404 Not Found", "502 Bad Gateway", "500 Internal Server Error", "other 5xx"}, names)
	require.Equal(t, []string{"c4-0", "c5-0", "c5-1", "c5-2"}, classes)
	require.Contains(t, Calls(h), "62 calls, 1.03 a minute on average")
	require.Contains(t, Errors(h), "6 errors, 9.68% of calls")
	require.Contains(t, Latency(h), "half of the calls were answered within 62 ms")
	require.Contains(t, Latency(h), "p99 <b>1 s</b>")
	require.Contains(t, Line(h), `aria-label="62 calls in the last hour, 6 errors"`)
	require.Equal(t, "1.03/min", Rate(h))
	require.Equal(t, "9.68%", ErrorShare(h))

	h.Since = time.Now().Add(-2 * time.Minute)
	require.Equal(t, "31/min", Rate(h), "counting has just begun")
	h.Codes = map[int][]float64{200: minutes(map[int]float64{3: 1})}
	require.Contains(t, Errors(h), "No errors in the last hour.")
	require.Contains(t, Calls(h), "1 call, ")
}

func TestHourWithoutCalls(t *testing.T) {
	t.Parallel()
	h := history.Hour{}
	for _, drawn := range []string{string(Calls(h)), string(Errors(h)), string(Latency(h))} {
		require.Equal(t, 1, strings.Count(drawn, "No calls in the last hour."))
		require.NotContains(t, drawn, "<svg")
	}
	require.Equal(t, "–", Rate(h))
	require.Equal(t, "–", ErrorShare(h))
	require.Contains(t, Line(h), "no calls")
}

// TestUnknownClasses: a function may answer with any three digits.
func TestUnknownClasses(t *testing.T) {
	t.Parallel()
	h := history.Hour{Codes: map[int][]float64{100: minutes(map[int]float64{1: 1}), 999: minutes(map[int]float64{1: 1})}}
	got := string(Calls(h))
	require.Contains(t, got, `class="bar c2-0"`)
	require.Contains(t, got, `class="bar c5-0"`)
}
