package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/provider"
)

// maxAlerts bounds how many functions one request can scale.
const maxAlerts = 1000

// alert takes Alertmanager's webhook, and from its body the functions: the
// label function_name, "name" or "name.namespace", of each alert. A function
// that has several alerts is scaled once, and up if one of them is firing.
func (g *Gateway) alert(r *request) (operation, error) {
	var body struct {
		Alerts []struct {
			Status string `json:"status"`
			Labels struct {
				FunctionName string `json:"function_name"`
			} `json:"labels"`
		} `json:"alerts"`
	}
	if err := r.decode(&body); err != nil {
		return operation{}, err
	}
	firing := map[provider.Function]bool{}
	var functions []provider.Function
	for _, a := range body.Alerts {
		f, ok := g.functionName([]byte(a.Labels.FunctionName))
		if !ok {
			return operation{}, badRequest("function_name %q: want <name> or <name>.<namespace>", clip(a.Labels.FunctionName))
		}
		if a.Status != "firing" && a.Status != "resolved" {
			return operation{}, badRequest("status %q of an alert: want firing or resolved", clip(a.Status))
		}
		if _, seen := firing[f]; !seen {
			functions = append(functions, f)
		}
		firing[f] = firing[f] || a.Status == "firing"
	}
	if len(functions) > maxAlerts {
		return operation{}, badRequest("alerts for %d functions: want %d at most", len(functions), maxAlerts)
	}
	var names []string
	op := operation{}
	for _, f := range functions {
		names = append(names, f.String())
		op.on = append(op.on, target{namespace: f.Namespace, name: f.Name})
	}
	op.what = "alerts of " + strings.Join(names[:min(len(names), 10)], ", ")
	op.run = func(ctx context.Context) error {
		for _, f := range functions {
			err := g.scaleByAlert(ctx, r, f, firing[f])
			// What is no more needs no scaling, and the others do.
			if err != nil && !errors.Is(err, provider.ErrNotFound) {
				return fmt.Errorf("scaling %s for an alert: %w", f, err)
			}
		}
		plain(r.ctx, http.StatusOK, "OK")
		return nil
	}
	return op, nil
}

func (g *Gateway) scaleByAlert(ctx context.Context, r *request, f provider.Function, firing bool) error {
	status, err := g.config.Provider.Status(ctx, f, false)
	if err != nil {
		return err
	}
	want := replicasWanted(status, firing)
	if want == status.Replicas {
		return nil
	}
	named(r.ctx, g.config.Log.Info()).Str("function", f.String()).Bool("firing", firing).Msgf("scaling from %d to %d", status.Replicas, want)
	return g.config.Provider.Scale(ctx, f, want)
}

// replicasWanted is how many replicas an alert asks for: while it fires, more by
// com.openfaas.scale.factor percent of com.openfaas.scale.max, and
// com.openfaas.scale.min once it is resolved. With the factor 0, or at zero
// replicas (which a call ends, and not an alert), it asks for nothing.
func replicasWanted(s types.FunctionStatus, firing bool) uint64 {
	least := scaleLabel(s.Labels, "com.openfaas.scale.min", 1)
	most := max(scaleLabel(s.Labels, "com.openfaas.scale.max", 20), least)
	factor := min(scaleLabel(s.Labels, "com.openfaas.scale.factor", 20), 100)
	switch {
	case factor == 0 || s.Replicas == 0:
		return s.Replicas
	case !firing:
		return least
	default:
		// Rounded up, so that there is a step.
		step := (most*factor + 99) / 100
		return min(max(s.Replicas, least)+step, max(most, s.Replicas))
	}
}

// scaleLabel returns a label's number; fallback if it has none that a cluster
// could have.
func scaleLabel(labels *map[string]string, name string, fallback uint64) uint64 {
	if labels == nil {
		return fallback
	}
	n, err := strconv.ParseUint((*labels)[name], 10, 32)
	if err != nil {
		return fallback
	}
	return n
}
