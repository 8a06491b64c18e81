package history

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of an answer, in bytes: an hour of one code of
// one function is some 2 KiB.
const maxAnswer = 16 << 20

// Prometheus has what all gateways have counted.
type Prometheus struct {
	// Address is its "host:port".
	Address string
	// Client reaches it; its Timeout bounds a question.
	Client *http.Client
}

// growth is an expression for what counters have grown by in each minute: the last
// sample in the minute, less the one before the minute. For a series that began in
// the minute it is the last sample alone. rate() would not do: it extrapolates, and
// leaves out the first sample of a series, which for a rare error is all there is.
//
// A series has begun if scrapes of its gateway succeeded before and did not have it.
// Without such scrapes, as for a gateway that Prometheus has just found, its calls may
// be of any time, and are left out.
//
// last_over_time also finds the last sample of a gateway that is gone. It needs
// Prometheus 2.26. max is for targets that differ in labels other than these two.
func growth(selector string) string {
	return strings.ReplaceAll(`(last_over_time(X[1m]) - X offset 1m >= 0`+
		` or last_over_time(X[1m]) and count_over_time(X[2m]) < on (job, instance) group_left max by (job, instance) (sum_over_time(up[2m])))`, "X", selector)
}

// growthOverRestarts is growth, and for the minute in which a gateway was started
// again an estimate by rate(). It takes Prometheus twice as long.
func growthOverRestarts(selector string) string {
	return "(" + growth(selector) + strings.ReplaceAll(" unless resets(X[1m]) > 0 or rate(X[1m]) * 60)", "X", selector)
}

// Hour asks for one function's, named "name.namespace", which must be such: it
// becomes a part of the question.
func (p Prometheus) Hour(ctx context.Context, name string) (Hour, error) {
	now := time.Now()
	h := Hour{Codes: make(map[int][]float64), Everywhere: true}
	byCode, err := p.query(ctx, now, "sum by (code) "+growthOverRestarts(fmt.Sprintf("gateway_function_invocation_total{function_name=%q}", name)))
	if err != nil {
		return Hour{}, err
	}
	for _, s := range byCode {
		s.addTo(h, now)
	}
	byBound, err := p.query(ctx, now, "sum by (le) "+growthOverRestarts(fmt.Sprintf("gateway_functions_seconds_bucket{function_name=%q}", name)))
	if err != nil {
		return Hour{}, err
	}
	h.Bounds, h.Buckets = buckets(byBound, now)
	return h, nil
}

// Hours asks for those of all functions in a namespace, by "name.namespace",
// without how long calls took. A function without calls may be missing, and calls
// of the minute in which a gateway was started again.
func (p Prometheus) Hours(ctx context.Context, namespace string) (map[string]Hour, error) {
	now := time.Now()
	all, err := p.query(ctx, now, "sum by (function_name, code) "+growth(fmt.Sprintf("gateway_function_invocation_total{function_name=~%q}", "[^.]+[.]"+namespace)))
	if err != nil {
		return nil, err
	}
	hours := make(map[string]Hour)
	for _, s := range all {
		name := s.Metric.FunctionName
		if _, there := hours[name]; !there {
			hours[name] = Hour{Codes: make(map[int][]float64), Everywhere: true}
		}
		s.addTo(hours[name], now)
	}
	return hours, nil
}

// series is one of a range vector.
type series struct {
	Metric struct {
		FunctionName string `json:"function_name"`
		Code         string `json:"code"`
		Le           string `json:"le"`
	} `json:"metric"`
	Values [][2]any `json:"values"` // the time, the value
}

// addTo puts calls with one code into an hour. What is no HTTP status is no call's.
func (s series) addTo(h Hour, now time.Time) {
	code, err := strconv.Atoi(s.Metric.Code)
	if err != nil || code < 100 || code > 999 {
		return
	}
	if values := s.minutes(now); slices.ContainsFunc(values, func(n float64) bool { return n > 0 }) {
		h.Codes[code] = values
	}
}

// minutes returns the values by minute. What is no finite number from 0 up is no
// count.
func (s series) minutes(now time.Time) []float64 {
	minutes := make([]float64, Minutes)
	for _, v := range s.Values {
		at, _ := v[0].(float64)
		text, _ := v[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		ago := math.Round((float64(now.Unix()) - at) / 60)
		if err == nil && n >= 0 && !math.IsInf(n, 0) && ago >= 0 && ago < Minutes {
			minutes[Minutes-1-int(ago)] = n
		}
	}
	return minutes
}

// buckets turns a histogram's series, each of which has all calls up to its
// bound, into those between two bounds.
func buckets(all []series, now time.Time) (bounds []float64, byMinute [][]float64) {
	type bucket struct {
		upTo   float64
		counts []float64
	}
	var known []bucket
	for _, s := range all {
		upTo, err := strconv.ParseFloat(s.Metric.Le, 64)
		if err == nil && !math.IsNaN(upTo) {
			known = append(known, bucket{upTo, s.minutes(now)})
		}
	}
	slices.SortFunc(known, func(a, b bucket) int { return cmp.Compare(a.upTo, b.upTo) })
	for _, b := range known {
		if !math.IsInf(b.upTo, 1) {
			bounds = append(bounds, b.upTo)
		}
	}
	if len(bounds) == 0 || len(known) != len(bounds)+1 {
		return nil, nil
	}
	byMinute = make([][]float64, Minutes)
	for i := range byMinute {
		byMinute[i] = make([]float64, len(known))
		before := 0.0
		for j, b := range known {
			// The bounds are scraped at one time, but rates of floats may fall by a hair.
			byMinute[i][j] = max(0, b.counts[i]-before)
			before = max(before, b.counts[i])
		}
	}
	return bounds, byMinute
}

// query asks for the values of the last hour's minutes (Prometheus' HTTP API, v1).
func (p Prometheus) query(ctx context.Context, now time.Time, expression string) ([]series, error) {
	question := url.URL{Scheme: "http", Host: p.Address, Path: "/api/v1/query_range", RawQuery: url.Values{
		"query": {expression}, "step": {"60"},
		"start": {strconv.FormatInt(now.Unix()-(Minutes-1)*60, 10)}, "end": {strconv.FormatInt(now.Unix(), 10)},
	}.Encode()}
	body, err := Ask(ctx, p.Client, question.String(), maxAnswer)
	if err != nil {
		return nil, err
	}
	all, err := parse(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", question.Host, err)
	}
	return all, nil
}

// Ask returns what a Prometheus answers at a URL, or an error if that is not 200 OK
// with limit bytes at most. Errors call it by its address.
func Ask(ctx context.Context, client *http.Client, target string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	address := req.URL.Host
	res, err := client.Do(req)
	if err != nil {
		if e := (*url.Error)(nil); errors.As(err, &e) {
			err = e.Err // without the URL, which is long
		}
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s, want 200 OK", address, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%s answered more than %d bytes", address, limit)
	}
	return body, nil
}

func parse(body []byte) ([]series, error) {
	var answer struct {
		Data struct {
			ResultType string   `json:"resultType"`
			Result     []series `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("the answer is bad JSON: %w", err)
	}
	if answer.Data.ResultType != "matrix" {
		return nil, errors.New("the answer is no range vector")
	}
	return answer.Data.Result, nil
}
