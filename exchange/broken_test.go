package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/test/freeport"
)

// breakage is a way in which a provider may be of no use. what says so in the
// log, for the operator.
type breakage struct {
	name  string
	what  string
	serve func(w http.ResponseWriter, r *http.Request, self string)
}

// discoveryOf answers with a discovery document, whatever is asked for.
func discoveryOf(iss, jwksURI string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, self string) {
		if iss == "" {
			iss = self
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": iss, "jwks_uri": strings.ReplaceAll(jwksURI, "SELF", self)})
	}
}

// keysOf answers with a good discovery document, and with these keys.
func keysOf(keys func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, self string) {
		if r.URL.Path != "/keys" {
			discoveryOf("", "SELF/keys")(w, r, self)
			return
		}
		keys(w)
	}
}

// endless writes until the reader has had enough, with a pause after each.
func endless(w http.ResponseWriter, r *http.Request, text string, pause time.Duration) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
		if pause > 0 {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(pause)
		}
	}
}

func breakages() []breakage {
	text := func(body string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = io.WriteString(w, body) }
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) }
	}
	key := func(keys string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = io.WriteString(w, keys) }
	}
	return []breakage{
		{"down", "connection refused", nil},
		{"hanging", "no complete answer in time", func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }},
		{"dripping", "no complete answer in time", func(w http.ResponseWriter, r *http.Request, _ string) {
			endless(w, r, " ", 20*time.Millisecond)
		}},
		{"dripping keys", "/keys: no complete answer in time", func(w http.ResponseWriter, r *http.Request, self string) {
			if r.URL.Path == "/keys" {
				endless(w, r, " ", 20*time.Millisecond)
			}
			discoveryOf("", "SELF/keys")(w, r, self)
		}},
		{"endless", "longer than 1048576 bytes", func(w http.ResponseWriter, r *http.Request, _ string) {
			endless(w, r, strings.Repeat("[", 4096), 0)
		}},
		{"endless keys", "/keys: longer than 1048576 bytes", func(w http.ResponseWriter, r *http.Request, self string) {
			if r.URL.Path == "/keys" {
				endless(w, r, strings.Repeat(`{"keys":`, 512), 0)
			}
			discoveryOf("", "SELF/keys")(w, r, self)
		}},
		{"HTML", "not a JSON object: invalid character '<'", text("<html>Sign in</html>")},
		{"a list", "not a JSON object", text("[]")},
		{"nothing", "not a JSON object", text("")},
		{"cut off", "unexpected EOF", func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}},
		{"not there", "status 404, expected 200", status(404)},
		{"failing", "status 503, expected 200", status(503)},
		{"other issuer", `issuer is "https://accounts.example.com", expected exactly "SELF"`, discoveryOf("https://accounts.example.com", "SELF/keys")},
		{"a slash more", `issuer is "SELF/", expected exactly "SELF"`, func(w http.ResponseWriter, r *http.Request, self string) {
			discoveryOf(self+"/", "SELF/keys")(w, r, self)
		}},
		{"redirect loop", "more than 3 redirects", func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}},
		{"redirect to a file", `redirect from http to "file" is not followed`, func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}},
		{"keys in a file", `jwks_uri "file:///etc/passwd": must be an absolute http or https URL`, discoveryOf("", "file:///etc/passwd")},
		{"no keys", `jwks_uri "": must be an absolute http or https URL`, discoveryOf("", "")},
		{"empty key set", "publishes no usable key", keysOf(key(`{"keys":[]}`))},
		{"a secret's name", "publishes no usable key", keysOf(key(`{"keys":[{"kty":"oct","kid":"idp-1","k":"c2VjcmV0","alg":"HS256"}]}`))},
		{"garbage as keys", "/keys: not a JSON object", keysOf(key(`"keys"`))},
	}
}

// TestBrokenProviders has more than twenty of them and a good one. Callers and
// the operator are told which is broken, the operator why too; and subjects of
// the good one wait for nobody.
func TestBrokenProviders(t *testing.T) {
	t.Parallel()
	good := newProvider(t, nil)
	policy, role := invoke("invoke", "alice", "*")
	objects := iam.Objects{Issuers: []iam.JwtIssuer{good.trusted("good", "1h")}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role}}
	var broken []*provider
	for i, b := range breakages() {
		p := newProvider(t, nil)
		p.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, p.URL) })
		if b.serve == nil {
			p.URL = "http://127.0.0.1:" + freeport.Take()
		}
		objects.Issuers = append(objects.Issuers, p.trusted(fmt.Sprint("broken-", i), "1h"))
		broken = append(broken, p)
	}
	require.GreaterOrEqual(t, len(broken), 20)
	var warned warnings
	g := newGateway(t, compile(t, objects), func(c *Config) { c.Warnf = warned.add })

	token := good.token(t, nil)
	alone := p99(t, g, token)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	defer running.Wait()
	defer stop()
	refused := make([]error, len(broken))
	for i, p := range broken {
		id := p.token(t, nil)
		for range 4 {
			running.Go(func() {
				for ctx.Err() == nil {
					_, err := g.Exchange(ctx, Request{GrantType: GrantType, SubjectToken: id, SubjectTokenType: TokenTypeIDToken})
					if ctx.Err() == nil && err == nil {
						t.Errorf("%s is of some use", breakages()[i].name)
					}
					time.Sleep(50 * time.Millisecond) // a client's network
				}
			})
		}
		running.Go(func() { _, refused[i] = g.exchange(t, id, "") })
	}
	together := p99(t, g, token)
	t.Logf("the good issuer's 99th percentile is %v alone, %v beside %d broken ones", alone, together, len(broken))
	// Waiting for another's keys would be half a second at least.
	require.Less(t, together, max(250*time.Millisecond, 5*alone))

	for i, b := range breakages() {
		what := regexp.QuoteMeta(strings.ReplaceAll(b.what, "SELF", broken[i].URL))
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^JwtIssuer broken-%d \(%s\): .*%s`, i, regexp.QuoteMeta(broken[i].URL), what))
		require.Eventually(t, func() bool { return line.MatchString(warned.String()) }, 15*time.Second, 10*time.Millisecond,
			"%s: %s is not in\n%s", b.name, line, &warned)
	}
	stop()
	running.Wait()
	for i, p := range broken {
		requireRefused(t, refused[i], TemporarilyUnavailable, "the keys of issuer "+p.URL+" cannot be fetched at the moment; try again")
		require.Equal(t, "temporarily_unavailable: the keys of issuer "+p.URL+" cannot be fetched at the moment; try again", refused[i].Error())
	}
	require.NotContains(t, warned.String(), "JwtIssuer good")
}

// p99 has eight clients exchange a token, and returns the 99th percentile of
// the time that takes.
func p99(t *testing.T, g *gateway, token string) time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				started := time.Now()
				if _, err := g.exchange(t, token, "function"); err != nil {
					t.Error(err)
				}
				mu.Lock()
				all = append(all, time.Since(started))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all[len(all)*99/100]
}
