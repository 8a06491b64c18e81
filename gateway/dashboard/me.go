package dashboard

import (
	"net/http"
	"time"

	"github.com/gatehound/gatehound/auth/iam"
)

// mePage is what the template "me" shows.
type mePage struct {
	Subject, Issuer, Name string
	Everything            bool // there is no token that would limit it
	Foreign               bool // the auth plugin decides
	TokenUntil            time.Time
	Renews                bool
	SessionUntil          time.Time
	Roles                 []string
	Policies              []string
	Grants                []grant
}

// grant is what one action is granted on.
type grant struct {
	Action    string
	Resources []iam.Resource
}

// me says who somebody is and what they may do.
func (v *visit) me() error {
	s := v.session
	c, err := s.current()
	if err != nil {
		return err
	}
	page := mePage{
		Subject: s.subject, Issuer: s.issuer, TokenUntil: c.until, Renews: c.refresh != "", Foreign: v.d.config.Foreign,
		SessionUntil: s.begun.Add(v.d.config.Lifetime), Policies: v.policies(), Everything: c.token == "",
	}
	if c.token != "" {
		id, err := v.d.config.Identify(v.r.Context(), []byte(c.token))
		if err != nil {
			return &refusal{http.StatusUnauthorized, "The API token is no longer good."}
		}
		page.Name = id.FullName()
		for _, action := range iam.Actions() {
			if resources := id.Granted(action); len(resources) > 0 {
				page.Grants = append(page.Grants, grant{action, resources})
			}
		}
		if x := v.d.explain(c.claims); x != nil {
			for _, r := range x.Roles {
				if len(r.Unmet) == 0 {
					page.Roles = append(page.Roles, r.Name)
				}
			}
		}
	}
	return v.show(http.StatusOK, "me", "Who am I", page)
}
