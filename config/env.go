// Package config turns environment variables into validated structs for the
// three programs. It owns names, defaults and parsing rules; it opens no file,
// no socket, and imports nothing else of this module. Every bad value is
// reported at once: see [Error].
package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Error lists every environment variable with a bad value, one a line, so that
// one failed start is enough to mend them all.
type Error struct {
	// Problems holds one line a variable: its name, its value, what is right.
	Problems []string
}

// Error implements error.
func (e *Error) Error() string {
	return "bad configuration:\n  " + strings.Join(e.Problems, "\n  ")
}

// env reads variables and collects the problems found on the way. An unset
// variable and an empty one both take the default.
type env struct {
	values   map[string]string
	problems []string
}

func newEnv(environ []string) *env {
	e := &env{values: make(map[string]string, len(environ))}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			e.values[name] = value
		}
	}
	return e
}

func (e *env) err() error {
	if len(e.problems) == 0 {
		return nil
	}
	return &Error{Problems: e.problems}
}

// bad records that name's value is wrong and what would be right, once a
// variable: what is said of it after that follows from the first.
func (e *env) bad(name, value, want string) {
	for _, p := range e.problems {
		if strings.HasPrefix(p, name+"=") {
			return
		}
	}
	e.problems = append(e.problems, fmt.Sprintf("%s=%q: want %s", name, value, want))
}

// lookup returns the last of names that is set and not empty, which is the
// order in which upstream's aliases override each other.
func (e *env) lookup(names ...string) (name, value string, ok bool) {
	for i := len(names) - 1; i >= 0; i-- {
		if v := e.values[names[i]]; v != "" {
			return names[i], v, true
		}
	}
	return names[0], "", false
}

func (e *env) str(fallback string, names ...string) string {
	if _, v, ok := e.lookup(names...); ok {
		return v
	}
	return fallback
}

// boolean accepts what strconv.ParseBool does. Anything else is an error and
// not false: a misspelt jwt_auth must not open a function.
func (e *env) boolean(fallback bool, names ...string) bool {
	name, v, ok := e.lookup(names...)
	if !ok {
		return fallback
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		e.bad(name, v, "true or false")
	}
	return b
}

// oneOf reports whether name is other and not fallback.
func (e *env) oneOf(fallback, other, name string) bool {
	v := e.str(fallback, name)
	if v != fallback && v != other {
		e.bad(name, v, fallback+" or "+other)
	}
	return v == other
}

func (e *env) integer(fallback, low, high int, names ...string) int {
	name, v, ok := e.lookup(names...)
	if !ok {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		e.bad(name, v, fmt.Sprintf("a whole number from %d to %d", low, high))
		return fallback
	}
	return n
}

func (e *env) port(fallback int, name string) int {
	return e.integer(fallback, 0, 65535, name)
}

// duration takes Go syntax ("1m30s") or whole seconds ("90"), as upstream does.
func (e *env) duration(fallback time.Duration, names ...string) time.Duration {
	name, v, ok := e.lookup(names...)
	if !ok {
		return fallback
	}
	if n, err := strconv.ParseInt(v, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		e.bad(name, v, `a duration such as "30s" or "2m", or whole seconds`)
		return fallback
	}
	return d
}

// httpURL returns nil when none of names is set.
func (e *env) httpURL(names ...string) *url.URL {
	name, v, ok := e.lookup(names...)
	if !ok {
		return nil
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		e.bad(name, redactURL(v), `an http:// or https:// URL with a host and without credentials`)
		return nil
	}
	return u
}

// redactURL hides the part of a URL that may hold a password. Where that ends
// is only certain in a good URL, so it is everything up to the last "@".
func redactURL(v string) string {
	at := strings.LastIndex(v, "@")
	if at < 0 {
		return v
	}
	scheme, _, ok := strings.Cut(v[:at], "://")
	if !ok {
		return "[hidden]" + v[at:]
	}
	return scheme + "://[hidden]" + v[at:]
}

// listen returns the network and address to listen on: `listen` as given
// ("host:port" or "unix:///path.sock"), else all interfaces on port.
func (e *env) listen(host string, port int) (network, address string) {
	_, v, ok := e.lookup("listen")
	if !ok {
		return "tcp", net.JoinHostPort(host, strconv.Itoa(port))
	}
	if path, isUnix := strings.CutPrefix(v, "unix://"); isUnix {
		if !strings.HasPrefix(path, "/") {
			e.bad("listen", v, "an absolute socket path, as in unix:///run/function.sock")
		}
		return "unix", path
	}
	if _, p, err := net.SplitHostPort(v); err != nil {
		e.bad("listen", v, `"host:port" or "unix:///path.sock"`)
	} else if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 65535 {
		e.bad("listen", v, "a port from 0 to 65535")
	}
	return "tcp", v
}
