package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// namespace returns the namespace that a request is about. All places that say
// one, besides the query, are in said; "" says nothing. They must agree: else
// what is authorized here might not be what somebody else on the way sees.
func (r *request) namespace(fallback string, said ...string) (string, error) {
	namespace := ""
	for _, n := range append(said, r.query["namespace"]...) {
		if n != "" && namespace != "" && n != namespace {
			return "", badRequest("the request names two namespaces, %q and %q: the path, the query and the body must agree", clip(namespace), clip(n))
		}
		namespace = cmp.Or(n, namespace)
	}
	namespace = cmp.Or(namespace, fallback)
	if !config.ValidName(namespace) {
		return "", badRequest("namespace %q: want a DNS label", clip(namespace))
	}
	return namespace, nil
}

// function returns the function that a request is about: said in the path, or
// in the body with its namespace, or both, which must agree.
func (g *Gateway) function(r *request, inBody, namespaceInBody string) (provider.Function, error) {
	name, namespaceInPath := inBody, ""
	if r.parameter != "" {
		f, dotted, ok := parseFunction(r.parameter)
		if !ok {
			return f, badRequest("%q is not the name of a function: want <name> or <name>.<namespace>", clip(r.parameter))
		}
		if inBody != "" && inBody != f.Name {
			return f, badRequest("the path names the function %q and the body %q: they must agree", f.Name, clip(inBody))
		}
		name = f.Name
		if dotted {
			namespaceInPath = f.Namespace
		}
	}
	namespace, err := r.namespace(g.config.DefaultNamespace, namespaceInPath, namespaceInBody)
	if err != nil {
		return provider.Function{}, err
	}
	if !config.ValidName(name) {
		return provider.Function{}, badRequest("function name %q: want a DNS label", clip(name))
	}
	return provider.Function{Namespace: namespace, Name: name}, nil
}

func onFunction(f provider.Function, run func(ctx context.Context) error) operation {
	return operation{what: "function " + f.String(), on: []target{{namespace: f.Namespace, name: f.Name}}, run: run}
}

// accepted answers a change that is under way, as faas-netes does.
func accepted(r *request, err error) error {
	if err == nil {
		r.ctx.Response.SetStatusCode(http.StatusAccepted)
	}
	return err
}

// listFunctions takes the namespace from the query. Whoever is granted a part
// of it gets that part.
func (g *Gateway) listFunctions(r *request) (operation, error) {
	namespace, err := r.namespace(g.config.DefaultNamespace)
	if err != nil {
		return operation{}, err
	}
	return operation{what: "functions in " + namespace, on: []target{{namespace, "*", true}}, run: func(ctx context.Context) error {
		functions, err := g.config.Provider.List(ctx, namespace)
		if err != nil {
			return err
		}
		functions = slices.DeleteFunc(functions, func(f types.FunctionStatus) bool {
			return !r.caller.may("Function:List", target{namespace: namespace, name: f.Name})
		})
		g.countInvocations(namespace, functions)
		answerJSON(r.ctx, http.StatusOK, functions)
		return nil
	}}, nil
}

// describe takes the name from the path.
func (g *Gateway) describe(r *request) (operation, error) {
	f, err := g.function(r, "", "")
	if err != nil {
		return operation{}, err
	}
	usage := r.query.Get("usage") == "1" || r.query.Get("usage") == "true"
	return onFunction(f, func(ctx context.Context) error {
		status, err := g.config.Provider.Status(ctx, f, usage)
		if err != nil {
			return err
		}
		statuses := []types.FunctionStatus{status}
		g.countInvocations(f.Namespace, statuses)
		answerJSON(r.ctx, http.StatusOK, statuses[0])
		return nil
	}), nil
}

// countInvocations fills in what Prometheus has counted; without one, or while
// it does not answer, what we have, unless the provider counts.
func (g *Gateway) countInvocations(namespace string, functions []types.FunctionStatus) {
	var counted map[string]float64
	if g.counts != nil {
		counted = g.counts.get()
	}
	for i := range functions {
		s := &functions[i]
		f := provider.Function{Namespace: namespace, Name: s.Name}
		if counted != nil {
			s.InvocationCount = counted[f.String()]
		} else if s.InvocationCount == 0 {
			s.InvocationCount = g.metrics.functions.invocations(f)
		}
	}
}

// deploy takes both from the body. A function that is there already is
// replaced, and that is an update, too.
func (g *Gateway) deploy(r *request) (operation, error) {
	d, f, err := g.deployment(r)
	if err != nil {
		return operation{}, err
	}
	op := onFunction(f, func(ctx context.Context) error {
		done, err := g.deploying.take(ctx, f)
		if err != nil {
			return err
		}
		defer done()
		here := target{namespace: f.Namespace, name: f.Name}
		if !r.caller.may("Function:Update", here) {
			_, err := g.config.Provider.Status(ctx, f, false)
			if err == nil {
				return forbidden("Function:Update", here)
			}
			if !errors.Is(err, provider.ErrNotFound) {
				return err
			}
		}
		return accepted(r, g.config.Provider.Deploy(ctx, d))
	})
	op.mayNeed = "Function:Update"
	return op, nil
}

// update takes both from the body.
func (g *Gateway) update(r *request) (operation, error) {
	d, f, err := g.deployment(r)
	if err != nil {
		return operation{}, err
	}
	return onFunction(f, func(ctx context.Context) error { return accepted(r, g.config.Provider.Update(ctx, d)) }), nil
}

func (g *Gateway) deployment(r *request) (types.FunctionDeployment, provider.Function, error) {
	var d types.FunctionDeployment
	if err := r.decode(&d); err != nil {
		return d, provider.Function{}, err
	}
	f, err := g.function(r, d.Service, d.Namespace)
	d.Namespace = f.Namespace
	return d, f, err
}

// deleteFunction takes both from the body.
func (g *Gateway) deleteFunction(r *request) (operation, error) {
	var d types.DeleteFunctionRequest
	if err := r.decode(&d); err != nil {
		return operation{}, err
	}
	f, err := g.function(r, d.FunctionName, d.Namespace)
	if err != nil {
		return operation{}, err
	}
	return onFunction(f, func(ctx context.Context) error {
		err := g.config.Provider.Delete(ctx, f)
		if err == nil {
			g.metrics.functions.forget(f)
		}
		return accepted(r, err)
	}), nil
}

// scale takes the name from the path and the namespace from the body.
func (g *Gateway) scale(r *request) (operation, error) {
	var s struct {
		types.ScaleServiceRequest
		Replicas *uint64 `json:"replicas"` // one that is missing is not 0
	}
	if err := r.decode(&s); err != nil {
		return operation{}, err
	}
	if s.Replicas == nil {
		return operation{}, badRequest("replicas is missing")
	}
	f, err := g.function(r, s.ServiceName, s.Namespace)
	if err != nil {
		return operation{}, err
	}
	return onFunction(f, func(ctx context.Context) error { return accepted(r, g.config.Provider.Scale(ctx, f, *s.Replicas)) }), nil
}

// info is about no namespace. It is in the form of OpenFaaS' gateway, with the
// provider in it.
func (g *Gateway) info(r *request) (operation, error) {
	return operation{what: "info", on: []target{{"*", "*", false}}, run: func(ctx context.Context) error {
		behind, err := g.config.Provider.Info(ctx)
		if err != nil {
			return err
		}
		if behind.Version == nil {
			behind.Version = &types.VersionInfo{}
		}
		release, revision := config.Version()
		answerJSON(r.ctx, http.StatusOK, struct {
			Provider types.ProviderInfo `json:"provider"`
			Version  types.VersionInfo  `json:"version"`
			Arch     string             `json:"arch"`
		}{behind, types.VersionInfo{Release: release, SHA: revision}, cmp.Or(map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH], runtime.GOARCH)})
		return nil
	}}, nil
}

// telemetry takes what OpenFaaS' components report home, and drops it.
func (g *Gateway) telemetry(r *request) (operation, error) {
	return operation{what: "telemetry", run: func(context.Context) error {
		r.ctx.Response.SetStatusCode(http.StatusOK)
		return nil
	}}, nil
}
