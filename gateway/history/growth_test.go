package history

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGrowth has Prometheus' own promtool evaluate what we ask for, of hours in
// its notation: "0+2x3" is 0 2 4 6, "_" no sample, and "stale" is after a scrape
// that failed. want is what the minutes add up to, and lacks what is not known of
// restarts without an estimate.
func TestGrowth(t *testing.T) {
	t.Parallel()
	if os.Getenv("GATEHOUND_PROMETHEUS") == "" {
		t.Skip("NOT TESTED WITH A REAL PROMETHEUS: set GATEHOUND_PROMETHEUS=1, as .ci/prometheus does")
	}
	const counter, up = `c{job="g",instance="a",code="200"}`, `up{job="g",instance="a"}`
	for name, c := range map[string]struct {
		every, up, counter, other string // up and the counter of one gateway, and the counter of another
		want, lacks               float64
	}{
		"steady":                          {"15s", "1x240", "0+1x200 200x40", "", 200, 0},
		"often scraped":                   {"5s", "1x720", "_x100 3+1x200 203x300", "", 203, 0},
		"seldom scraped":                  {"60s", "1x60", "_x5 7+1x25 32x20", "", 32, 0},
		"a rare error":                    {"15s", "1x240", "_x41 1x200", "", 1, 0},
		"a rare error, seldom scraped":    {"60s", "1x60", "_x5 1x45", "", 1, 0},
		"two of them":                     {"15s", "1x240", "_x41 1x50 2x150", "", 2, 0},
		"two gateways":                    {"15s", "1x240", "_x41 1x190", "_x60 0+2x20 40x150", 41, 0},
		"a gateway that is found late":    {"15s", "_x20 1x220", "_x20 1000000+1x40 1000040x180", "", 40, 0},
		"a gateway that goes":             {"15s", "1x32", "_x5 7+1x25 stale", "", 32, 0},
		"a restart":                       {"15s", "1x20 0x3 1x220", "0+10x20 stale _x3 5+10x20 205x180", "", 405, 35},
		"one call, a restart, another":    {"15s", "1x20 0x3 1x220", "_x5 1x14 stale _x4 1x180", "", 2, 0},
		"a restart in between":            {"15s", "1x200 0 1x50", "_x5 7x190 stale _x9 1x40", "", 8, 0},
		"a scrape that fails":             {"15s", "1x20 0 1x220", "0+1x20 stale 22+1x20 42x180", "", 42, 0},
		"Prometheus is away for 4m":       {"15s", "1x20 _x15 1x220", "0+1x20 _x15 36+1x20 56x180", "", 56, 0},
		"and for 10m, whose calls lack":   {"15s", "1x20 _x39 1x220", "0+1x20 _x39 61+1x20 81x180", "", 40, 0},
		"without up, the beginning lacks": {"15s", "_", "_x41 9x160", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var series strings.Builder
			for what, values := range map[string]string{up: c.up, counter: c.counter, strings.Replace(counter, `"a"`, `"b"`, 1): c.other, strings.Replace(up, `"a"`, `"b"`, 1): c.up,
				`up{job="g",instance="a",node="of two names"}`: c.up} {
				if values != "" {
					fmt.Fprintf(&series, "      - {series: '%s', values: '%s'}\n", what, values)
				}
			}
			file := filepath.Join(t.TempDir(), "hour.yml")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
evaluation_interval: 1m
tests:
  - interval: %s
    input_series:
%s    promql_expr_test:
      - expr: 'sum_over_time((sum by (code) %s)[1h:1m])'
        eval_time: 1h
        exp_samples: [{labels: '{code="200"}', value: %v}]
      - expr: 'sum_over_time((sum by (code) %s)[1h:1m])'
        eval_time: 1h
        exp_samples: [{labels: '{code="200"}', value: %v}]
`, c.every, &series, growthOverRestarts("c"), c.want, growth("c"), c.want-c.lacks), 0o600))
			out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}
