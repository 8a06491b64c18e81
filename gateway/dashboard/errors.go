package dashboard

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/login"
)

func (v *visit) notFound() error {
	return &refusal{http.StatusNotFound, "There is no such page."}
}

// forbiddenPage is what the template "forbidden" shows.
type forbiddenPage struct {
	Message          string
	Subject, Issuer  string
	Policies         []string
	Action, Resource string // what is missing; "" = the API has not said so
}

// missing finds in the API's refusal what is not granted.
var missing = regexp.MustCompile(`want (\S+:\S+) on (\S+:\S+)$`)

// showForbidden says what the person lacks.
func (v *visit) showForbidden(r *refusal) error {
	page := forbiddenPage{Message: r.Message, Subject: v.session.subject, Issuer: v.session.issuer, Policies: v.policies()}
	if found := missing.FindStringSubmatch(r.Message); found != nil {
		page.Action, page.Resource = found[1], found[2]
	}
	return v.show(http.StatusForbidden, "forbidden", "Not authorized", page)
}

// policies are those in the person's API token.
func (v *visit) policies() (names []string) {
	c, _ := v.session.current()
	list, _ := apiClaims(c.token)["policy"].([]any)
	for _, name := range list {
		if text, is := name.(string); is {
			names = append(names, text)
		}
	}
	return names
}

// strangerPage is what the template "stranger" shows.
type strangerPage struct {
	Message         string
	Subject, Issuer string
	Roles           []iam.RoleReason
}

// showStranger says why somebody the provider knows gets no API token.
func (v *visit) showStranger(r *login.Refusal, claims map[string]any) error {
	page := strangerPage{Message: r.Description}
	page.Subject, _ = claims["sub"].(string)
	page.Issuer, _ = claims["iss"].(string)
	if x := v.d.explain(claims); x != nil {
		page.Roles = slices.DeleteFunc(x.Roles, func(r iam.RoleReason) bool { return r.Elsewhere })
		slices.SortStableFunc(page.Roles, func(a, b iam.RoleReason) int { return len(a.Unmet) - len(b.Unmet) })
		page.Roles = page.Roles[:min(len(page.Roles), 10)]
		for i := range page.Roles {
			for j, line := range page.Roles[i].Unmet {
				// What would match is other people's names, and at some providers
				// everybody has an account.
				page.Roles[i].Unmet[j], _, _ = strings.Cut(line, ", want ")
			}
		}
	}
	return v.show(http.StatusForbidden, "stranger", "Not authorized", page)
}
