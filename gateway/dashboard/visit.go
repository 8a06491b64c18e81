package dashboard

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehound/gatehound/auth/iam"
)

// visit is one request for a page.
type visit struct {
	d     *Dashboard
	w     http.ResponseWriter
	r     *http.Request
	nonce string

	key     sessionKey
	session *session // nil = none; has not ended where a page wants one

	// form is what to fill a form in with: what was sent, or what was kept of a
	// form that was sent too late.
	form url.Values
	// notice is good news, problem what was wrong with what was sent; "" = none.
	notice, problem string
	// wrongs says what was wrong with a field, by its name.
	wrongs map[string]string
	nav    string
}

// refusal is what the API, or we, answer that is no page. The message is shown.
type refusal struct {
	Status  int
	Message string
}

func (r *refusal) Error() string { return r.Message }

// errStrangeForm refuses a form that did not come from a page of ours.
var errStrangeForm = &refusal{http.StatusForbidden, "This form was not sent by one of our pages, or is out of date. Go back, load its page again and send it from there."}

// errLoggedOut says that the person must log in, perhaps again. errOtherSession says
// that a form comes from a page of another session.
var (
	errLoggedOut    = errors.New("not logged in")
	errOtherSession = errors.New("a form of another session")
)

// maxForm bounds a form, in bytes, and maxStrangersForm that of who has no session:
// the login's.
const (
	maxForm          = 1 << 20
	maxStrangersForm = 64 << 10
)

// maxDraft bounds what is kept of a form that came too late, in bytes.
const maxDraft = 256 << 10

// Fields of our own in every form; see the template "hidden".
const (
	csrfField = "_csrf"
	pageField = "_page"
)

// serve has p answer a request.
func (d *Dashboard) serve(w http.ResponseWriter, r *http.Request, p page) {
	v := &visit{d: d, w: w, r: r, nonce: newNonce(), form: url.Values{}, nav: p.nav}
	v.protect()
	if err := v.enter(p); err != nil {
		v.fail(err)
		return
	}
	if err := p.serve(v); err != nil {
		v.fail(err)
	}
}

// enter finds out who visits, and whether the page is for them.
func (v *visit) enter(p page) error {
	sends := v.r.Method != http.MethodGet && v.r.Method != http.MethodHead
	if id := v.cookie("session"); id != "" {
		v.key = keyOf(id)
		v.session = v.d.sessions.find(v.key)
	}
	if sends {
		if err := v.readForm(); err != nil {
			return err
		}
	}
	if v.d.config.Open && (v.session == nil || v.session.hasEnded()) {
		v.startForAnybody()
	}
	if p.public {
		return nil
	}
	if v.session == nil || v.session.hasEnded() && !p.leaves {
		return errLoggedOut
	}
	if sends && v.form.Get(csrfField) != v.session.csrf {
		return errOtherSession
	}
	if p.leaves {
		return nil
	}
	if err := v.renew(); err != nil {
		return err
	}
	if sends {
		return nil
	}
	if kept := v.session.takeDraft(v.r.URL.RequestURI()); kept != nil {
		v.form = kept
		v.notice = "Your session had ended when you sent this. Nothing was done: look it over and send it again."
	}
	return nil
}

// readForm reads what was sent, if that was by one of our pages.
func (v *visit) readForm() error {
	if err := v.ownForm(); err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return &refusal{http.StatusBadRequest, "The form cannot be read: " + err.Error()}
	}
	v.form = v.r.PostForm
	return nil
}

// start begins a session.
func (v *visit) start(subject, issuer string, c credential) {
	id, s := v.d.sessions.begin(subject, issuer, c)
	v.key, v.session = keyOf(id), s
	v.setCookie("session", id, "/ui/", 0)
}

// startForAnybody begins a session where nobody logs in: it is for forms alone.
// Those of the one before it are still good, as they are anybody's, too.
func (v *visit) startForAnybody() {
	if old := v.session; old != nil {
		v.d.sessions.forget(v.key)
		v.start("anybody", "", credential{})
		v.session.csrf = old.csrf
		return
	}
	v.start("anybody", "", credential{})
}

// page is the page that a form was sent from, or else the one that is shown.
func (v *visit) page() string {
	if from := v.form.Get(pageField); from != "" {
		return ownPage(from)
	}
	return ownPage(v.r.URL.RequestURI())
}

// layout is what templates are given; Page is what the page's method has found.
type layout struct {
	Title, Nonce    string
	Nav             []navigation
	Person          *person // nil = nobody is logged in
	CSRF, Here      string  // of forms
	Form            url.Values
	Notice, Problem string
	Wrong           map[string]string // by the field's name
	Open            bool
	Page            any
}

type navigation struct {
	Name, Path string
	Current    bool
}

// person is whom a page greets.
type person struct{ Subject, Issuer string }

// show answers with a template. What the page's method has found is .Page there.
func (v *visit) show(status int, name, title string, page any) error {
	l := layout{Title: title, Nonce: v.nonce, Here: v.page(), Form: v.form, Notice: v.notice, Problem: v.problem, Wrong: v.wrongs, Open: v.d.config.Open, Page: page}
	if s := v.session; s != nil && !s.hasEnded() {
		l.CSRF, l.Person = s.csrf, &person{s.subject, s.issuer}
		if l.Notice == "" {
			l.Notice = s.takeNotice()
		}
		for _, p := range v.d.pages() {
			if p.nav != "" && (p.may == nil || p.may(v)) {
				_, path, _ := strings.Cut(p.pattern, " ")
				l.Nav = append(l.Nav, navigation{p.nav, strings.TrimSuffix(path, "{$}"), p.nav == v.nav})
			}
		}
	}
	var out bytes.Buffer // whole, or not at all
	if err := v.d.templates[name].ExecuteTemplate(&out, "layout", l); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, err := out.WriteTo(v.w)
	return err
}

// done leads the browser to a page of ours after a form was carried out, with a
// notice there.
func (v *visit) done(page, format string, args ...any) error {
	v.session.say(fmt.Sprintf(format, args...))
	return v.redirect(ownPage(page))
}

// redirect leads the browser elsewhere. target is never what a browser has sent:
// see ownPage.
func (v *visit) redirect(target string) error {
	v.w.Header().Set("Location", target)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// fail answers with what went wrong.
func (v *visit) fail(err error) {
	var r *refusal
	if errors.Is(err, errOtherSession) {
		err = v.askToSendAgain()
	}
	switch {
	case err == nil:
	case errors.Is(err, errLoggedOut), errors.As(err, &r) && r.Status == http.StatusUnauthorized:
		err = v.askToLogIn()
	case errors.As(err, &r) && r.Status == http.StatusForbidden && r != errStrangeForm && v.session != nil:
		err = v.showForbidden(r)
	case errors.As(err, &r):
		err = v.show(r.Status, "error", http.StatusText(r.Status), r)
	default:
		v.d.config.Log.Error().Msgf("dashboard: %s %s: %v", v.r.Method, v.r.URL.Path, err)
		err = v.show(http.StatusInternalServerError, "error", "Something went wrong",
			&refusal{http.StatusInternalServerError, "The dashboard could not make this page. The gateway's log says why."})
	}
	if err != nil {
		v.d.config.Log.Error().Msgf("dashboard: %s %s: %v", v.r.Method, v.r.URL.Path, err)
		http.Error(v.w, "the dashboard could not make this page", http.StatusInternalServerError)
	}
}

// askToLogIn leads to the login, and from there back to where the person was. A
// form that came too late is kept for then: we do not send it by ourselves, as
// who logs in now may not be who has filled it in.
func (v *visit) askToLogIn() error {
	page := v.page()
	if v.session != nil {
		v.session.end()
		if len(v.form) > 0 && v.r.Method == http.MethodPost && v.form.Get(csrfField) == v.session.csrf {
			v.keepDraft(page)
		}
	}
	query := url.Values{}
	if page != "/ui/" {
		query.Set("next", page)
	}
	if v.cookie("session") != "" {
		query.Set("ended", "1")
	}
	target := "/ui/login"
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	return v.redirect(target)
}

// keepDraft keeps a form for page to show it again, and reports whether it is short
// enough for that.
func (v *visit) keepDraft(page string) bool {
	values, size := url.Values{}, 0
	for name, value := range v.form {
		if !strings.HasPrefix(name, "_") {
			values[name] = value
			size += len(name) + len(strings.Join(value, "")) + 16*len(value) // strings have a price, too
		}
	}
	if size > maxDraft {
		return false
	}
	v.session.keep(&draft{page: page, values: values})
	return true
}

// askToSendAgain is for a form of another session: the person has logged in again in
// another window since. Nothing is done, and the page shows again what was typed. The
// browser has to say that a page of ours sent it: else strangers could fill in our
// forms.
func (v *visit) askToSendAgain() error {
	if v.r.Header.Get("Sec-Fetch-Site") == "" && v.r.Header.Get("Origin") == "" { // else see ownForm
		return errStrangeForm
	}
	page := v.page()
	if !v.keepDraft(page) {
		return errStrangeForm
	}
	return v.redirect(page)
}

// may reports whether the person is granted an action on what is named, where
// that is known: where an auth plugin decides, the API has the last word. Pages
// do not offer what is not granted; it is the API that refuses it.
func (v *visit) may(action, namespace, name string) bool {
	if c, err := v.session.current(); err != nil || c.token == "" || v.d.config.Foreign {
		return err == nil
	}
	for _, r := range v.granted(action) {
		if r.Matches(namespace, name) {
			return true
		}
	}
	return false
}

// granted returns what an API token is granted an action on; nil = nothing is, or
// it is not known.
func (v *visit) granted(action string) []iam.Resource {
	c, err := v.session.current()
	if err != nil || c.token == "" {
		return nil
	}
	id, err := v.d.config.Identify(v.r.Context(), []byte(c.token))
	if err != nil {
		return nil
	}
	return id.Granted(action)
}
