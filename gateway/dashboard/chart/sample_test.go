package chart

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/history"
)

// TestSample: the style sheet's sample page has the pictures that are drawn now. It
// is made anew with GATEHOUND_WRITE_SAMPLE=1.
func TestSample(t *testing.T) {
	t.Parallel()
	const path = "../testdata/sample.html"
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	h := history.Hour{
		Codes: map[int][]float64{
			200: minutes(map[int]float64{5: 30, 6: 60, 20: 45, 21: 20, 40: 80, 59: 35}), 302: minutes(map[int]float64{6: 8, 40: 9}),
			404: minutes(map[int]float64{6: 6, 20: 5}), 429: minutes(map[int]float64{40: 8}), 500: minutes(map[int]float64{6: 9, 40: 15}), 504: minutes(map[int]float64{40: 6}),
		},
		Bounds: []float64{0.1, 0.2, 0.4}, Buckets: make([][]float64, history.Minutes),
	}
	h.Buckets[5], h.Buckets[6], h.Buckets[20], h.Buckets[21], h.Buckets[40], h.Buckets[59] =
		[]float64{28, 2, 0, 0}, []float64{20, 40, 23, 0}, []float64{40, 10, 0, 0}, []float64{20, 0, 0, 0}, []float64{30, 60, 20, 8}, []float64{35, 0, 0, 0}
	for name, drawn := range map[string]string{
		"calls": string(Calls(h)), "latency": string(Latency(h)), "errors": string(Errors(h)), "none": string(Calls(history.Hour{})),
		"spark": string(Line(h)), "no-spark": string(Line(history.Hour{})),
	} {
		begin, end := []byte("<!-- "+name+" -->"), []byte("<!-- /"+name+" -->")
		from, to := bytes.Index(page, begin), bytes.Index(page, end)
		require.True(t, from >= 0 && to > from, name)
		if os.Getenv("GATEHOUND_WRITE_SAMPLE") != "" {
			page = append(append(append([]byte{}, page[:from+len(begin)]...), drawn...), page[to:]...)
			continue
		}
		require.Equal(t, drawn, strings.TrimSpace(string(page[from+len(begin):to])), name)
	}
	if os.Getenv("GATEHOUND_WRITE_SAMPLE") != "" {
		require.NoError(t, os.WriteFile(path, page, 0o600))
	}
}
