package dashboard

import (
	"cmp"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/dashboard/chart"
	"github.com/gatehound/gatehound/gateway/history"
)

// functionsPage is what the template "functions" shows.
type functionsPage struct {
	Namespace  string
	Namespaces []string
	Functions  []functionRow
	// Latencies says that some are known. Prometheus is not asked for them here.
	Latencies bool
	MayDeploy bool
	Gateway   string // our URL
}

type functionRow struct {
	types.FunctionStatus
	NeedsToken bool
	// Picture, Rate, Errors and Latency are of the last hour; "" = it is not known.
	Picture               template.HTML
	Rate, Errors, Latency string
}

// functions lists the functions of a namespace.
func (v *visit) functions() error {
	page := functionsPage{Gateway: v.origin().String()}
	var err error
	if page.Namespace, page.Namespaces, err = v.pickNamespace(""); err != nil {
		return err
	}
	var functions []types.FunctionStatus
	if err := v.ask(http.MethodGet, "/system/functions", url.Values{"namespace": {page.Namespace}}, nil, &functions); err != nil {
		return err
	}
	slices.SortFunc(functions, func(a, b types.FunctionStatus) int { return strings.Compare(a.Name, b.Name) })
	var hours map[string]history.Hour
	if v.d.config.Hours != nil {
		hours = v.d.config.Hours(v.r.Context(), page.Namespace)
	}
	for _, f := range functions {
		row := functionRow{FunctionStatus: f, NeedsToken: needsToken(f)}
		if v.d.config.Hours != nil {
			h := hours[f.Name+"."+page.Namespace]
			row.Picture, row.Rate, row.Errors = chart.Line(h), chart.Rate(h), chart.ErrorShare(h)
			row.Latency = chart.Seconds(h.Overall(0.95))
			page.Latencies = page.Latencies || len(h.Bounds) > 0
		}
		page.Functions = append(page.Functions, row)
	}
	page.MayDeploy = v.maySome("Function:Create", page.Namespace)
	return v.show(http.StatusOK, "functions", "Functions in "+page.Namespace, page)
}

// pickNamespace returns the namespace that a page is about, and the choice: where the
// person may see something or, if an action is given, where that is granted. Without
// a namespace in the request it is the default one, or the first of the choice if the
// default one is not in it.
func (v *visit) pickNamespace(action string) (current string, choice []string, err error) {
	asked := cmp.Or(v.form.Get("namespace"), v.r.URL.Query().Get("namespace"))
	current = cmp.Or(asked, v.d.config.DefaultNamespace)
	if choice, err = v.namespaces(current); err != nil {
		return "", nil, err
	}
	if action != "" {
		choice = append(choice, current)
		slices.Sort(choice)
		choice = slices.DeleteFunc(slices.Compact(choice), func(n string) bool { return !v.maySome(action, n) })
	}
	if asked == "" && len(choice) > 0 && !slices.Contains(choice, current) {
		current = choice[0]
	}
	return current, choice, nil
}

// inNamespace is the URL of a page of ours about a namespace.
func inNamespace(page, namespace string) string {
	return page + "?" + url.Values{"namespace": {namespace}}.Encode()
}

// namespaces are those that the person may see, and the one that was asked for.
// Who may see a function, but not its namespace, has it from what is granted.
func (v *visit) namespaces(asked string) ([]string, error) {
	var names []string
	if v.maySome("Namespace:List", "*") { // else each look would be a refusal in the gateway's log
		err := v.ask(http.MethodGet, "/system/namespaces", nil, nil, &names)
		var refused *refusal
		if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusForbidden) {
			return nil, err
		}
	}
	for _, action := range []string{"Function:List", "Function:Get"} {
		for _, r := range v.granted(action) {
			if namespace, _, found := strings.Cut(string(r), ":"); found && !strings.Contains(namespace, "*") {
				names = append(names, namespace)
			}
		}
	}
	if v.may("Function:List", asked, "*") {
		names = append(names, asked)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// needsToken reports whether a function asks callers for a function token.
func needsToken(f types.FunctionStatus) bool {
	switch strings.ToLower(f.EnvVars["jwt_auth"]) {
	case "1", "t", "true":
		return true
	}
	return false
}
