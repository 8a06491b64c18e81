package dashboard

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
)

// explainPage is what the template "explain" shows.
type explainPage struct {
	Actions []string
	// MayAskOfOthers: the person may do everything, and so see what others may.
	MayAskOfOthers bool
	Everything     bool // no token limits the person
	Foreign        bool
	Verdict        *verdict // nil = nothing was asked yet
}

// verdict is an explained decision.
type verdict struct {
	Asked    string // such as "Function:Invoke on dev:env"
	Of       string // whose it is; "" = the person's own
	Allowed  bool
	Faults   []string
	Roles    []iam.RoleReason
	More     int // roles that are not shown
	Policies []string
	Reasons  []iam.StatementReason
	Filled   []string // claims that were not given
}

const (
	maxRolesShown  = 20
	maxClaimsShown = 64 << 10
)

// explanation shows the form.
func (v *visit) explanation() error {
	if len(v.form) == 0 {
		v.form = url.Values{"action": {"Function:Invoke"}, "resource": {v.r.URL.Query().Get("resource")}}
		if a := v.r.URL.Query().Get("action"); slices.Contains(iam.Actions(), a) {
			v.form.Set("action", a)
		}
		if c, err := v.session.current(); err == nil && c.token == "" && v.mayAll() {
			v.form.Set("claims", "{\n  \"iss\": "+quoted(v.anIssuer())+",\n  \"sub\": \"alice\"\n}")
		}
	}
	return v.showExplanation(http.StatusOK, nil)
}

// anIssuer is one that people may log in at, for an example.
func (v *visit) anIssuer() string {
	if v.d.config.Provider != nil {
		return v.d.config.Provider.Issuer
	}
	if objects := v.d.config.Objects(); objects != nil {
		for _, i := range objects.Issuers() {
			return i.Spec.Iss
		}
	}
	return "https://idp.example.com"
}

func (v *visit) showExplanation(status int, x *verdict) error {
	v.nav = "Why?"
	c, err := v.session.current()
	if err != nil {
		return err
	}
	return v.show(status, "explain", "Why something is allowed", explainPage{
		Actions: iam.Actions(), MayAskOfOthers: v.mayAll(), Everything: c.token == "", Foreign: v.d.config.Foreign, Verdict: x,
	})
}

// explain explains a decision by the code that makes them. People are told of
// themselves, and that by their own policies and the roles that match them: what
// else is in the objects (conditions name other people and their groups) is for
// those who may do everything, and so are questions about others.
func (v *visit) explain() error {
	action, resource := v.form.Get("action"), strings.TrimSpace(v.form.Get("resource"))
	text := strings.TrimSpace(v.form.Get("claims"))
	if !slices.Contains(iam.Actions(), action) {
		v.amiss("action", "Pick one.")
	}
	namespace, name, _ := strings.Cut(resource, ":")
	if resource != "" && (namespace == "" || name == "" || !iam.Resource(resource).Valid() || strings.Contains(resource, "*")) {
		v.amiss("resource", "Want one function or secret, as namespace:name.")
	}
	if text != "" && !v.mayAll() {
		return &refusal{http.StatusForbidden, "Only who may do everything is told what others may."}
	}
	objects := v.d.config.Objects()
	if objects == nil {
		v.problem = "The IAM objects are not known yet. Try again in a moment."
		return v.showExplanation(http.StatusServiceUnavailable, nil)
	}
	x := &verdict{Asked: action}
	if resource != "" {
		x.Asked += " on " + resource
	}
	q := exchange.Question{Objects: objects, Issuer: v.d.config.Issuer, Action: action, Namespace: namespace, Name: name, Now: v.d.config.Now}
	if text != "" {
		q.Claims = v.claimsOf(text, x, objects)
	}
	if v.wrongs != nil {
		return v.showExplanation(http.StatusBadRequest, nil)
	}
	if q.Claims != nil {
		x.ofOther(exchange.Explain(q))
		return v.showExplanation(http.StatusOK, x)
	}
	c, err := v.session.current()
	if err != nil {
		return err
	}
	if c.token == "" {
		x.Allowed = !v.d.config.Foreign
		return v.showExplanation(http.StatusOK, x)
	}
	q.Claims = apiClaims(c.token)
	// As the API's: numbers are json.Number there.
	if b, err := json.Marshal(q.Claims); err == nil {
		if q.Claims, err = auth.DecodeClaims(b); err != nil {
			return err
		}
	}
	own := exchange.Explain(q)
	x.Allowed, x.Faults, x.Policies, x.Reasons = own.Allowed, own.Faults, own.Policies, own.Statements
	if !v.mayAll() {
		for i := range x.Reasons {
			for j, line := range x.Reasons[i].Unmet {
				x.Reasons[i].Unmet[j], _, _ = strings.Cut(line, ", want ") // which names others
			}
		}
	}
	if at := v.d.explain(c.claims); at != nil {
		x.Roles = slices.DeleteFunc(at.Roles, func(r iam.RoleReason) bool { return len(r.Unmet) > 0 })
	}
	return v.showExplanation(http.StatusOK, x)
}

// ofOther takes an explanation over: the roles that match, then those that come
// closest.
func (x *verdict) ofOther(e exchange.Explanation) {
	x.Allowed, x.Faults, x.Policies, x.Reasons = e.Allowed, e.Faults, e.Policies, e.Statements
	x.Roles = slices.DeleteFunc(e.Roles, func(r iam.RoleReason) bool { return r.Elsewhere })
	slices.SortStableFunc(x.Roles, func(a, b iam.RoleReason) int { return cmp.Compare(len(a.Unmet), len(b.Unmet)) })
	shown := min(len(x.Roles), maxRolesShown)
	for shown < len(x.Roles) && len(x.Roles[shown].Unmet) == 0 {
		shown++
	}
	x.More = len(e.Roles) - shown
	x.Roles = x.Roles[:shown]
}

// claimsOf reads the claims of a token as somebody would have it. What every
// token has, and says nothing of whose it is, need not be given.
func (v *visit) claimsOf(text string, x *verdict, objects *iam.Set) auth.Claims {
	if !strings.HasPrefix(text, "{") || len(text) > maxClaimsShown {
		v.form.Del("claims") // it may be a token, which is not to be shown
		v.amiss("claims", `Want a token's claims, and not the token itself: a JSON object such as {"iss": "https://idp.example.com", "sub": "alice"}.`)
		return nil
	}
	claims, err := auth.DecodeClaims([]byte(text))
	if err != nil {
		v.amiss("claims", "This is no JSON object of claims.")
		return nil
	}
	fill := func(name string, value any) {
		if _, given := claims[name]; !given {
			claims[name] = value
			x.Filled = append(x.Filled, name)
		}
	}
	iss, _ := claims["iss"].(string)
	now := v.d.config.Now().Unix()
	fill("iat", json.Number(strconv.FormatInt(now, 10)))
	fill("exp", json.Number(strconv.FormatInt(now+600, 10)))
	if iss == v.d.config.Issuer {
		fill("aud", iss)
	} else if trusted, ok := objects.Issuer(iss); ok && len(trusted.Spec.Aud) > 0 {
		fill("aud", trusted.Spec.Aud[0])
	}
	sub, _ := claims["sub"].(string)
	x.Of = cmp.Or(sub, "a subject without a name")
	return claims
}
