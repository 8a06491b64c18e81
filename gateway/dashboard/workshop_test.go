package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/provider"
)

// workshop is functions that note what is done to them, and answer calls.
type workshop struct {
	functions
	upstream *reverseproxy.Upstream

	mu      sync.Mutex
	deeds   []string
	refuse  error // of what is done to them; nil = it is done
	answer  http.HandlerFunc
	lines   []logs.Message
	written chan struct{} // closed when there are more lines
	readers int           // of logs, now
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	p := &workshop{written: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	p.upstream = reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: server.Listener.Addr().String()})
	t.Cleanup(p.upstream.Close)
	return p
}

func (p *workshop) note(what string, about any) error {
	b, err := json.Marshal(about)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.deeds = append(p.deeds, what+" "+string(b))
	return nil
}

// done returns what was done since it was last asked.
func (p *workshop) done() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	deeds := p.deeds
	p.deeds = nil
	return deeds
}

func (p *workshop) answers(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = h
}

func (p *workshop) refuses(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

func (p *workshop) Ready(provider.Function) (provider.Endpoint, bool) {
	return provider.Endpoint{Upstream: p.upstream}, true
}

func (p *workshop) Endpoint(context.Context, provider.Function) (provider.Endpoint, error) {
	return provider.Endpoint{Upstream: p.upstream}, nil
}

func (p *workshop) Deploy(_ context.Context, d types.FunctionDeployment) error {
	return p.note("deploy", d)
}

func (p *workshop) Update(_ context.Context, d types.FunctionDeployment) error {
	return p.note("update", d)
}

func (p *workshop) Delete(_ context.Context, f provider.Function) error {
	return p.note("delete", f.String())
}

func (p *workshop) Scale(_ context.Context, f provider.Function, replicas uint64) error {
	return p.note("scale", fmt.Sprint(f, " ", replicas))
}

func (p *workshop) Secrets(_ context.Context, namespace string) ([]types.Secret, error) {
	return []types.Secret{{Name: "api-key", Namespace: namespace, Value: "never shown"}, {Name: "other", Namespace: namespace}}, nil
}

func (p *workshop) CreateSecret(_ context.Context, s types.Secret) error {
	return p.note("create secret", s)
}

func (p *workshop) DeleteSecret(_ context.Context, namespace, name string) error {
	return p.note("delete secret", namespace+":"+name)
}

// prints has a function write a line to its log.
func (p *workshop) prints(at time.Time, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, logs.Message{Name: "env", Namespace: "openfaas-fn", Instance: "env-1", Timestamp: at, Text: text})
	close(p.written)
	p.written = make(chan struct{})
}

func (p *workshop) reading() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readers
}

func (p *workshop) Logs(ctx context.Context, r logs.Request, emit func(logs.Message) error) error {
	p.mu.Lock()
	p.readers++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.readers--
		p.mu.Unlock()
	}()
	for sent := 0; ; {
		p.mu.Lock()
		lines, written := p.lines[sent:], p.written
		p.mu.Unlock()
		sent += len(lines)
		if r.Tail > 0 && len(lines) > r.Tail {
			lines = lines[len(lines)-r.Tail:]
		}
		for _, m := range lines {
			if r.Since != nil && m.Timestamp.Before(*r.Since) || !strings.HasPrefix(r.Name, m.Name) {
				continue
			}
			if err := emit(m); err != nil {
				return err
			}
		}
		if !r.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-written:
		}
	}
}
