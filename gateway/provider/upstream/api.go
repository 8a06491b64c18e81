package upstream

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/provider"
)

func in(namespace string) url.Values { return url.Values{"namespace": {namespace}} }

// List implements provider.Provider. Of all namespaces it asks one by one, and
// a provider that tells none for those of its default.
func (p *Provider) List(ctx context.Context, namespace string) ([]types.FunctionStatus, error) {
	namespaces := []string{namespace}
	if namespace == "" {
		all, err := p.Namespaces(ctx)
		var refused *provider.Error
		switch {
		case err == nil && len(all) > 0:
			namespaces = all
		case err != nil && !errors.Is(err, provider.ErrNotFound) && !errors.As(err, &refused):
			return nil, err
		}
	}
	functions := []types.FunctionStatus{}
	for _, n := range namespaces {
		var some list[types.FunctionStatus]
		if err := p.do(ctx, http.MethodGet, "/system/functions", in(n), nil, &some); err != nil {
			return nil, err
		}
		for _, f := range some {
			f.Namespace = cmp.Or(f.Namespace, n)
			if n == "" || f.Namespace == n { // some providers know one namespace, whatever is asked
				functions = append(functions, f)
			}
		}
	}
	order := func(a, b types.FunctionStatus) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace))
	}
	slices.SortStableFunc(functions, order)
	// One that is listed twice would be a metric twice, and the scrape fail.
	return slices.CompactFunc(functions, func(a, b types.FunctionStatus) bool { return order(a, b) == 0 }), nil
}

// Status implements provider.Provider.
func (p *Provider) Status(ctx context.Context, f provider.Function, usage bool) (types.FunctionStatus, error) {
	query := in(f.Namespace)
	if usage {
		query.Set("usage", "1")
	}
	var status types.FunctionStatus
	err := p.do(ctx, http.MethodGet, "/system/function/"+f.Name, query, nil, &status)
	status.Namespace = cmp.Or(status.Namespace, f.Namespace)
	if err == nil && status.Namespace != f.Namespace {
		return types.FunctionStatus{}, provider.ErrNotFound // it was not asked for that one
	}
	return status, err
}

// Deploy implements provider.Provider.
func (p *Provider) Deploy(ctx context.Context, d types.FunctionDeployment) error {
	defer p.forget(provider.Function{Namespace: d.Namespace, Name: d.Service})
	return p.do(ctx, http.MethodPost, "/system/functions", in(d.Namespace), d, nil)
}

// Update implements provider.Provider.
func (p *Provider) Update(ctx context.Context, d types.FunctionDeployment) error {
	defer p.forget(provider.Function{Namespace: d.Namespace, Name: d.Service})
	return p.do(ctx, http.MethodPut, "/system/functions", in(d.Namespace), d, nil)
}

// Delete implements provider.Provider.
func (p *Provider) Delete(ctx context.Context, f provider.Function) error {
	defer p.forget(f)
	return p.do(ctx, http.MethodDelete, "/system/functions", in(f.Namespace),
		types.DeleteFunctionRequest{FunctionName: f.Name, Namespace: f.Namespace}, nil)
}

// Scale implements provider.Provider.
func (p *Provider) Scale(ctx context.Context, f provider.Function, replicas uint64) error {
	defer p.forget(f)
	return p.scale(ctx, f, replicas)
}

func (p *Provider) scale(ctx context.Context, f provider.Function, replicas uint64) error {
	return p.do(ctx, http.MethodPost, "/system/scale-function/"+f.Name, in(f.Namespace),
		types.ScaleServiceRequest{ServiceName: f.Name, Namespace: f.Namespace, Replicas: replicas}, nil)
}

// Secrets implements provider.Provider.
func (p *Provider) Secrets(ctx context.Context, namespace string) ([]types.Secret, error) {
	var all list[types.Secret]
	if err := p.do(ctx, http.MethodGet, "/system/secrets", in(namespace), nil, &all); err != nil {
		return nil, err
	}
	secrets := []types.Secret{}
	for _, s := range all {
		if cmp.Or(s.Namespace, namespace) == namespace { // see List
			secrets = append(secrets, types.Secret{Name: s.Name, Namespace: namespace})
		}
	}
	return secrets, nil
}

// CreateSecret implements provider.Provider.
func (p *Provider) CreateSecret(ctx context.Context, s types.Secret) error {
	return p.do(ctx, http.MethodPost, "/system/secrets", in(s.Namespace), s, nil)
}

// UpdateSecret implements provider.Provider.
func (p *Provider) UpdateSecret(ctx context.Context, s types.Secret) error {
	return p.do(ctx, http.MethodPut, "/system/secrets", in(s.Namespace), s, nil)
}

// DeleteSecret implements provider.Provider.
func (p *Provider) DeleteSecret(ctx context.Context, namespace, name string) error {
	return p.do(ctx, http.MethodDelete, "/system/secrets", in(namespace), types.Secret{Name: name, Namespace: namespace}, nil)
}

// Namespaces implements provider.Provider.
func (p *Provider) Namespaces(ctx context.Context) ([]string, error) {
	names := list[string]{}
	err := p.do(ctx, http.MethodGet, "/system/namespaces", nil, nil, &names)
	slices.Sort(names)
	return slices.Compact(names), err
}

// Namespace implements provider.Provider.
func (p *Provider) Namespace(ctx context.Context, name string) (types.FunctionNamespace, error) {
	var n types.FunctionNamespace
	err := p.do(ctx, http.MethodGet, "/system/namespace/"+name, nil, nil, &n)
	return n, err
}

// CreateNamespace implements provider.Provider. Its path has no name, as in
// OpenFaaS' SDK.
func (p *Provider) CreateNamespace(ctx context.Context, n types.FunctionNamespace) error {
	return p.do(ctx, http.MethodPost, "/system/namespace/", nil, n, nil)
}

// UpdateNamespace implements provider.Provider.
func (p *Provider) UpdateNamespace(ctx context.Context, n types.FunctionNamespace) error {
	return p.do(ctx, http.MethodPut, "/system/namespace/"+n.Name, nil, n, nil)
}

// DeleteNamespace implements provider.Provider.
func (p *Provider) DeleteNamespace(ctx context.Context, name string) error {
	defer p.forgetAll(name)
	// Providers look for the label, so that they delete no namespace but OpenFaaS'.
	n := types.FunctionNamespace{Name: name, Labels: map[string]string{"openfaas": "1"}}
	return p.do(ctx, http.MethodDelete, "/system/namespace/"+name, nil, n, nil)
}

// maxLine bounds one line of a log, in bytes of JSON.
const maxLine = 1 << 20

// Logs implements provider.Provider.
func (p *Provider) Logs(ctx context.Context, r logs.Request, emit func(logs.Message) error) error {
	query := in(r.Namespace)
	query.Set("name", r.Name)
	query.Set("follow", strconv.FormatBool(r.Follow))
	if r.Instance != "" {
		query.Set("instance", r.Instance)
	}
	if r.Since != nil {
		query.Set("since", r.Since.Format(time.RFC3339Nano))
	}
	if r.Tail > 0 {
		query.Set("tail", strconv.Itoa(r.Tail))
	}
	res, err := p.send(ctx, http.MethodGet, p.logs+"/system/logs", query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var m logs.Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("functions provider sent a log line that is bad JSON: %w", err)
		}
		if cmp.Or(m.Name, r.Name) != r.Name || cmp.Or(m.Namespace, r.Namespace) != r.Namespace {
			continue // of another function, which nobody has authorized
		}
		if err := emit(m); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("functions provider: reading logs: %w", err)
	}
	return nil
}

// Info implements provider.Provider. Of a gateway's answer it takes what that
// says about its provider.
func (p *Provider) Info(ctx context.Context) (types.ProviderInfo, error) {
	var raw json.RawMessage
	if err := p.do(ctx, http.MethodGet, "/system/info", nil, nil, &raw); err != nil {
		return types.ProviderInfo{}, err
	}
	var behind struct {
		Provider types.ProviderInfo `json:"provider"`
	}
	if json.Unmarshal(raw, &behind) == nil && behind.Provider.Name != "" {
		return behind.Provider, nil
	}
	var info types.ProviderInfo
	if err := json.Unmarshal(raw, &info); err != nil {
		return info, fmt.Errorf("functions provider answered /system/info with bad JSON: %w", err)
	}
	return info, nil
}
