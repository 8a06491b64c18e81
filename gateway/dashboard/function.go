package dashboard

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/dashboard/chart"
	"github.com/gatehound/gatehound/gateway/history"
)

// functionPage is what the template "function" shows.
type functionPage struct {
	functionRow
	Labels, Annotations, Environment []pair
	// URL is where it is called.
	URL string
	// Pictures are of the last hour; nil = it is not known.
	Pictures []template.HTML
	// HourOf says whose calls are in them.
	HourOf string

	MayScale, MayDelete, MayUpdate, MayInvoke, MaySeeLogs bool
}

// pair is a label, an annotation or a variable.
type pair struct {
	Name, Value string
	Link        string // "" = the value is no link
}

// function shows one function.
func (v *visit) function() error { return v.showFunction(http.StatusOK) }

func (v *visit) showFunction(status int) error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	var f types.FunctionStatus
	if err := v.ask(http.MethodGet, apiPath("/system/function/", name), url.Values{"namespace": {namespace}, "usage": {"1"}}, nil, &f); err != nil {
		return err
	}
	f.Namespace, f.Name = namespace, name
	page := functionPage{
		functionRow: functionRow{FunctionStatus: f, NeedsToken: needsToken(f)},
		Environment: pairs(&f.EnvVars), Labels: pairs(f.Labels), Annotations: gitLinks(pairs(f.Annotations)),
		URL:       v.origin().JoinPath("function", name+"."+namespace).String(),
		MayScale:  v.may("Function:Scale", namespace, name),
		MayDelete: v.may("Function:Delete", namespace, name),
		MayUpdate: v.may("Function:Update", namespace, name),
		MayInvoke: !needsToken(f) || v.may("Function:Invoke", namespace, name), MaySeeLogs: v.may("Function:Logs", namespace, name),
	}
	if v.d.config.Hour != nil {
		h := v.d.config.Hour(v.r.Context(), namespace, name)
		page.Pictures = []template.HTML{chart.Calls(h)}
		if len(h.Codes) > 0 {
			page.Pictures = append(page.Pictures, chart.Latency(h), chart.Errors(h))
		}
		page.HourOf = hourOf(h, v.d.config.Now())
	}
	if v.form.Get("replicas") == "" {
		v.form.Set("replicas", strconv.FormatUint(f.Replicas, 10))
	}
	return v.show(status, "function", name, page)
}

// hourOf says which calls are in an hour.
func hourOf(h history.Hour, now time.Time) string {
	switch {
	case h.Everywhere:
		return "Calls through all gateways, as Prometheus has counted them."
	case !h.Since.IsZero():
		ago := now.Sub(h.Since)
		if ago < 2*time.Minute {
			return "Calls through this gateway, which has just started."
		}
		return fmt.Sprintf("Calls through this gateway, which started %d minutes ago.", int(ago.Minutes()))
	}
	return "Calls through this gateway."
}

// pairs are those of m, by name.
func pairs(m *map[string]string) (sorted []pair) {
	if m == nil {
		return nil
	}
	for name, value := range *m {
		sorted = append(sorted, pair{Name: name, Value: value})
	}
	slices.SortFunc(sorted, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}

// gitLinks adds links to values that are URLs, and to the repository and the
// commit that OpenFaaS' pipelines annotate functions with.
func gitLinks(annotations []pair) []pair {
	values := map[string]string{}
	for _, p := range annotations {
		values[p.Name] = p.Value
	}
	repository := webURL(values["com.openfaas.git-repo-url"])
	for i := range annotations {
		p := &annotations[i]
		p.Link = webURL(p.Value)
		if commit := strings.TrimSpace(p.Value); p.Name == "com.openfaas.git-sha" && repository != "" && commit != "" {
			p.Link = strings.TrimSuffix(strings.TrimSuffix(repository, "/"), ".git") + "/commit/" + url.PathEscape(commit)
		}
	}
	return annotations
}

// webURL returns s if it is an http:// or https:// URL; else "". Annotations are
// what strangers write: a javascript: link is none.
func webURL(s string) string {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.String()
}
