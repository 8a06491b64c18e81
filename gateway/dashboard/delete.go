package dashboard

import (
	"net/http"
	"net/url"

	"github.com/openfaas/faas-provider/types"
)

// confirmPage is what the template "confirm" shows.
type confirmPage struct {
	Question, Consequence string
	// Action is the form's, Button what it says, Back where no leads.
	Action, Button, Back string
}

// deletion asks whether a function is to be deleted.
func (v *visit) deletion() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	var f types.FunctionStatus
	if err := v.ask(http.MethodGet, apiPath("/system/function/", name), url.Values{"namespace": {namespace}}, nil, &f); err != nil {
		return err
	}
	if !v.may("Function:Delete", namespace, name) {
		return forbidden("Function:Delete", namespace, name)
	}
	return v.show(http.StatusOK, "confirm", "Delete "+name, confirmPage{
		Question:    "Delete " + name + " in " + namespace + "?",
		Consequence: "Its replicas are stopped, and calls to it are answered with 404. It cannot be taken back: deploy it again then.",
		Action:      functionPath(namespace, name, "/delete"), Button: "Delete " + name, Back: functionPath(namespace, name, ""),
	})
}

func (v *visit) delete() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	if err := v.ask(http.MethodDelete, "/system/functions", nil, types.DeleteFunctionRequest{FunctionName: name, Namespace: namespace}, nil); err != nil {
		return err
	}
	return v.done("/ui/?"+url.Values{"namespace": {namespace}}.Encode(), "%s was deleted.", name)
}
