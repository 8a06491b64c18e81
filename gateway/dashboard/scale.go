package dashboard

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/openfaas/faas-provider/types"
)

// scale sets the number of replicas that the form on a function's page names.
func (v *visit) scale() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	replicas, err := strconv.ParseUint(strings.TrimSpace(v.form.Get("replicas")), 10, 32)
	if err != nil {
		v.amiss("replicas", "Want a whole number, 0 or more.")
		return v.showFunction(http.StatusBadRequest)
	}
	err = v.ask(http.MethodPost, apiPath("/system/scale-function/", name), nil,
		types.ScaleServiceRequest{ServiceName: name, Namespace: namespace, Replicas: replicas}, nil)
	if err != nil {
		status, err := v.refused(err)
		if err != nil {
			return err
		}
		return v.showFunction(status)
	}
	return v.done(functionPath(namespace, name, ""), "%s is being scaled to %d.", name, replicas)
}
