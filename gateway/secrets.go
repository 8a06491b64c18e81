package gateway

import (
	"context"
	"net/http"
	"slices"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
)

// listSecrets takes the namespace from the query. Whoever is granted a part of
// it gets that part. Values are told to nobody.
func (g *Gateway) listSecrets(r *request) (operation, error) {
	namespace, err := r.namespace(g.config.DefaultNamespace)
	if err != nil {
		return operation{}, err
	}
	return operation{what: "secrets in " + namespace, on: []target{{namespace, "*", true}}, run: func(ctx context.Context) error {
		secrets, err := g.config.Provider.Secrets(ctx, namespace)
		if err != nil {
			return err
		}
		secrets = slices.DeleteFunc(secrets, func(s types.Secret) bool {
			return !r.caller.may("Secret:List", target{namespace: namespace, name: s.Name})
		})
		for i, s := range secrets {
			secrets[i] = types.Secret{Name: s.Name, Namespace: namespace}
		}
		answerJSON(r.ctx, http.StatusOK, secrets)
		return nil
	}}, nil
}

// createSecret takes both from the body.
func (g *Gateway) createSecret(r *request) (operation, error) {
	return g.secret(r, func(ctx context.Context, s types.Secret) error { return g.config.Provider.CreateSecret(ctx, s) })
}

// updateSecret takes both from the body.
func (g *Gateway) updateSecret(r *request) (operation, error) {
	return g.secret(r, func(ctx context.Context, s types.Secret) error { return g.config.Provider.UpdateSecret(ctx, s) })
}

// deleteSecret takes both from the body.
func (g *Gateway) deleteSecret(r *request) (operation, error) {
	return g.secret(r, func(ctx context.Context, s types.Secret) error {
		return g.config.Provider.DeleteSecret(ctx, s.Namespace, s.Name)
	})
}

func (g *Gateway) secret(r *request, do func(context.Context, types.Secret) error) (operation, error) {
	var s types.Secret
	err := r.decode(&s)
	if err != nil {
		return operation{}, err
	}
	if s.Namespace, err = r.namespace(g.config.DefaultNamespace, s.Namespace); err != nil {
		return operation{}, err
	}
	if !config.ValidSecretName(s.Name) {
		return operation{}, badRequest("secret name %q: want lower case letters, digits, - and .", clip(s.Name))
	}
	return operation{
		what: "secret " + s.Name + " in " + s.Namespace,
		on:   []target{{namespace: s.Namespace, name: s.Name}},
		run:  func(ctx context.Context) error { return accepted(r, do(ctx, s)) },
	}, nil
}
