// Package provider is the contract between the gateway and whatever runs the
// functions: processes on this machine (package local) or another
// faas-provider (package upstream). It owns names and errors, no behaviour.
package provider

import (
	"context"
	"errors"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// ErrNotFound: there is no such function.
var ErrNotFound = errors.New("function not found")

// Function names one function.
type Function struct {
	Namespace, Name string
}

// String returns "name.namespace", as in paths and metric labels.
func (f Function) String() string { return f.Name + "." + f.Namespace }

// Endpoint is where calls to a function go.
type Endpoint struct {
	Upstream *reverseproxy.Upstream
	// Prefix stands before the function's own path in the request target; ""
	// for none.
	Prefix string
}

// Provider runs functions. Implementations are safe for concurrent use.
type Provider interface {
	// Endpoint returns where calls to f go, or ErrNotFound.
	Endpoint(ctx context.Context, f Function) (Endpoint, error)
	// List returns the functions of a namespace, sorted by name; "" = of every
	// namespace, or of as many as the provider tells.
	List(ctx context.Context, namespace string) ([]types.FunctionStatus, error)
}
