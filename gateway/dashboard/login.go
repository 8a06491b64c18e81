package dashboard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/exchange"
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
	User     string
	Ended    bool
}

// login shows the ways to log in.
func (v *visit) login() error {
	if v.session != nil && !v.session.hasEnded() {
		return v.redirect(v.next())
	}
	return v.showLogin(http.StatusOK)
}

// next is where to go after the login.
func (v *visit) next() string { return ownPage(v.r.FormValue("next")) }

func (v *visit) showLogin(status int) error {
	page := loginPage{Next: v.next(), Password: v.d.config.Password, User: v.form.Get("user"), Ended: v.r.FormValue("ended") != ""}
	if p := v.d.config.Provider; p != nil {
		page.Provider = p.Issuer
		if u, err := url.Parse(p.Issuer); err == nil && u.Host != "" {
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
	status, err := v.d.guess(v.r, authorization)
	if err != nil {
		return err
	}
	switch {
	case status == http.StatusTooManyRequests:
		v.problem = "Too many attempts at the same time. Wait a second and try again."
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		v.d.config.Log.Warn().Str("remote", v.r.RemoteAddr).Msg("dashboard: login refused: wrong name or password")
		v.problem = "The name or the password is wrong."
	case status/100 != 2:
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
	return v.showLogin(http.StatusUnauthorized)
}

// guesses bound how fast passwords can be tried: of each address a few at a time,
// and each wrong one takes a while.
type guesses struct {
	mu      sync.Mutex
	running map[string]int // by address
}

const (
	guessesAtATime = 5
	wrongGuess     = time.Second
)

// guess returns the status by which the API answers a password, or 429.
func (d *Dashboard) guess(r *http.Request, authorization string) (status int, err error) {
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	if passed := r.Header.Values("X-Forwarded-For"); len(passed) > 0 {
		// Behind a proxy all would else be one, and a stranger keep the others out.
		// Who sets it himself gains nothing by that: the API does not count.
		last := passed[len(passed)-1]
		address += " " + strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
	}
	d.guesses.mu.Lock()
	if d.guesses.running[address] >= guessesAtATime {
		d.guesses.mu.Unlock()
		return http.StatusTooManyRequests, nil
	}
	d.guesses.running[address]++
	d.guesses.mu.Unlock()
	defer func() {
		d.guesses.mu.Lock()
		defer d.guesses.mu.Unlock()
		if d.guesses.running[address]--; d.guesses.running[address] == 0 {
			delete(d.guesses.running, address)
		}
	}()
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	response, err := d.send(ctx, http.MethodGet, "/system/namespaces", nil, nil, func(r *http.Request) { r.Header.Set("Authorization", authorization) })
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		select {
		case <-time.After(wrongGuess):
		case <-ctx.Done():
		}
	}
	return response.StatusCode, nil
}

// loginAtProvider sends the browser to the provider.
func (v *visit) loginAtProvider() error {
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

// refresh gets an API token for a refresh token.
func (v *visit) refresh(refresh string, origin login.Origin) (credential, error) {
	client, err := v.client()
	if err != nil {
		return credential{}, err
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), 15*time.Second)
	defer cancel()
	tokens, err := client.Refresh(ctx, refresh, origin)
	if err != nil {
		return credential{}, err
	}
	if tokens.ID == "" {
		return credential{}, errors.New("the provider gives no ID token for a refresh token")
	}
	fresh, err := v.d.exchange(ctx, tokens)
	if err != nil {
		return credential{}, err
	}
	id, err := v.d.config.Identify(ctx, []byte(fresh.token))
	if err != nil {
		return credential{}, err
	}
	if subject, issuer := id.Subject(); subject != v.session.subject || issuer != v.session.issuer {
		return credential{}, errors.New("the provider's new ID token is somebody else's")
	}
	if fresh.refresh == "" {
		fresh.refresh = refresh
	}
	return fresh, nil
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
