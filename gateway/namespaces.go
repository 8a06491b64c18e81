package gateway

import (
	"context"
	"net/http"
	"slices"

	"github.com/openfaas/faas-provider/types"
)

// listNamespaces shows the namespaces that the caller is granted. A namespace
// as a whole is what Namespace actions are granted on: a grant on dev:* is one
// on dev, and one on dev:env, or on dev:e*, is not.
func (g *Gateway) listNamespaces(r *request) (operation, error) {
	return operation{what: "namespaces", on: []target{{"*", "*", true}}, run: func(ctx context.Context) error {
		names, err := g.config.Provider.Namespaces(ctx)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool {
			return !r.caller.may("Namespace:List", target{namespace: name, name: "*"})
		})
		answerJSON(r.ctx, http.StatusOK, names)
		return nil
	}}, nil
}

// describeNamespace takes the name from the path.
func (g *Gateway) describeNamespace(r *request) (operation, error) {
	name, err := r.namespace("", r.parameter)
	if err != nil {
		return operation{}, err
	}
	return onNamespace(name, func(ctx context.Context) error {
		n, err := g.config.Provider.Namespace(ctx, name)
		if err != nil {
			return err
		}
		answerJSON(r.ctx, http.StatusOK, n)
		return nil
	}), nil
}

// createNamespace takes the name from the path, the body or both.
func (g *Gateway) createNamespace(r *request) (operation, error) {
	return g.changeNamespace(r, func(ctx context.Context, n types.FunctionNamespace) error {
		return g.config.Provider.CreateNamespace(ctx, n)
	})
}

// updateNamespace takes the name from the path; the body may repeat it.
func (g *Gateway) updateNamespace(r *request) (operation, error) {
	return g.changeNamespace(r, func(ctx context.Context, n types.FunctionNamespace) error {
		return g.config.Provider.UpdateNamespace(ctx, n)
	})
}

// deleteNamespace takes the name from the path; the body may repeat it.
func (g *Gateway) deleteNamespace(r *request) (operation, error) {
	return g.changeNamespace(r, func(ctx context.Context, n types.FunctionNamespace) error {
		return g.config.Provider.DeleteNamespace(ctx, n.Name)
	})
}

func (g *Gateway) changeNamespace(r *request, do func(context.Context, types.FunctionNamespace) error) (operation, error) {
	var n types.FunctionNamespace
	// What the body says can only agree with the path.
	r.needsBody = r.needsBody && r.parameter == ""
	err := r.decode(&n)
	if err != nil {
		return operation{}, err
	}
	if n.Name, err = r.namespace("", r.parameter, n.Name); err != nil {
		return operation{}, err
	}
	return onNamespace(n.Name, func(ctx context.Context) error { return accepted(r, do(ctx, n)) }), nil
}

func onNamespace(name string, run func(ctx context.Context) error) operation {
	return operation{what: "namespace " + name, on: []target{{namespace: name, name: "*"}}, run: run}
}
