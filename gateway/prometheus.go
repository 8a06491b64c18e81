package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/gateway/history"
)

const (
	// countsFor is how long an answer of Prometheus is shown, and how long one
	// that did not come is not asked for again.
	countsFor = 5 * time.Second
	// countsWait bounds what a list waits for it.
	countsWait = time.Second
	// maxCounts bounds what is read of an answer, in bytes: some
	// 30,000 functions.
	maxCounts = 4 << 20
)

// counts asks a Prometheus how often each function was called, by whichever
// gateway. It does so when somebody wants to know, once for all who do.
type counts struct {
	query  string
	client *http.Client
	log    zerolog.Logger

	mu      sync.Mutex
	current map[string]float64 // by "name.namespace"; nil = not known
	until   time.Time          // when to ask again
	asking  chan struct{}      // closed when the question under way is done; nil = none is
	failing bool               // the last question got no answer
}

func newCounts(address string, log zerolog.Logger) *counts {
	query := url.URL{Scheme: "http", Host: address, Path: "/api/v1/query",
		RawQuery: url.Values{"query": {"sum by (function_name) (gateway_function_invocation_total)"}}.Encode()}
	return &counts{query: query.String(), client: prometheusClient(), log: log}
}

// prometheusClient takes no longer than a list may wait, and follows nobody elsewhere.
func prometheusClient() *http.Client {
	return &http.Client{Timeout: countsWait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get returns the counts by "name.namespace", which nobody changes; nil = they
// are not known. While Prometheus gives no answers, nobody waits for it.
func (c *counts) get() map[string]float64 {
	c.mu.Lock()
	if c.asking == nil && !time.Now().Before(c.until) {
		c.asking = make(chan struct{})
		go c.ask()
	}
	asking := c.asking
	if asking == nil || c.failing {
		defer c.mu.Unlock()
		return c.current
	}
	c.mu.Unlock()
	<-asking // which the client's Timeout bounds
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

func (c *counts) ask() {
	current, err := c.fetch()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.asking)
	c.asking, c.current, c.until = nil, current, time.Now().Add(countsFor)
	if err != nil && !c.failing {
		c.log.Warn().Msgf("faas_prometheus_host: %v; invocations are those of this gateway until it answers", err)
	} else if err == nil && c.failing {
		c.log.Info().Msg("faas_prometheus_host: Prometheus answers again")
	}
	c.failing = err != nil
}

// fetch reads Prometheus' answer to an instant query (its HTTP API, v1).
func (c *counts) fetch() (map[string]float64, error) {
	body, err := history.Ask(context.Background(), c.client, c.query, maxCounts)
	if err != nil {
		return nil, err
	}
	return parseCounts(body)
}

// parseCounts reads an instant vector. Its values are text, as JSON has no NaN;
// what is no finite number from 0 up is no count.
func parseCounts(body []byte) (map[string]float64, error) {
	var answer struct {
		Data struct {
			ResultType string `json:"resultType"`
			Result     []struct {
				Metric struct {
					FunctionName string `json:"function_name"`
				} `json:"metric"`
				Value [2]any `json:"value"` // the time, the value
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("the answer is bad JSON: %w", err)
	}
	if answer.Data.ResultType != "vector" {
		return nil, errors.New("the answer is no instant vector")
	}
	counted := make(map[string]float64, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		n, err := strconv.ParseFloat(text, 64)
		if err == nil && n >= 0 && !math.IsInf(n, 0) {
			counted[r.Metric.FunctionName] = n
		}
	}
	return counted, nil
}
