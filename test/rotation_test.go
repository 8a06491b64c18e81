package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keys runs `gateway keys …` beside a gateway.
func (g *gatewayUp) keys(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary("gateway"), append([]string{"keys"}, args...)...)
	cmd.Dir = g.dir
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// startProtected starts an fwatchdog of its own before the quickstart's hello,
// which answers at once, and waits until it has the gateway's keys.
func startProtected(t *testing.T, g *gatewayUp, env ...string) (w *program, url string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "r") // t.TempDir() is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	hello := filepath.Join(dir, "hello")
	require.NoError(t, os.Symlink(binary("gateway"), hello))
	w = start(t, dir, append([]string{
		"TMPDIR=" + dir, "listen=127.0.0.1:0", "metrics_port=0", "healthcheck_interval=0",
		"mode=http", "fprocess=" + hello, "upstream_url=unix://" + filepath.Join(dir, "f"),
		"jwt_auth=true", "jwt_auth_authority=" + g.url, "OPENFAAS_NAME=hello", "OPENFAAS_NAMESPACE=openfaas-fn",
	}, env...), "fwatchdog")
	url = "http://" + w.stderr.find(t, w, `Serving mode http on (\S+),`)[1]
	eventually(t, func() bool { return get(t, url+"/_/ready").status == 200 }, "never ready")
	token := g.functionToken(t)
	eventually(t, func() bool { return get(t, url, "Authorization: Bearer "+token).status == 200 }, "never answers")
	return w, url
}

// kidOf returns the kid of a token.
func kidOf(token string) string {
	header, _, _ := strings.Cut(token, ".")
	decoded, _ := base64.RawURLEncoding.DecodeString(header)
	var h struct{ Kid string }
	_ = json.Unmarshal(decoded, &h)
	return h.Kid
}

// TestRotationLosesNobody rotates the gateway's key every 15 seconds, while
// tokens of all keys so far are issued, exchanged and used without a pause. A
// new key is published for ten seconds before it signs, which is much less than
// the time between two fetches of the watchdog with default settings.
func TestRotationLosesNobody(t *testing.T) {
	t.Parallel()
	const (
		period = 15 * time.Second
		lead   = 10 * time.Second
		life   = 40 * time.Second // of a token: several keys' time
	)
	duration := 40 * time.Second
	if os.Getenv("GATEHOUND_LONG_TESTS") != "" && !raceEnabled && !testing.Short() {
		duration = 3 * time.Minute
	}
	g := startUp(t, "", nil)
	trust := filepath.Join(g.dir, ".gatehound", "iam", "dev-idp.yaml")
	objects, err := os.ReadFile(trust)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(trust, []byte(strings.Replace(string(objects), "30m", life.String(), 1)), 0o600))
	id := g.idToken(t, "--sub", "alice")
	eventually(t, func() bool {
		_, reply := g.exchange(t, id)
		return reply["expires_in"] == life.Seconds()
	}, "the new tokenExpiry is not used")
	_, slow := startProtected(t, g)
	_, fast := startProtected(t, g, "jwt_auth_refresh=2s")

	load := &rotationLoad{gateway: g.url, functions: []string{slow, fast, g.url + "/function/hello"}, stop: make(chan struct{})}
	load.client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer load.client.CloseIdleConnections()
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() { load.exchangeAll(id, life) })
	}
	for range 12 {
		running.Go(load.callAll)
	}

	rotations := 0
	end := time.NewTimer(duration)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for rotating := true; rotating; {
		g.keys(t, "rotate", "--after", lead.String())
		rotations++
		select {
		case <-end.C:
			rotating = false
		case <-tick.C:
		}
	}
	close(load.stop)
	running.Wait()

	require.Empty(t, load.failures, "%d rotations, %d calls, %d exchanges", rotations, load.calls.Load(), load.exchanges.Load())
	require.GreaterOrEqual(t, len(load.kids), int((duration-lead)/period), "tokens were signed by too few keys")
	require.Greater(t, load.calls.Load(), int64(duration.Seconds()*20), "hardly any load")
	require.Greater(t, load.older.Load(), load.calls.Load()/10, "hardly any call with a token of a key that signs no more")
	list := g.keys(t, "list")
	require.Len(t, lines(list), 1+1+rotations, list)
	require.Equal(t, "no key has expired\n", g.keys(t, "prune"))
	t.Logf("%d rotations, %d keys seen; %d calls, %d of them with tokens of older keys; %d exchanges",
		rotations, len(load.kids), load.calls.Load(), load.older.Load(), load.exchanges.Load())
}

// rotationLoad is what happens while keys are rotated.
type rotationLoad struct {
	gateway   string
	functions []string
	client    *http.Client
	stop      chan struct{}

	calls, older, exchanges atomic.Int64

	mu       sync.Mutex
	tokens   []rotationToken // oldest first; all can still be used
	kids     map[string]bool
	failures []string
}

type rotationToken struct {
	token, kid string
	until      time.Time
}

// pause waits between two requests, and says whether there is to be another.
func (l *rotationLoad) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *rotationLoad) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) < 20 {
		l.failures = append(l.failures, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
	}
}

// exchangeAll goes on exchanging: the ID token for a function token and for an
// API token, and API tokens, as old as they may be, for function tokens.
func (l *rotationLoad) exchangeAll(id string, life time.Duration) {
	var api []rotationToken
	for l.pause(100 * time.Millisecond) {
		began := time.Now()
		if token, ok := l.exchange(id); ok {
			api = append(api, rotationToken{token, kidOf(token), began.Add(life - 4*time.Second)})
		}
		for len(api) > 0 && time.Now().After(api[0].until) {
			api = api[1:]
		}
		if len(api) > 0 {
			l.exchange(api[0].token, "scope", "function") // lives too short to be used
		}
		began = time.Now()
		token, ok := l.exchange(id, "scope", "function")
		if !ok {
			continue
		}
		l.mu.Lock()
		if l.kids == nil {
			l.kids = make(map[string]bool)
		}
		l.kids[kidOf(token)] = true
		l.tokens = append(l.tokens, rotationToken{token, kidOf(token), began.Add(life - 4*time.Second)})
		l.mu.Unlock()
	}
}

func (l *rotationLoad) exchange(subject string, parameters ...string) (token string, ok bool) {
	form := url.Values{"grant_type": {tokenExchange}, "subject_token_type": {idTokenType}, "subject_token": {subject}}
	for i := 0; i < len(parameters); i += 2 {
		form.Add(parameters[i], parameters[i+1])
	}
	l.exchanges.Add(1)
	res, err := l.client.PostForm(l.gateway+"/oauth/token", form)
	if err != nil {
		l.fail("exchange: %v", err)
		return "", false
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	var reply struct {
		AccessToken string `json:"access_token"`
	}
	if err != nil || res.StatusCode != 200 || json.Unmarshal(body, &reply) != nil {
		l.fail("exchange: %d %s %v", res.StatusCode, body, err)
		return "", false
	}
	return reply.AccessToken, true
}

// callAll goes on calling functions: with the newest token, whose key the
// watchdog may have to fetch, with the oldest, and with any.
func (l *rotationLoad) callAll() {
	for l.pause(20 * time.Millisecond) {
		l.mu.Lock()
		for len(l.tokens) > 0 && time.Now().After(l.tokens[0].until) {
			l.tokens = l.tokens[1:]
		}
		if len(l.tokens) == 0 {
			l.mu.Unlock()
			continue
		}
		last := len(l.tokens) - 1
		token, newest := l.tokens[[]int{0, last, rand.IntN(last + 1)}[rand.IntN(3)]], l.tokens[last].kid
		l.mu.Unlock()
		target := l.functions[rand.IntN(len(l.functions))]
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			l.fail("%v", err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+token.token)
		l.calls.Add(1)
		if token.kid != newest {
			l.older.Add(1)
		}
		res, err := l.client.Do(req)
		if err != nil {
			l.fail("call: %v", err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 {
			l.fail("call of %s, kid %s, newest %s: %d %s %v", target, token.kid, newest, res.StatusCode, body, err)
		}
	}
}

// TestCompromisedKey deletes the signing key. What it signed is refused, by the
// gateway at once and by the function as soon as its watchdog fetches keys: when
// it sees a key that it does not know.
func TestCompromisedKey(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	_, function := startProtected(t, g)
	id := g.idToken(t, "--sub", "alice")
	_, reply := g.exchange(t, id)
	api := reply["access_token"].(string)
	old := g.functionToken(t)
	require.Equal(t, 200, get(t, function, "Authorization: Bearer "+old).status)

	g.keys(t, "rotate", "--after", "0s", "--type", "es384")
	var fresh string
	eventually(t, func() bool {
		fresh = g.functionToken(t)
		return kidOf(fresh) != kidOf(old)
	}, "the new key never signs")
	a, _ := g.exchange(t, api, "scope", "function")
	require.Equal(t, 200, a.status, "replaced is not withdrawn")
	require.Contains(t, get(t, g.url+"/.well-known/openid-configuration").body, `["ES256","ES384"]`)

	require.NoError(t, os.Remove(filepath.Join(g.dir, ".gatehound", "keys", "first.pem")))
	eventually(t, func() bool { return !strings.Contains(get(t, g.url+"/.well-known/jwks.json").body, kidOf(old)) }, "still published")
	a, body := g.exchange(t, api, "scope", "function")
	require.Equal(t, 400, a.status, "an API token of the key opens nothing")
	require.Equal(t, "invalid_request", body["error"])

	require.Equal(t, 200, get(t, function, "Authorization: Bearer "+fresh).status)
	refused := get(t, function, "Authorization: Bearer "+old)
	require.Equal(t, 401, refused.status, refused.body)
	g.stderr.find(t, g.program, `WRN signing key first\.pem: key \S+ was deleted`)
}

// TestWithdrawnKeyIsForgotten deletes the signing key while functions remember
// what they decided on a token of it. Nobody shows them another key, so it is
// theirs to find out: within one refresh, and at once on SIGHUP.
func TestWithdrawnKeyIsForgotten(t *testing.T) {
	t.Parallel()
	const refresh = 2 * time.Second
	g := startUp(t, "", nil)
	_, refreshing := startProtected(t, g, "jwt_auth_refresh="+refresh.String())
	asked, onDemand := startProtected(t, g, "jwt_auth_refresh=1h")
	old := "Authorization: Bearer " + g.functionToken(t)
	for _, function := range []string{refreshing, refreshing, onDemand, onDemand} {
		require.Equal(t, 200, get(t, function, old).status)
	}

	g.keys(t, "rotate", "--after", "0s")
	require.NoError(t, os.Remove(filepath.Join(g.dir, ".gatehound", "keys", "first.pem")))
	g.stderr.find(t, g.program, `WRN signing key first\.pem: key \S+ was deleted`)
	withdrawn := time.Now()
	eventually(t, func() bool { return get(t, refreshing, old).status == 401 }, "the refresh changes nothing")
	// A tenth more is the jitter; the rest is for a busy machine.
	require.Less(t, time.Since(withdrawn), 2*refresh)

	require.Equal(t, 200, get(t, onDemand, old).status, "its refresh is an hour away")
	require.NoError(t, asked.cmd.Process.Signal(syscall.SIGHUP))
	asked.stderr.find(t, asked, `Reloaded the keys of issuer `+g.url)
	refused := get(t, onDemand, old)
	require.Equal(t, 401, refused.status)
	require.Equal(t, "failed to parse JWT token: kid names no key of the issuer\n", refused.body)
	require.Equal(t, 200, get(t, onDemand, "Authorization: Bearer "+g.functionToken(t)).status)
}

// TestReplicasShareKeys has two gateways with one name on one folder of keys.
// Whichever issues a token, the other's functions take it, and both sign with the
// new key when its time has come.
func TestReplicasShareKeys(t *testing.T) {
	t.Parallel()
	a := startUp(t, "", nil)
	b := startUp(t, "", []string{"system_issuer=" + a.url, "issuer_key_path=" + filepath.Join(a.dir, ".gatehound", "keys")})
	jwks := func(g *gatewayUp) string { return get(t, g.url+"/.well-known/jwks.json").body }
	require.Equal(t, jwks(a), jwks(b))
	first := kidOf(a.functionToken(t))

	a.keys(t, "rotate", "--after", "4s")
	eventually(t, func() bool { return strings.Count(jwks(b), `"kid"`) == 2 && jwks(a) == jwks(b) }, "the new key is not published by both")
	for _, pair := range [][2]*gatewayUp{{a, b}, {b, a}} {
		var token string
		eventually(t, func() bool {
			token = pair[0].functionToken(t)
			return kidOf(token) != first
		}, "the new key never signs")
		require.Equal(t, 200, get(t, pair[1].url+"/function/hello", "Authorization: Bearer "+token).status)
	}
	require.Equal(t, kidOf(a.functionToken(t)), kidOf(b.functionToken(t)))
}
