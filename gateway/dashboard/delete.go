package dashboard

import (
	"net/http"

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
	f, err := v.deployed()
	if err != nil {
		return err
	}
	return v.show(http.StatusOK, "confirm", "Delete "+f.Name, confirmPage{
		Question:    "Delete " + f.Name + " in " + f.Namespace + "?",
		Consequence: "Its replicas are stopped, and calls to it are answered with 404. It cannot be taken back: deploy it again then.",
		Action:      functionPath(f.Namespace, f.Name, "/delete"), Button: "Delete " + f.Name, Back: functionPath(f.Namespace, f.Name, ""),
	})
}

func (v *visit) delete() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	if err := v.ask(http.MethodDelete, "/system/functions", nil, types.DeleteFunctionRequest{FunctionName: name, Namespace: namespace}, nil); err != nil {
		return err
	}
	return v.done(inNamespace("/ui/", namespace), "%s was deleted.", name)
}
