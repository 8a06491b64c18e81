package dashboard

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
)

// deployPage is what the template "deploy" shows.
type deployPage struct {
	// Namespace and Name are of the function that is changed; Name is "" for a new
	// one.
	Namespace, Name string
	Namespaces      []string // where a new one may be
	Secrets         []string // that are there, as far as they may be seen
	// Unknown says that the provider has reported no environment: there is none, or
	// it does not tell.
	Unknown bool
}

// jwtAuth is the variable that has a function ask its callers for a token. It is
// a field of its own in the form.
const jwtAuth = "jwt_auth"

// noEnvironment is ticked by who knows that a function has none, where the provider
// has told of none. Some do not tell; what the form sends is then all there is, and a
// jwt_auth that was not seen would be gone.
const noEnvironment = "no_environment"

// deployment shows the form for a new function.
func (v *visit) deployment() error { return v.showDeployment(http.StatusOK) }

func (v *visit) showDeployment(status int) error {
	var page deployPage
	var err error
	if page.Namespace, page.Namespaces, err = v.pickNamespace("Function:Create"); err != nil {
		return err
	}
	if len(page.Namespaces) == 0 {
		return forbidden("Function:Create", page.Namespace, "*")
	}
	page.Secrets = v.secretHint(page.Namespace)
	return v.show(status, "deploy", "Deploy a function", page)
}

// forbidden is the API's refusal, for what we need not ask it.
func forbidden(action, namespace, name string) error {
	return &refusal{http.StatusForbidden, "insufficient permissions: want " + action + " on " + namespace + ":" + name}
}

// deploy deploys a new function.
func (v *visit) deploy() error {
	d := v.deploymentOf(types.FunctionStatus{})
	d.Service, d.Namespace = strings.TrimSpace(v.form.Get("name")), v.form.Get("namespace")
	if !config.ValidName(d.Service) {
		v.amiss("name", "Want lower case letters, digits and hyphens, 63 at most, such as resize-image.")
	}
	if !config.ValidName(d.Namespace) {
		v.amiss("namespace", "Pick one.")
	}
	if v.wrongs != nil {
		return v.showDeployment(http.StatusBadRequest)
	}
	// The API would replace one of the same name, which a form for a new one should
	// not do unasked. Who may not see that one is told by the API.
	err := v.ask(http.MethodGet, apiPath("/system/function/", d.Service), url.Values{"namespace": {d.Namespace}}, nil, nil)
	if err == nil {
		v.amiss("name", "There is a function of this name in %s. Change it on its page, or pick another name.", d.Namespace)
		return v.showDeployment(http.StatusConflict)
	}
	var r *refusal
	if !errors.As(err, &r) || r.Status == http.StatusUnauthorized {
		return err
	}
	if err := v.ask(http.MethodPost, "/system/functions", nil, d, nil); err != nil {
		status, err := v.refused(err)
		if err != nil {
			return err
		}
		return v.showDeployment(status)
	}
	return v.done(v.afterDeployment(d), "%s is being deployed.", d.Service)
}

// afterDeployment is the page to go to: who may deploy a function may perhaps not
// look at it.
func (v *visit) afterDeployment(d types.FunctionDeployment) string {
	if v.may("Function:Get", d.Namespace, d.Service) {
		return functionPath(d.Namespace, d.Service, "")
	}
	return inNamespace("/ui/", d.Namespace)
}

// change shows the form for a function that is there, as it is.
func (v *visit) change() error {
	f, err := v.deployed()
	if err != nil {
		return err
	}
	if len(v.form) == 0 { // else it is what was typed before the session had ended
		environment := maps.Clone(f.EnvVars)
		delete(environment, jwtAuth)
		v.form = url.Values{
			"image": {f.Image}, "process": {f.EnvProcess}, "environment": {formatPairs(environment)},
			"secrets": {strings.Join(f.Secrets, " ")},
		}
		if f.Labels != nil {
			v.form.Set("labels", formatPairs(*f.Labels))
		}
		if f.Annotations != nil {
			v.form.Set("annotations", formatPairs(*f.Annotations))
		}
		if f.Limits != nil {
			v.form.Set("memory", f.Limits.Memory)
			v.form.Set("cpu", f.Limits.CPU)
		}
		if needsToken(f) {
			v.form.Set(jwtAuth, "true")
		}
	}
	return v.showChange(http.StatusOK, f)
}

func (v *visit) deployed() (f types.FunctionStatus, err error) {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	err = v.ask(http.MethodGet, apiPath("/system/function/", name), url.Values{"namespace": {namespace}}, nil, &f)
	f.Namespace, f.Name = namespace, name
	return f, err
}

func (v *visit) showChange(status int, f types.FunctionStatus) error {
	if !v.may("Function:Update", f.Namespace, f.Name) {
		return forbidden("Function:Update", f.Namespace, f.Name)
	}
	return v.show(status, "deploy", "Change "+f.Name, deployPage{
		Namespace: f.Namespace, Name: f.Name, Secrets: v.secretHint(f.Namespace), Unknown: len(f.EnvVars) == 0,
	})
}

// update changes a function. What the form has no field for stays as it is.
func (v *visit) update() error {
	f, err := v.deployed()
	if err != nil {
		return err
	}
	d := v.deploymentOf(f)
	if len(f.EnvVars) == 0 && v.form.Get(noEnvironment) == "" {
		v.amiss(noEnvironment, "Tick this if it is so. If not, deploy the function again from its stack.yml.")
	}
	if v.wrongs != nil {
		return v.showChange(http.StatusBadRequest, f)
	}
	if err := v.ask(http.MethodPut, "/system/functions", nil, d, nil); err != nil {
		status, err := v.refused(err)
		if err != nil {
			return err
		}
		return v.showChange(status, f)
	}
	return v.done(v.afterDeployment(d), "%s is being updated.", d.Service)
}

// deploymentOf reads the form, for a function that is there or a new one.
func (v *visit) deploymentOf(f types.FunctionStatus) types.FunctionDeployment {
	pairsOf := func(field string) map[string]string {
		m, err := parsePairs(v.form.Get(field))
		if err != nil {
			v.amiss(field, "%s.", sentence(err.Error()))
		}
		return m
	}
	d := types.FunctionDeployment{
		Service: f.Name, Namespace: f.Namespace,
		Image: strings.TrimSpace(v.form.Get("image")), EnvProcess: strings.TrimSpace(v.form.Get("process")),
		EnvVars: pairsOf("environment"), Labels: pointer(pairsOf("labels")), Annotations: pointer(pairsOf("annotations")),
		Secrets:     strings.FieldsFunc(v.form.Get("secrets"), func(r rune) bool { return strings.ContainsRune(" ,;\t\r\n", r) }),
		Constraints: f.Constraints, Requests: f.Requests, ReadOnlyRootFilesystem: f.ReadOnlyRootFilesystem,
	}
	if d.Image == "" {
		v.amiss("image", "An image is needed.")
	}
	if _, typed := d.EnvVars[jwtAuth]; typed {
		v.amiss("environment", "Take %s out here: the box above is for that.", jwtAuth)
	}
	if v.form.Get(jwtAuth) != "" {
		if d.EnvVars == nil {
			d.EnvVars = map[string]string{}
		}
		d.EnvVars[jwtAuth] = "true"
	}
	for _, s := range d.Secrets {
		if !config.ValidSecretName(s) {
			v.amiss("secrets", "%.60q is not the name of a secret.", s)
		}
	}
	var limits types.FunctionResources
	if f.Limits != nil {
		limits = *f.Limits
	}
	limits.Memory, limits.CPU = strings.TrimSpace(v.form.Get("memory")), strings.TrimSpace(v.form.Get("cpu"))
	if limits != (types.FunctionResources{}) {
		d.Limits = &limits
	}
	return d
}

// sentence begins with a capital letter.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
