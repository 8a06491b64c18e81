package dashboard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/gateway/basicauth"
)

const callbackPath = "/auth/callback"

// attemptLifetime is how long a login at the provider may take.
const attemptLifetime = 10 * time.Minute

// attempt is what a browser holds, sealed, while its owner is at the provider.
type attempt struct {
	Login login.Attempt
	Next  string     // where to go then
	Old   sessionKey // the session that has ended
	Begun time.Time
}

// loginPage is what the template "login" shows.
type loginPage struct {
	Next     string
	Password bool
	Provider string // "" = none
	Lack     string // why nobody can log in there; "" = they can
	User     string
	Ended    bool
}

// login shows the ways to log in.
func (v *visit) login() error {
	if v.session != nil && !v.session.hasEnded() {
		return v.redirect(v.next())
	}
	if name := v.cookieName("session"); len(v.r.CookiesNamed(name)) > 1 {
		v.problem = "Another site beside this one has set a cookie " + name + " in your browser. Remove the cookies of that name, else you cannot log in."
	}
	return v.showLogin(http.StatusOK)
}

// next is where to go after the login.
func (v *visit) next() string { return ownPage(v.r.FormValue("next")) }

func (v *visit) showLogin(status int) error {
	page := loginPage{Next: v.next(), Password: v.d.config.Password, User: v.form.Get("user"), Ended: v.r.FormValue("ended") != ""}
	if page.Lack = sentence(v.d.lack()); page.Lack == "" && v.d.config.Provider != nil {
		page.Provider = v.d.config.Provider.Issuer
		if u, err := url.Parse(page.Provider); err == nil && u.Host != "" {
			page.Provider = u.Host
		}
	}
	return v.show(status, "login", "Log in", page)
}

// loginByPassword asks the API whether it takes a name and a password.
func (v *visit) loginByPassword() error {
	if !v.d.config.Password {
		return &refusal{http.StatusNotFound, "Nobody logs in with a password here."}
	}
	user, password := v.form.Get("user"), v.form.Get("password")
	authorization := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	right, status, err := v.d.guess(v.r, authorization)
	if err != nil {
		return err
	}
	switch {
	case status == http.StatusTooManyRequests:
		v.d.config.Log.Warn().Str("remote", v.r.RemoteAddr).Msg("dashboard: login refused: too many wrong passwords")
		v.problem = "Too many wrong passwords were tried. Wait a second and try again."
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		v.d.config.Log.Warn().Str("remote", v.r.RemoteAddr).Msg("dashboard: login refused: wrong name or password")
		v.problem = "The name or the password is wrong."
	case !right:
		v.problem = fmt.Sprintf("The gateway answered %d. Its log says why.", status)
	default:
		old := v.session
		if old != nil {
			defer v.d.sessions.forget(v.key)
		}
		v.start(user, "", credential{authorization: authorization})
		v.session.inherit(old)
		v.d.config.Log.Info().Str("subject", user).Msg("dashboard: logged in")
		return v.redirect(v.next())
	}
	v.form.Del("password")
	if status == http.StatusTooManyRequests {
		v.w.Header().Set("Retry-After", "1")
		return v.showLogin(status)
	}
	return v.showLogin(http.StatusUnauthorized)
}

// guess asks the API whether it takes a password. If not, status says why; 429 means
// that too many wrong ones were tried, here or at the API, and that this one was not
// judged.
func (d *Dashboard) guess(r *http.Request, authorization string) (right bool, status int, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	// The API refuses this query, but only to those whom it knows. It does nothing for
	// them: the time that takes would tell that a password is right.
	query := url.Values{"login": {"1", "2"}}
	response, err := d.send(ctx, http.MethodGet, "/system/namespaces", query, nil, func(asking *http.Request) {
		asking.Header.Set("Authorization", authorization)
		forwardFor(asking, r)
	})
	if err != nil {
		return false, 0, err
	}
	defer response.Body.Close()
	line, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return false, 0, err
	}
	// An auth plugin may answer 400 as well, to a wrong password: that one does not
	// complain of our query.
	right = response.StatusCode == http.StatusBadRequest && strings.HasPrefix(string(line), `the query has "login" with different values`)
	judged := response.StatusCode < http.StatusInternalServerError
	address := basicauth.Address(r.RemoteAddr, r.Header.Values("X-Forwarded-For"))
	if judged && !d.config.Guesses.MayTell(address, []byte(authorization), right) {
		return false, http.StatusTooManyRequests, nil
	}
	return right, response.StatusCode, nil
}

// loginAtProvider sends the browser to the provider.
func (v *visit) loginAtProvider() error {
	if lack := v.d.lack(); lack != "" {
		return &refusal{http.StatusServiceUnavailable, sentence(lack) + "."}
	}
	client, err := v.client()
	if err != nil {
		return err
	}
	a := attempt{Next: v.next(), Begun: v.d.config.Now()}
	if v.session != nil {
		a.Old = v.key
	}
	var page string
	a.Login, page = client.Begin(v.origin().JoinPath(callbackPath).String())
	sealed, err := v.d.seal.close("login", a)
	if err != nil {
		return err
	}
	v.setCookie("login", sealed, callbackPath, attemptLifetime)
	return v.redirect(page)
}

func (v *visit) client() (*login.Client, error) {
	if v.d.party == nil {
		return nil, &refusal{http.StatusNotFound, "Nobody logs in at a provider here: primary_issuer is not set."}
	}
	client, err := v.d.party.get(v.r.Context())
	if err != nil {
		v.d.config.Log.Error().Msgf("dashboard: primary_issuer: %v", err)
		return nil, &refusal{http.StatusBadGateway, "The provider " + v.d.config.Provider.Issuer + " cannot be asked at the moment. The gateway's log says why."}
	}
	return client, nil
}

// loginDone is where the provider sends the browser back to.
func (v *visit) loginDone() error {
	var a attempt
	sealed := v.cookie("login")
	v.setCookie("login", "", callbackPath, -time.Second)
	if err := v.d.seal.open("login", sealed, &a); err != nil || v.d.config.Now().Sub(a.Begun) > attemptLifetime {
		return &refusal{http.StatusBadRequest, "This login took too long, or was begun in another browser. Begin again."}
	}
	client, err := v.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), 30*time.Second)
	defer cancel()
	tokens, err := client.Finish(ctx, a.Login, v.r.URL.Query())
	if err != nil {
		v.d.config.Log.Warn().Str("remote", v.r.RemoteAddr).Msgf("dashboard: login failed: %v", err)
		return &refusal{http.StatusBadRequest, "The login did not succeed: " + err.Error()}
	}
	c, err := v.d.exchange(ctx, tokens)
	var refused *login.Refusal
	if errors.As(err, &refused) {
		v.d.config.Log.Warn().Msgf("dashboard: login refused: %v", err)
		return v.showStranger(refused, tokens.Claims)
	}
	if err != nil {
		return err
	}
	id, err := v.d.config.Identify(ctx, []byte(c.token))
	if err != nil {
		return err
	}
	subject, issuer := id.Subject()
	v.start(subject, issuer, c)
	v.session.inherit(v.d.sessions.find(a.Old))
	v.d.sessions.forget(a.Old)
	v.d.config.Log.Info().Str("subject", subject).Str("issuer", issuer).Msg("dashboard: logged in")
	return v.redirect(ownPage(a.Next))
}

// exchange trades the provider's tokens for the API token of a session.
func (d *Dashboard) exchange(ctx context.Context, tokens login.Tokens) (credential, error) {
	token, err := login.Gateway{URL: "http://gateway", HTTP: d.api}.Exchange(ctx, tokens.ID)
	if err != nil {
		return credential{}, err
	}
	return credential{
		authorization: "Bearer " + token.Access, token: token.Access, until: token.Expiry,
		refresh: tokens.Refresh, claims: tokens.Claims, origin: tokens.Origin,
	}, nil
}

// logout ends the session here, and leads to the provider's page for that. The ID
// token is not sent along: it would be in the browser's history, and can be
// exchanged.
func (v *visit) logout() error {
	v.d.sessions.forget(v.key)
	return v.leave()
}

// logoutEverywhere ends all sessions of the person.
func (v *visit) logoutEverywhere() error {
	count := v.d.sessions.forgetAll(v.session.subject, v.session.issuer)
	v.d.config.Log.Info().Str("subject", v.session.subject).Str("issuer", v.session.issuer).Msgf("dashboard: logged out everywhere, of %d sessions", count)
	return v.leave()
}

func (v *visit) leave() error {
	v.setCookie("session", "", "/ui/", -time.Second)
	byToken := v.session.issuer != ""
	v.session = nil
	if byToken && v.d.party != nil {
		if client, err := v.client(); err == nil {
			if page := client.EndSession("", v.origin().JoinPath("/ui/login").String()); page != "" {
				// No redirect: form-action would have to name all hosts that the
				// provider sends the browser to.
				v.w.Header().Set("Refresh", "0; url="+page)
				return v.show(http.StatusOK, "left", "Logged out", page)
			}
		}
	}
	return v.redirect("/ui/login")
}

// apiClaims returns what an API token says, which is ours and was verified.
func apiClaims(token string) map[string]any {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims map[string]any
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims
}

// explain says which roles there are for a subject, and what is missing.
func (d *Dashboard) explain(claims map[string]any) *exchange.Explanation {
	objects := d.config.Objects()
	if objects == nil || claims == nil {
		return nil
	}
	x := exchange.Explain(exchange.Question{Objects: objects, Issuer: d.config.Issuer, Claims: claims, Action: "Function:List", Now: d.config.Now})
	return &x
}
