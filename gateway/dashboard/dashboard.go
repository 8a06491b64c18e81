// Package dashboard is the gateway's pages for people, below /ui/. They are HTML
// made here, from templates that are part of the program, with a style sheet and
// a little script that no page needs.
//
// The dashboard is a client of the gateway's own API: what a page shows and does
// it asks of /system/ with the credentials of the person who looks at it, so that
// there is one place that decides who may do what, and one that audits it. Those
// credentials stay here, in sessions: a browser has a random ID and nothing else.
//
// Functions share our host, and strangers may have written them. Their pages are
// put into an origin of their own by the gateway (Content-Security-Policy:
// sandbox), which also keeps our cookies from them and theirs from us; ours admit
// no script but by a nonce and no frame around them, and take no form that has
// not come from one of them.
//
// A page is a line in [Dashboard.pages], a method of a visit in a file of its own,
// and a template of the name that the method shows.
package dashboard

import (
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/history"
)

// Config says what the dashboard shows and who logs in how. A zero field's
// meaning is in its comment; the others are needed.
type Config struct {
	// API answers requests to /system/ and /oauth/token, whatever host they name.
	API http.RoundTripper
	// Password has people log in with a name and a password, which the API is
	// asked about.
	Password bool
	// Guesses counts wrong passwords. It has to be the API's as well; nil, for tests
	// without an API that asks for passwords, counts those of the form alone.
	Guesses *basicauth.Guesses
	// Open says that the API asks for no credentials: nobody logs in.
	Open bool
	// Foreign says that an auth plugin decides, and that it is not known before
	// who may do what.
	Foreign bool
	// Provider has people log in at an OpenID provider; nil = none.
	Provider *login.Config
	// PublicURL is our scheme and host as browsers see them; nil = those that the
	// request came to.
	PublicURL *url.URL
	// DefaultNamespace is shown first.
	DefaultNamespace string
	// Identify says whose an API token is and what is granted to it.
	Identify func(ctx context.Context, token []byte) (exchange.Identity, error)
	// Objects are the IAM objects in force; nil from it = not known.
	Objects func() *iam.Set
	// Hour and Hours tell how a function was called in the last hour, and all in a
	// namespace by "name.namespace". They do not ask who wants to know: we have
	// asked the API whether it may be seen. nil = that is not known.
	Hour  func(ctx context.Context, namespace, name string) history.Hour
	Hours func(ctx context.Context, namespace string) map[string]history.Hour
	// Issuer is our own issuer's URL.
	Issuer string
	// Idle is how long a session lives without a request, Lifetime how long with
	// them; 0 = 2h and 12h.
	Idle, Lifetime time.Duration
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	Log zerolog.Logger
}

// Dashboard is an http.Handler for /ui/ and /auth/callback. Make one with New.
type Dashboard struct {
	config    Config
	mux       *http.ServeMux
	templates map[string]*template.Template
	sessions  *sessions
	party     *party // nil = no provider
	seal      seal
	api       *http.Client
	// beat is how often a silent stream says that it is there. It is also when we
	// see that the browser has gone, or that its session has ended.
	beat time.Duration
}

// page is one line of the table: who asks for pattern, of http.ServeMux, gets
// what serve shows.
type page struct {
	pattern string
	serve   func(*visit) error
	// nav is its name in the navigation; "" = it is not there.
	nav string
	// may says whether it is there for who visits; nil = for everybody.
	may func(*visit) bool
	// public pages need no session. The visit of one may have none.
	public bool
	// leaves is for who goes: it takes a session that has ended, too, and renews none.
	leaves bool
}

func (d *Dashboard) pages() []page {
	return []page{
		{pattern: "GET /ui/{$}", serve: (*visit).functions, nav: "Functions"},
		{pattern: "GET /ui/functions/{namespace}/{name}", serve: (*visit).function},
		{pattern: "POST /ui/functions/{namespace}/{name}/scale", serve: (*visit).scale},
		{pattern: "GET /ui/functions/{namespace}/{name}/invoke", serve: (*visit).invocation},
		{pattern: "POST /ui/functions/{namespace}/{name}/invoke", serve: (*visit).invoke},
		{pattern: "GET /ui/functions/{namespace}/{name}/logs", serve: (*visit).logs},
		{pattern: "GET /ui/functions/{namespace}/{name}/logs/stream", serve: (*visit).logStream},
		{pattern: "GET /ui/functions/{namespace}/{name}/change", serve: (*visit).change},
		{pattern: "POST /ui/functions/{namespace}/{name}/change", serve: (*visit).update},
		{pattern: "GET /ui/functions/{namespace}/{name}/delete", serve: (*visit).deletion},
		{pattern: "POST /ui/functions/{namespace}/{name}/delete", serve: (*visit).delete},
		{pattern: "GET /ui/deploy", serve: (*visit).deployment},
		{pattern: "POST /ui/deploy", serve: (*visit).deploy},
		{pattern: "GET /ui/secrets", serve: (*visit).secrets, nav: "Secrets", may: func(v *visit) bool { return v.maySome("Secret:List", "*") }},
		{pattern: "POST /ui/secrets", serve: (*visit).createSecret},
		{pattern: "GET /ui/secrets/{namespace}/{name}/delete", serve: (*visit).secretDeletion},
		{pattern: "POST /ui/secrets/{namespace}/{name}/delete", serve: (*visit).deleteSecret},
		{pattern: "GET /ui/iam", serve: (*visit).explanation, nav: "Why?"},
		{pattern: "POST /ui/iam", serve: (*visit).explain},
		{pattern: "GET /ui/me", serve: (*visit).me, nav: "Who am I"},

		{pattern: "GET /ui/login", serve: (*visit).login, public: true},
		{pattern: "POST /ui/login", serve: (*visit).loginByPassword, public: true},
		{pattern: "GET /ui/login/provider", serve: (*visit).loginAtProvider, public: true},
		{pattern: "GET /auth/callback", serve: (*visit).loginDone, public: true},
		{pattern: "POST /ui/logout", serve: (*visit).logout, leaves: true},
		{pattern: "POST /ui/logout/everywhere", serve: (*visit).logoutEverywhere, leaves: true},

		{pattern: "GET /ui/assets/{name}", serve: (*visit).asset, public: true},
		{pattern: "/ui/", serve: (*visit).notFound, public: true},
	}
}

//go:embed templates assets
var files embed.FS

// New returns a dashboard.
func New(c Config) (*Dashboard, error) {
	c.Idle = cmp.Or(c.Idle, 2*time.Hour)
	c.Lifetime = cmp.Or(c.Lifetime, 12*time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Guesses == nil {
		c.Guesses = basicauth.NewGuesses(nil)
	}
	d := &Dashboard{config: c, mux: http.NewServeMux(), seal: newSeal(rand.Text()), beat: 5 * time.Second}
	d.api = &http.Client{Transport: c.API, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	d.sessions = newSessions(c.Idle, c.Lifetime, c.Now)
	if c.Open {
		d.sessions.ofOne = maxSessions // all are one person's
	}
	if c.Provider != nil {
		d.party = &party{config: *c.Provider, now: c.Now}
	}
	var err error
	if d.templates, err = parseTemplates(); err != nil {
		return nil, err
	}
	for _, p := range d.pages() {
		d.mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, p) })
	}
	return d, nil
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) { d.mux.ServeHTTP(w, r) }

// MaxForm is how many bytes of a request's body to read.
func (d *Dashboard) MaxForm(r *http.Request) int {
	v := &visit{d: d, r: r}
	if id := v.cookie("session"); id != "" && d.sessions.knows(keyOf(id)) {
		return maxForm
	}
	return maxStrangersForm
}
