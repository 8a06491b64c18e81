package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Callback is where a browser comes back to a program on the same machine (RFC
// 8252 section 7.3): a listener on loopback, for one login.
type Callback struct {
	// RedirectURL is what the provider is to send the browser to, and must know as
	// one of the client's.
	RedirectURL string

	listeners []net.Listener
	hosts     []string
}

// CallbackConfig describes a Callback.
type CallbackConfig struct {
	// Port to listen on; 0 = 31111, which users have registered at their providers.
	Port int
	// RedirectHost is where the browser finds it, as scheme://host, with or without
	// a port; "" = http://127.0.0.1. Something else is for who forwards a port.
	RedirectHost string
}

const (
	callbackPath = "/oauth/callback"
	endPath      = "/oauth/end"
)

// Listen takes the port. The caller closes it.
func Listen(c CallbackConfig) (*Callback, error) {
	if c.Port == 0 {
		c.Port = 31111
	}
	if c.RedirectHost == "" {
		c.RedirectHost = "http://127.0.0.1"
	}
	if !strings.Contains(c.RedirectHost, "://") {
		c.RedirectHost = "http://" + c.RedirectHost
	}
	if err := checkURL(c.RedirectHost, false); err != nil {
		return nil, fmt.Errorf("the redirect host: %w", err)
	}
	u, err := url.Parse(c.RedirectHost)
	if err != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the redirect host is %q; want a scheme and a host, such as http://127.0.0.1", c.RedirectHost)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.Port))
	if err != nil {
		return nil, err
	}
	listeners := []net.Listener{listener}
	port := fmt.Sprint(c.Port)
	if name := u.Hostname(); name == "localhost" || name == "::1" {
		// Browsers go there first, and another user's program may wait for that.
		address := net.JoinHostPort("::1", port)
		six, err := net.Listen("tcp", address)
		if err == nil {
			listeners = append(listeners, six)
		} else if name == "::1" || answers(address) { // else there is no IPv6
			listener.Close()
			return nil, err
		}
	}
	if u.Port() == "" {
		u.Host += ":" + port
	}
	u.Path = callbackPath
	hosts := []string{u.Host, "127.0.0.1:" + port, "localhost:" + port}
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		hosts = append(hosts, u.Hostname()) // browsers leave those ports out
	}
	return &Callback{RedirectURL: u.String(), listeners: listeners, hosts: hosts}, nil
}

func answers(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Close gives the port back.
func (c *Callback) Close() (err error) {
	for _, l := range c.listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// Await serves until the browser has come back from the attempt, and finish, given
// what it brought, has returned; its error is told to the person, and returned.
// It is called once. What belongs to another attempt is turned away, and does
// not end this one. Without a verifier the attempt is an implicit one: what it brings is
// then in the URL's fragment.
func (c *Callback) Await(ctx context.Context, a Attempt, finish func(context.Context, url.Values) error) error {
	s := &callbackServer{callback: c, attempt: a, finish: finish, ctx: ctx, done: make(chan struct{}), shown: make(chan struct{})}
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan error, len(c.listeners))
	for _, l := range c.listeners {
		go func() { served <- server.Serve(l) }()
	}
	defer func() {
		grace, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer end()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	}()
	select {
	case <-s.done:
	case <-ctx.Done():
		if s.isTaken() { // finish has the same ctx, and is not left behind
			<-s.done
		}
		return context.Cause(ctx)
	case err := <-served:
		return fmt.Errorf("cannot wait for the browser: %w", err)
	}
	select { // the person shall see how it ended
	case <-s.shown:
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
	return s.err
}

// callbackServer answers the browser.
type callbackServer struct {
	callback *Callback
	attempt  Attempt
	finish   func(context.Context, url.Values) error
	ctx      context.Context

	mu          sync.Mutex
	taken       bool
	err         error         // finish's, once done is closed
	done, shown chan struct{} // closed
	showOnce    sync.Once
}

func (s *callbackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Content-Security-Policy", policy)
	// A page whose name was made to point at this machine (DNS rebinding) still
	// names itself.
	ours := false
	for _, host := range s.callback.hosts {
		ours = ours || strings.EqualFold(r.Host, host)
	}
	if !ours {
		http.Error(w, "This address is for the end of a login.", http.StatusMisdirectedRequest)
		return
	}
	implicit := s.attempt.Verifier == ""
	switch {
	case r.URL.Path == endPath && r.Method == http.MethodGet:
		s.end(w)
		if s.isTaken() {
			s.showOnce.Do(func() { close(s.shown) })
		}
	case r.URL.Path == callbackPath && r.Method == http.MethodGet && implicit && r.URL.RawQuery == "":
		show(w, http.StatusOK, page{Title: "Logging in", Text: "One moment.", Fragment: true})
	case r.URL.Path == callbackPath && r.Method == http.MethodGet:
		s.take(w, r, r.URL.Query())
	case r.URL.Path == callbackPath && r.Method == http.MethodPost && implicit:
		r.Body = http.MaxBytesReader(w, r.Body, 256<<10)
		if err := r.ParseForm(); err != nil {
			http.Error(w, "What the browser sent cannot be read.", http.StatusBadRequest)
			return
		}
		fragment, err := url.ParseQuery(r.PostForm.Get("fragment"))
		if err != nil {
			http.Error(w, "What the browser sent cannot be read.", http.StatusBadRequest)
			return
		}
		s.take(w, r, fragment)
	default:
		http.Error(w, "There is nothing here.", http.StatusNotFound)
	}
}

// take ends the login, if this is it, and sends the browser on: what came in the
// URL does not stay in its history.
func (s *callbackServer) take(w http.ResponseWriter, r *http.Request, answer url.Values) {
	if !same(s.attempt.State, answer.Get("state")) {
		text := "This does not belong to the login that a program waits for here."
		if code := answer.Get("error"); code != "" {
			text += " The provider said: " + clean((&Refusal{Code: code, Description: answer.Get("error_description")}).Error())
		}
		show(w, http.StatusBadRequest, page{Title: "Not this login", Text: text + " Please start again in the terminal.", Failed: true})
		return
	}
	s.mu.Lock()
	first := !s.taken
	s.taken = true
	s.mu.Unlock()
	if !first { // the listener may be gone before another page is asked for
		s.end(w)
		return
	}
	s.err = s.finish(s.ctx, answer)
	close(s.done)
	http.Redirect(w, r, endPath, http.StatusSeeOther)
}

func (s *callbackServer) isTaken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// end shows how it ended.
func (s *callbackServer) end(w http.ResponseWriter) {
	if !s.isTaken() {
		show(w, http.StatusNotFound, page{Title: "Not logged in yet", Text: "The login has not come to its end.", Failed: true})
		return
	}
	<-s.done // another request of the browser's may have brought the answer
	if s.err != nil {
		text, more, _ := strings.Cut(s.err.Error(), "\n")
		if more != "" {
			text += ". The terminal says more."
		}
		show(w, http.StatusOK, page{Title: "The login failed", Text: clean(text), Failed: true})
	} else {
		show(w, http.StatusOK, page{Title: "You are logged in", Text: "You can close this page and go back to the terminal."})
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

type page struct {
	Title, Text string
	Failed      bool
	Fragment    bool // the browser has an answer to hand over
}

// fragmentScript takes the answer out of the address bar and the history, then
// hands it over.
const fragmentScript = `
const fragment = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
if (fragment) {
  document.forms[0].elements.fragment.value = fragment;
  document.forms[0].submit();
} else {
  document.querySelector("p").textContent = "The provider sent nothing. Please start again in the terminal.";
}
`

const style = `
:root { color-scheme: light dark; font: 1.1rem/1.5 system-ui, sans-serif; }
body { max-width: 34rem; margin: 15vh auto 0; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; }
`

// policy lets these pages have their own style and script, and nothing else.
var policy = "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(fragmentScript) +
	"; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func hash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

var pages = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + style + `</style>
<main>
<h1>{{if .Failed}}✗{{else if not .Fragment}}✓{{end}} {{.Title}}</h1>
<p role="status">{{.Text}}</p>
</main>
{{- if .Fragment}}
<form method="post" action="` + callbackPath + `"><input type="hidden" name="fragment"></form>
<script>` + fragmentScript + `</script>
<noscript><p>This kind of login needs JavaScript.</p></noscript>
{{- end}}
</html>
`))

func show(w http.ResponseWriter, status int, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pages.Execute(w, p) // the browser has gone: nobody is left to tell
}
