package jwks_test

import (
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

const wellKnown = "/.well-known/openid-configuration"

// failure returns what a key set logs of its first fetch, "" if it succeeds.
func failure(t *testing.T, c jwks.Config) string {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	c.Logf = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf(format, args...))
	}
	r, err := jwks.NewRemote(c)
	require.NoError(t, err)
	_, err = r.Key(t.Context(), "a", "ES256")
	mu.Lock()
	defer mu.Unlock()
	if err == nil {
		require.True(t, r.Ready())
		return ""
	}
	require.ErrorIs(t, err, jwks.ErrUnavailable)
	return strings.Join(lines, "\n")
}

func TestFetch(t *testing.T) {
	t.Parallel()
	good := keySet(ec(t, "a"))
	for _, c := range []struct {
		name      string
		discovery string // %s is the server's URL
		jwks      string
		config    jwks.Config
		want      string // a part of the failure; empty = success
	}{
		{name: "good", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`},
		{name: "unknown members", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys","x":[{}],"ISSUER":"https://evil"}`},
		{name: "another name than the address", discovery: `{"issuer":"https://gw.example.com","jwks_uri":"%[1]s/keys"}`},
		{name: "the expected issuer", discovery: `{"issuer":"https://gw.example.com","jwks_uri":"%[1]s/keys"}`, config: jwks.Config{Issuer: "https://gw.example.com"}},
		{name: "another issuer", discovery: `{"issuer":"https://evil","jwks_uri":"%[1]s/keys"}`, config: jwks.Config{Issuer: "https://gw.example.com"}, want: `expected exactly "https://gw.example.com"`},
		{name: "issuer with a slash more", discovery: `{"issuer":"https://gw.example.com/","jwks_uri":"%[1]s/keys"}`, config: jwks.Config{Issuer: "https://gw.example.com"}, want: "expected exactly"},
		{name: "no issuer", discovery: `{"jwks_uri":"%[1]s/keys"}`, want: `issuer ""`},
		{name: "issuer in capitals", discovery: `{"Issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, want: `issuer ""`},
		{name: "issuer no URL", discovery: `{"issuer":"gateway","jwks_uri":"%[1]s/keys"}`, want: `issuer "gateway"`},
		{name: "issuer a list", discovery: `{"issuer":["%[1]s"],"jwks_uri":"%[1]s/keys"}`, want: `issuer ""`},
		{name: "no jwks_uri", discovery: `{"issuer":"%[1]s"}`, want: `jwks_uri ""`},
		{name: "jwks_uri a file", discovery: `{"issuer":"%[1]s","jwks_uri":"file:///etc/passwd"}`, want: "http or https"},
		{name: "jwks_uri relative", discovery: `{"issuer":"%[1]s","jwks_uri":"/keys"}`, want: "http or https"},
		{name: "HTML", discovery: `<html>`, want: "not a JSON object"},
		{name: "blank", discovery: ` `, want: "not a JSON object"},
		{name: "null", discovery: `null`, want: `issuer ""`},
		{name: "trailing data", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}{}`, want: "not a JSON object"},
		{name: "discovery missing", want: "status 404"},
		{name: "keys missing", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/nothing"}`, want: "/nothing: status 404"},
		{name: "keys HTML", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, jwks: `<html>`, want: "/keys: not a JSON object"},
		{name: "no keys", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, jwks: `{"keys":[]}`, want: "no usable key"},
		{name: "no usable key", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, jwks: `{"keys":[{"kid":"a","kty":"oct"}]}`, want: "no usable key"},
		{name: "endless", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/endless"}`, want: "/endless: longer than 1048576 bytes"},
		{name: "cut off", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/cut"}`, want: "/cut: unexpected EOF"},
		{name: "compressed", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/gzip"}`},
		{name: "compressed, 1 MiB in 1 KiB", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/bomb"}`, want: "/bomb: longer than 1048576 bytes"},
		{name: "a million levels", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/keys"}`, jwks: `{"keys":` + strings.Repeat("[", 1_000_000), want: "max depth"},
		{name: "three redirects", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/redirect3"}`},
		{name: "four redirects", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/redirect4"}`, want: "more than 3 redirects"},
		{name: "redirect loop", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/loop"}`, want: "more than 3 redirects"},
		{name: "redirect to a file", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/file"}`, want: "not followed"},
		{name: "a panic in the provider", discovery: `{"issuer":"%[1]s","jwks_uri":"%[1]s/abort"}`, want: "/abort: EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			srv := httptest.NewServer(mux)
			defer srv.Close()
			if c.discovery != "" {
				mux.HandleFunc(wellKnown, func(w http.ResponseWriter, _ *http.Request) {
					if strings.Contains(c.discovery, "%") {
						fmt.Fprintf(w, c.discovery, srv.URL)
					} else {
						io.WriteString(w, c.discovery)
					}
				})
			}
			mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, cmp.Or(c.jwks, string(good)))
			})
			mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			})
			mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, `{"keys":[`)
			})
			for path, body := range map[string][]byte{"/gzip": good, "/bomb": make([]byte, 1<<20+1)} {
				mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Encoding", "gzip")
					z := gzip.NewWriter(w)
					z.Write(body)
					z.Close()
				})
			}
			mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			for from, to := range map[string]string{
				"/redirect4": "/redirect3", "/redirect3": "/redirect2", "/redirect2": "/redirect1",
				"/redirect1": "/keys", "/loop": "/loop", "/file": "file:///etc/passwd",
			} {
				mux.Handle(from, http.RedirectHandler(to, http.StatusFound))
			}
			c.config.Authority = srv.URL
			got := failure(t, c.config)
			if c.want == "" {
				require.Empty(t, got)
			} else {
				require.Contains(t, got, c.want)
			}
		})
	}
}

// What began with https stays on https.
func TestFetchNeverDowngrades(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(keySet(ec(t, "a"))) }))
	defer plain.Close()
	for name, c := range map[string]struct{ keys, want string }{
		"https":         {"/keys", ""},
		"http jwks_uri": {plain.URL, "must not point at http"},
		"redirect":      {"/down", "redirect from https"},
		"detour":        {"/detour", "redirect from https"},
	} {
		t.Run(name, func(t *testing.T) {
			var srv *httptest.Server
			srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case wellKnown:
					keys := c.keys
					if strings.HasPrefix(keys, "/") {
						keys = srv.URL + keys
					}
					fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, srv.URL, keys)
				case "/keys":
					w.Write(keySet(ec(t, "a")))
				case "/down":
					http.Redirect(w, r, plain.URL, http.StatusFound)
				case "/detour":
					http.Redirect(w, r, "/down", http.StatusFound)
				}
			}))
			defer srv.Close()
			got := failure(t, jwks.Config{Authority: srv.URL, Client: srv.Client()})
			if c.want == "" {
				require.Empty(t, got)
			} else {
				require.Contains(t, got, c.want)
			}
		})
	}
}

func TestFetchSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	const down = "http://127.0.0.1:1"
	require.Contains(t, failure(t, jwks.Config{Authority: down}), down+wellKnown+": dial tcp")

	// A certificate nobody vouches for.
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	require.Contains(t, failure(t, jwks.Config{Authority: srv.URL}), "certificate")

	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	got := failure(t, jwks.Config{Authority: slow.URL, Client: &http.Client{Timeout: 50 * time.Millisecond}})
	require.Contains(t, got, "no complete answer")
}

// A connection that has gone dead in between would hang again and again.
func TestFetchUsesNoConnectionTwice(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	peers := map[string]int{}
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr]++
		mu.Unlock()
		if r.URL.Path == wellKnown {
			fmt.Fprintf(w, `{"issuer":%[1]q,"jwks_uri":"%[1]s/keys"}`, srv.URL)
			return
		}
		w.Write(keySet(ec(t, "a")))
	}))
	defer srv.Close()
	r, err := jwks.NewRemote(jwks.Config{Authority: srv.URL})
	require.NoError(t, err)
	require.NoError(t, r.Refetch(t.Context()))
	require.NoError(t, r.Refetch(t.Context()))
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, peers, 4)
}

// A cache on the way would go on showing what has been withdrawn.
func TestFetchPassesCaches(t *testing.T) {
	t.Parallel()
	copies := make(map[string][]byte)
	body := map[string][]byte{"/keys": keySet(ec(t, "old"), ec(t, "new"))}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if copies[r.URL.Path] == nil || r.Header.Get("Cache-Control") == "no-cache" { // RFC 9111, section 5.2.1.4
			copies[r.URL.Path] = body[r.URL.Path]
		}
		w.Write(copies[r.URL.Path])
	}))
	defer proxy.Close()
	body[wellKnown] = fmt.Appendf(nil, `{"issuer":%[1]q,"jwks_uri":"%[1]s/keys"}`, proxy.URL)
	r, err := jwks.NewRemote(jwks.Config{Authority: proxy.URL})
	require.NoError(t, err)
	old := mustKey(t, r, "old")
	body["/keys"] = keySet(ec(t, "new"))
	require.NoError(t, r.Refetch(t.Context()))
	require.True(t, old.Withdrawn())
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	var asked []string
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer srv.Close()
	for authority, want := range map[string]string{
		"":                               wellKnown,
		"/":                              wellKnown,
		"/realms/x":                      "/realms/x" + wellKnown,
		"/realms/x/":                     "/realms/x" + wellKnown,
		wellKnown:                        wellKnown,
		"/realms/x" + wellKnown:          "/realms/x" + wellKnown,
		"/.well-known/openid-config":     "/.well-known/openid-config" + wellKnown,
		"/.well-known/openid-configure/": "/.well-known/openid-configure" + wellKnown,
	} {
		r, err := jwks.NewRemote(jwks.Config{Authority: srv.URL + authority})
		require.NoError(t, err)
		_, err = r.Key(context.Background(), "a", "ES256")
		require.ErrorIs(t, err, jwks.ErrUnavailable)
		mu.Lock()
		require.Equal(t, []string{want}, asked, authority)
		asked = nil
		mu.Unlock()
	}

	for _, authority := range []string{"", "gateway:8080", "//gateway", "ftp://gateway", "http://", "http://gw?x=1", "http://gw#x", "http://u:hunter2@gw", "http://u:hunter2@gw:port", "http:u:hunter2@gw", "u:hunter2@gw", "unix:///x"} {
		_, err := jwks.NewRemote(jwks.Config{Authority: authority})
		require.ErrorContains(t, err, "authority")
		require.NotContains(t, err.Error(), "hunter2")
	}
	for want, c := range map[string]jwks.Config{
		"cooldown -1ns":     {Authority: "http://gw", Cooldown: -1},
		"refresh -1ns":      {Authority: "http://gw", Refresh: -1},
		"keep -1ns":         {Authority: "http://gw", Keep: -1},
		"beside":            {Authority: "http://gw", File: "keys.json", Issuer: "http://gw"},
		"without an issuer": {File: "keys.json"},
	} {
		_, err := jwks.NewRemote(c)
		require.ErrorContains(t, err, want)
	}
}

// Kubernetes' API server has its documents in one type each, and answers 406 to
// who asks for others.
func TestFetchNegotiates(t *testing.T) {
	t.Parallel()
	keys := keySet(ec(t, "a"))
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mediaType, body := "application/jwk-set+json", keys
		if r.URL.Path == wellKnown {
			mediaType, body = "application/json", fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/openid/v1/jwks")
		}
		if !strings.Contains(r.Header.Get("Accept"), mediaType) {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	require.Empty(t, failure(t, jwks.Config{Authority: server.URL}))
}
