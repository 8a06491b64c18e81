package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
)

// secretsPage is what the template "secrets" shows: names, and never a value.
type secretsPage struct {
	Namespace  string
	Namespaces []string
	Secrets    []secretRow
	MayCreate  bool
}

type secretRow struct {
	Name      string
	MayDelete bool
}

// secretField is where a value is typed. As its name begins like those of our own
// fields it is not kept when a form comes too late, and it is never filled in.
const secretField = "_value"

// secrets lists the secrets of a namespace.
func (v *visit) secrets() error { return v.showSecrets(http.StatusOK) }

func (v *visit) showSecrets(status int) error {
	v.nav = "Secrets"
	var page secretsPage
	var err error
	if page.Namespace, page.Namespaces, err = v.pickNamespace("Secret:List"); err != nil {
		return err
	}
	names, err := v.secretNames(page.Namespace)
	if err != nil {
		return err
	}
	for _, name := range names {
		page.Secrets = append(page.Secrets, secretRow{name, v.may("Secret:Delete", page.Namespace, name)})
	}
	page.MayCreate = v.maySome("Secret:Create", page.Namespace)
	return v.show(status, "secrets", "Secrets in "+page.Namespace, page)
}

// secretNames are those of a namespace that the person may see.
func (v *visit) secretNames(namespace string) (names []string, err error) {
	var list []types.Secret
	if err := v.ask(http.MethodGet, "/system/secrets", url.Values{"namespace": {namespace}}, nil, &list); err != nil {
		return nil, err
	}
	for _, s := range list {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names, nil
}

// secretHint are the names for the hint beside a field; nil = they are not known.
func (v *visit) secretHint(namespace string) (names []string) {
	if v.maySome("Secret:List", namespace) {
		names, _ = v.secretNames(namespace)
	}
	return names
}

// createSecret creates one.
func (v *visit) createSecret() error {
	s := types.Secret{Name: strings.TrimSpace(v.form.Get("name")), Namespace: v.form.Get("namespace"), Value: typed(v.form.Get(secretField))}
	if !config.ValidSecretName(s.Name) {
		v.amiss("name", "Want lower case letters, digits, hyphens and dots, such as api-key.")
	}
	if s.Value == "" {
		v.amiss(secretField, "A value is needed.")
	}
	if v.wrongs != nil {
		return v.showSecrets(http.StatusBadRequest)
	}
	if err := v.ask(http.MethodPost, "/system/secrets", nil, s, nil); err != nil {
		status, err := v.refused(err)
		if err != nil {
			return err
		}
		return v.showSecrets(status)
	}
	return v.done(inNamespace("/ui/secrets", s.Namespace), "The secret %s was created.", s.Name)
}

// secretDeletion asks whether a secret is to be deleted.
func (v *visit) secretDeletion() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	if !v.may("Secret:Delete", namespace, name) {
		return forbidden("Secret:Delete", namespace, name)
	}
	path := "/ui/secrets/" + url.PathEscape(namespace) + "/" + url.PathEscape(name) + "/delete"
	return v.show(http.StatusOK, "confirm", "Delete "+name, confirmPage{
		Question:    "Delete the secret " + name + " in " + namespace + "?",
		Consequence: "Its value is gone then. Functions that name it may no longer start.",
		Action:      path, Button: "Delete " + name, Back: inNamespace("/ui/secrets", namespace),
	})
}

func (v *visit) deleteSecret() error {
	namespace, name := v.r.PathValue("namespace"), v.r.PathValue("name")
	if err := v.ask(http.MethodDelete, "/system/secrets", nil, types.Secret{Name: name, Namespace: namespace}, nil); err != nil {
		return err
	}
	return v.done(inNamespace("/ui/secrets", namespace), "The secret %s was deleted.", name)
}
