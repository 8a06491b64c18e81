// Package browser goes through the dashboard with a real browser, and logs in with
// it at the form of an OpenID provider that others wrote.
package browser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// patience bounds every wait: much longer than anything takes.
const patience = 60 * time.Second

var (
	// binary is the built gateway.
	binary string
	// chromium is the browser of all tests; each has a profile of its own in it.
	chromium context.Context
	// axe is the source of axe-core, which looks for what keeps people out; "" = it
	// is not there.
	axe string
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if _, err := exec.LookPath("chromium"); err != nil {
		fmt.Println("SKIPPED, THE DASHBOARD WAS NOT TRIED IN A BROWSER: there is no chromium here; .ci/browser installs it")
		return 0
	}
	if source, err := os.ReadFile(os.Getenv("AXE")); err == nil {
		axe = string(source)
	} else {
		fmt.Println("ACCESSIBILITY WAS NOT CHECKED: set AXE to axe-core's axe.min.js, as .ci/browser does")
	}
	dir, err := os.MkdirTemp("", "gatehound-browser-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gateway")
	build := exec.Command("go", "build", "-o", binary, "./gateway/cmd/gateway")
	build.Dir = "../.." // the module whose program it is
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the gateway: %v\n%s", err, out)
		return 1
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, // which root has none of
		// It finds nobody but what is started here.
		chromedp.Flag("host-resolver-rules", "MAP *.gatehound.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-domain-reliability", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.WSURLReadTimeout(patience),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	var cancel context.CancelFunc
	chromium, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Run(chromium); err != nil {
		fmt.Fprintf(os.Stderr, "starting chromium: %v\n", err)
		return 1
	}
	return m.Run()
}

// gateway is the built one, running, with the quickstart's functions.
type gateway struct {
	url    string
	issuer string // the provider's
	dir    string // its own
	stderr *output
}

// output collects what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a gateway and a provider that know each other.
func start(t *testing.T, env ...string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), stderr: new(output)}
	var login atomic.Value
	g.issuer = startProvider(t, &login)
	require.NoError(t, os.Mkdir(filepath.Join(g.dir, "iam"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "iam", "people.yaml"), []byte(strings.ReplaceAll(people, "ISSUER", g.issuer)), 0o600))

	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "stack.yml"), []byte(stack), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "evil.html"), []byte(evil), 0o600))
	cmd := exec.Command(binary, "up", "-f", "stack.yml")
	cmd.Dir, cmd.Stderr = g.dir, g.stderr
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "listen=127.0.0.1:0", "metrics_port=0", "iam_dir=iam",
		"primary_issuer=" + g.issuer, "oauth_client_id=" + clientID, "oauth_scopes=openid email profile offline_access",
	}, env...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if t.Failed() {
			t.Logf("the gateway printed\n%s", g.stderr)
		}
	})
	listening := regexp.MustCompile(`listening on (http://\S+),`)
	require.Eventually(t, func() bool {
		at := listening.FindStringSubmatch(g.stderr.String())
		if at == nil {
			return false
		}
		g.url = at[1]
		return true
	}, patience, 20*time.Millisecond, "it never listens:\n%s", g.stderr)
	login.Store(g.url + "/ui/login")
	for name, want := range map[string]int{"env": http.StatusOK, "hello": http.StatusUnauthorized, "upper": http.StatusUnauthorized} {
		require.Eventually(t, func() bool { return g.call(name) == want }, patience, 20*time.Millisecond, "%s is never ready:\n%s", name, g.stderr)
	}
	return g
}

// stack has the quickstart's functions, and a web page that somebody has deployed.
const stack = `
functions:
  env: {image: gatehound/env, fprocess: env, environment: {mode: streaming, content_type: text/plain}}
  hello: {image: gatehound/hello, fprocess: hello, environment: {mode: http, jwt_auth: true}}
  upper: {image: gatehound/upper, fprocess: tr a-z A-Z, environment: {mode: serializing, content_type: text/plain, jwt_auth: true}}
  evil: {image: gatehound/evil, fprocess: cat evil.html, environment: {mode: streaming, content_type: text/html}}
`

// evil does what it can to the dashboard of who looks at it, and says in its title
// what came of that.
const evil = `<!doctype html><title>evil</title><body><iframe name="frame" src="/ui/"></iframe><script>
const outcomes = []
const attempt = async (what, run) => { try { outcomes.push(what + ": " + await run()) } catch (e) { outcomes.push(what + ": kept out") } }
onload = async () => {
	await attempt("fetch", async () => (await fetch("/ui/", {credentials: "include"})).text())
	await attempt("cookie", () => document.cookie)
	await attempt("storage", () => localStorage.length)
	await attempt("frame", () => frames[0].document.body.innerText)
	await attempt("parent", () => opener.document.body.innerText)
	await attempt("worker", async () => (await navigator.serviceWorker.register("/function/evil")).scope)
	document.title = outcomes.join("; ")
}
</script>`

// call calls a function as nobody, and returns the status; 0 = none.
func (g *gateway) call(name string) int {
	res, err := http.Post(g.url+"/function/"+name, "text/plain", strings.NewReader("hello"))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// password is the administrator's.
func (g *gateway) password(t *testing.T) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(g.dir, ".gatehound", "secrets", "basic-auth-password"))
	require.NoError(t, err)
	return strings.TrimSpace(string(password))
}

// The dashboard's name at the provider, and the provider's people: the first has a
// role, the second has none.
const (
	clientID         = "dashboard"
	member, stranger = "test-user2", "test-user@127.0.0.1"
	theirPassword    = "verysecure"
)

// startProvider starts zitadel's example, which has a form to log in by. It lets
// browsers come back to the page login after the logout.
func startProvider(t *testing.T, login *atomic.Value) (issuer string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer = "http://" + server.Listener.Addr().String()
	// On any port: that is a native client's right (RFC 8252 section 7.3).
	clients := map[string]*storage.Client{clientID: storage.NativeClient(clientID, "http://127.0.0.1/auth/callback")}
	store := returning{storage.NewStorageWithClients(storage.NewUserStore(issuer), clients), login}
	server.Config.Handler = exampleop.SetupServer(issuer, store, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	server.Start()
	t.Cleanup(server.Close)
	return issuer
}

// returning lets browsers come back to a page of the dashboard's after the logout;
// the example's clients know of none.
type returning struct {
	*storage.Storage
	to *atomic.Value // string
}

type returningClient struct {
	op.Client
	to string
}

func (c returningClient) PostLogoutRedirectURIs() []string { return []string{c.to} }

func (s returning) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return returningClient{c, s.to.Load().(string)}, err
}

// people has who logs in at the provider look at functions, and call one.
const people = `
apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: idp, namespace: openfaas}
spec: {iss: ISSUER, aud: [dashboard], tokenExpiry: 30m}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: look, namespace: openfaas}
spec:
  statement:
  - {sid: look, effect: Allow, action: ["Function:List", "Function:Get", "Function:Logs"], resource: ["openfaas-fn:*"]}
  - {sid: call, effect: Allow, action: ["Function:Invoke"], resource: ["openfaas-fn:hello"]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: members, namespace: openfaas}
spec: {policy: [look], condition: {StringEqual: {"jwt:iss": ISSUER, "jwt:sub": id2}}}
`
