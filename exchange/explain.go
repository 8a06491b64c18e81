package exchange

import (
	"time"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
)

// Question is what [Explain] is asked.
type Question struct {
	Objects *iam.Set
	// Issuer is our own issuer's URL: a token with it is an API token.
	Issuer string
	// Claims are the token's.
	Claims auth.Claims
	// Action is one of [iam.Actions], Namespace and Name of which function;
	// both empty = any resource.
	Action, Namespace, Name string
	// Now is the time at which; nil = now.
	Now func() time.Time
}

// Explanation says who may do something and why, or why not.
type Explanation struct {
	// APIToken: the token is one of ours, whose policies were decided on when
	// it was issued; false = an ID token.
	APIToken bool
	// Faults are why the token would be refused, whoever signed it.
	Faults []string
	// Roles are all there are, for an ID token.
	Roles []iam.RoleReason
	// Policies are those of the token, by its roles or by its claim.
	Policies []string
	// Statements are those of Policies.
	Statements []iam.StatementReason
	// Allowed: the token has no fault and a statement grants what was asked.
	Allowed bool
}

// Explain answers by the code that decides on an exchange and on /system/*. It
// asks nobody for keys, and so cannot say whether the claims are genuine.
func Explain(q Question) Explanation {
	var x Explanation
	fault := func(err error) {
		if e, ok := err.(*Error); ok {
			x.Faults = append(x.Faults, e.Description)
		} else if err != nil {
			x.Faults = append(x.Faults, err.Error())
		}
	}
	iss, _ := q.Claims["iss"].(string)
	var s subject
	var err error
	if x.APIToken = iss == q.Issuer; x.APIToken {
		fault(q.Claims.Check(auth.Expect{Issuer: iss, Audience: []string{iss}, Now: q.Now}))
		s, err = apiSubject(q.Objects, q.Issuer, q.Claims)
	} else {
		if trusted, ok := q.Objects.Issuer(iss); ok {
			fault(q.Claims.Check(auth.Expect{Issuer: iss, Audience: trusted.Spec.Aud, Now: q.Now}))
		} else {
			fault(untrusted(iss))
		}
		x.Roles = q.Objects.ExplainRoles(q.Claims)
		s, err = idSubject(q.Objects, q.Issuer, iss, q.Claims)
	}
	fault(err)
	x.Policies = s.policies
	x.Statements = q.Objects.ExplainStatements(s.policies, q.Action, q.Namespace, q.Name, s.claims)
	for _, st := range x.Statements {
		x.Allowed = x.Allowed || len(st.Unmet) == 0
	}
	x.Allowed = x.Allowed && len(x.Faults) == 0
	return x
}
