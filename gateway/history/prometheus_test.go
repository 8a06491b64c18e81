package history

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// prometheus answers with these series; "" = bad.
func prometheus(t *testing.T, calls, seconds string) (p Prometheus, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.FormValue("query"))
		end, err := strconv.ParseInt(r.FormValue("end"), 10, 64)
		if r.URL.Path != "/api/v1/query_range" || r.FormValue("step") != "60" || err != nil {
			http.NotFound(w, r)
			return
		}
		answer := calls
		if strings.Contains(r.FormValue("query"), "_bucket") {
			answer = seconds
		}
		if answer == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		for ago := range 3 {
			answer = strings.ReplaceAll(answer, fmt.Sprintf("T-%d", ago), fmt.Sprintf("%d.%03d", end-int64(ago)*60, 0))
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}`, answer)
	}))
	t.Cleanup(server.Close)
	return Prometheus{Address: server.Listener.Addr().String(), Client: &http.Client{Timeout: 10 * time.Second}}, asked
}

func TestPrometheus(t *testing.T) {
	t.Parallel()
	p, asked := prometheus(t,
		`{"metric":{"code":"200"},"values":[[T-2,"6"],[T-1,"1.5"],[T-0,"NaN"]]},
		 {"metric":{"code":"500"},"values":[[T-0,"2"],[12,"7"],[T-1,"-1"],[T-2,"+Inf"]]},
		 {"metric":{"code":"404"},"values":[[T-0,"0"]]},
		 {"metric":{"code":"many"},"values":[[T-0,"1"]]}`,
		`{"metric":{"le":"+Inf"},"values":[[T-1,"4"]]},
		 {"metric":{"le":"0.5"},"values":[[T-1,"3"]]},
		 {"metric":{"le":"0.1"},"values":[[T-1,"1"]]}`)
	h, err := p.Hour(t.Context(), "env.openfaas-fn")
	require.NoError(t, err)
	require.Equal(t, []string{
		"sum by (code) " + growthOverRestarts(`gateway_function_invocation_total{function_name="env.openfaas-fn"}`),
		"sum by (le) " + growthOverRestarts(`gateway_functions_seconds_bucket{function_name="env.openfaas-fn"}`),
	}, *asked)
	require.True(t, h.Everywhere)
	require.Equal(t, []int{200, 500}, h.SortedCodes())
	require.Equal(t, []float64{6, 1.5, 0}, h.Codes[200][Minutes-3:])
	require.Equal(t, []float64{0, 0, 2}, h.Codes[500][Minutes-3:])
	require.Equal(t, []float64{0.1, 0.5}, h.Bounds)
	require.Equal(t, []float64{1, 2, 1}, h.Buckets[Minutes-2])
	require.InDelta(t, 0.3, h.Quantile(0.5)[Minutes-2], 1e-9)
}

func TestPrometheusHours(t *testing.T) {
	t.Parallel()
	p, asked := prometheus(t, `{"metric":{"function_name":"a.ns","code":"200"},"values":[[T-0,"6"]]},
		{"metric":{"function_name":"a.ns","code":"500"},"values":[[T-1,"2"]]},
		{"metric":{"function_name":"b.ns","code":"200"},"values":[[T-1,"3"]]}`, "")
	hours, err := p.Hours(t.Context(), "ns")
	require.NoError(t, err)
	require.Equal(t, []string{"sum by (function_name, code) " + growth(`gateway_function_invocation_total{function_name=~"[^.]+[.]ns"}`)}, *asked)
	require.Len(t, hours, 2)
	require.Equal(t, []float64{2, 6}, hours["a.ns"].Calls()[Minutes-2:])
	require.Equal(t, []float64{3, 0}, hours["b.ns"].Calls()[Minutes-2:])
}

func TestPrometheusFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ calls, seconds, want string }{
		"calls":   {"", "{}", "503"},
		"seconds": {"{}", "", "503"},
		"JSON":    {"{", "{}", "bad JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := prometheus(t, c.calls, c.seconds)
			_, err := p.Hour(t.Context(), "env.ns")
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Prometheus{Address: "127.0.0.1:1", Client: http.DefaultClient}.Hour(t.Context(), "env.ns")
	require.ErrorContains(t, err, "127.0.0.1:1: dial tcp")
	require.NotContains(t, err.Error(), "query")
}

// FuzzParse: whatever a Prometheus answers makes an hour that can be drawn.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"data":{"resultType":"matrix","result":[{"metric":{"le":"0.1"},"values":[[1000,"1"]]},{"metric":{"le":"+Inf"},"values":[[1000,"2"]]}]}}`))
	f.Add([]byte(`{"data":{"resultType":"matrix","result":[{"metric":{"le":"NaN"},"values":[["x",1],[1e300,"1e400"]]}]}}`))
	f.Add([]byte(`{"data":{"resultType":"vector"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Unix(1000, 0)
		all, err := parse(body)
		if err != nil {
			return
		}
		for _, s := range all {
			for _, n := range s.minutes(now) {
				require.False(t, n < 0 || math.IsNaN(n) || math.IsInf(n, 0))
			}
		}
		h := Hour{}
		h.Bounds, h.Buckets = buckets(all, now)
		h.Quantile(0.99)
		h.Overall(0.5)
	})
}
