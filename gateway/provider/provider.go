// Package provider is the contract between the gateway and whatever runs the
// functions: processes on this machine (package local) or another
// faas-provider (package upstream). It owns names and errors, no behaviour.
package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// ErrNotFound: there is no such function, secret or namespace.
var ErrNotFound = errors.New("function not found")

// Error is a provider's own refusal, to be told to the caller as it is: its
// message must hold no secret.
type Error struct {
	// Status is the HTTP status to answer with, 400 to 599.
	Status int
	// Message says what was wrong and what would be right.
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Message) }

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
	// Host replaces the caller's Host header; "" = it stays.
	Host string
	// Memory is the function's limit, for each replica, in bytes; 0 = it has none.
	Memory int64
}

// Provider runs functions. Implementations are safe for concurrent use.
// Names and namespaces are DNS labels, and names of secrets DNS subdomains: the
// caller has checked them, and no namespace is empty but where it says so. Errors
// are ErrNotFound, an *Error, or that the provider cannot be reached.
type Provider interface {
	// Ready returns where calls to f go, where that is known without waiting. Each
	// call asks: it must be quick. false = ask Endpoint.
	Ready(f Function) (Endpoint, bool)
	// Endpoint returns where calls to f go, or ErrNotFound. It may wait for f to
	// start, with a bound of its own, and until ctx ends.
	Endpoint(ctx context.Context, f Function) (Endpoint, error)

	// List returns the functions of a namespace, sorted by name; "" = of every
	// namespace, or of as many as the provider tells.
	List(ctx context.Context, namespace string) ([]types.FunctionStatus, error)
	// Status returns one function's, with usage figures when usage is set.
	Status(ctx context.Context, f Function, usage bool) (types.FunctionStatus, error)
	// Deploy makes a function that is not there yet, or replaces it.
	Deploy(ctx context.Context, d types.FunctionDeployment) error
	// Update changes a function that is there.
	Update(ctx context.Context, d types.FunctionDeployment) error
	Delete(ctx context.Context, f Function) error
	// Scale sets how many replicas are wanted.
	Scale(ctx context.Context, f Function, replicas uint64) error

	// Secrets returns a namespace's, without their values.
	Secrets(ctx context.Context, namespace string) ([]types.Secret, error)
	CreateSecret(ctx context.Context, s types.Secret) error
	UpdateSecret(ctx context.Context, s types.Secret) error
	DeleteSecret(ctx context.Context, namespace, name string) error

	// Namespaces returns the names of those that hold functions, sorted.
	Namespaces(ctx context.Context) ([]string, error)
	Namespace(ctx context.Context, name string) (types.FunctionNamespace, error)
	CreateNamespace(ctx context.Context, n types.FunctionNamespace) error
	UpdateNamespace(ctx context.Context, n types.FunctionNamespace) error
	DeleteNamespace(ctx context.Context, name string) error

	// Logs calls emit for each line that r asks for, in the order of time, until
	// there is no more, ctx ends, or emit returns an error, which it returns.
	Logs(ctx context.Context, r logs.Request, emit func(logs.Message) error) error
	// Info says what runs the functions.
	Info(ctx context.Context) (types.ProviderInfo, error)
}
