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
	// Roles give it to those they match. Matching do so too, and match the person: the
	// next login gives it. RolesKnown is false if no ID token says who the person is.
	Roles, Matching []string
	RolesKnown      bool
}

// missing finds in the API's refusal what is not granted.
var missing = regexp.MustCompile(`want (\S+:\S+) on (\S+:\S+)$`)

// showForbidden says what the person lacks.
func (v *visit) showForbidden(r *refusal) error {
	page := forbiddenPage{Message: r.Message, Subject: v.session.subject, Issuer: v.session.issuer, Policies: v.policies()}
	if found := missing.FindStringSubmatch(r.Message); found != nil {
		page.Action, page.Resource = found[1], found[2]
		page.Roles, page.Matching, page.RolesKnown = v.rolesFor(found[1], found[2])
	}
	return v.show(http.StatusForbidden, "forbidden", "Not authorized", page)
}

// rolesFor are the roles of the person's issuer that give an action on
// namespace:name. Their names are told, and not whom they are for.
func (v *visit) rolesFor(action, resource string) (roles, matching []string, known bool) {
	c, _ := v.session.current()
	x := v.d.explain(c.claims)
	if x == nil {
		return nil, nil, false
	}
	objects := v.d.config.Objects()
	namespace, name, _ := strings.Cut(resource, ":")
	for _, r := range x.Roles {
		gives := slices.ContainsFunc(objects.Resources(r.Policies, action, c.claims), func(given iam.Resource) bool { return given.Matches(namespace, name) })
		switch {
		case !gives || r.Elsewhere:
		case len(r.Unmet) == 0:
			matching = append(matching, r.Name)
		case len(roles) < maxRolesShown:
			roles = append(roles, r.Name)
		}
	}
	return roles, matching, true
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
