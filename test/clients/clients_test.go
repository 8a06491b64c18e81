// Package clients drives the built gateway with OpenFaaS' own clients: faas-cli
// as a program, and go-sdk.
package clients

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The built programs.
var gatewayProgram, faasCLI string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehound-clients-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	gatewayProgram = filepath.Join(dir, "gateway")
	build := exec.Command("go", "build", "-o", dir, "./gateway/cmd/gateway", "./auth/cmd/pro")
	build.Dir = "../.." // the module whose programs they are
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs: %v\n%s", err, out)
		return 1
	}
	find := exec.Command("go", "tool", "-n", "faas-cli") // built once, then kept in Go's cache
	find.Stderr = os.Stderr
	out, err := find.Output()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building faas-cli: %v\n", err)
		return 1
	}
	faasCLI = strings.TrimSpace(string(out))
	return m.Run()
}

// patience bounds every wait: much longer than anything takes.
const patience = 60 * time.Second

// gateway is `gateway up`, running.
type gateway struct {
	dir, url string
	stderr   *output
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

var (
	up        = regexp.MustCompile(`(?m)^gatehound is up at (http://\S+)$`)
	listening = regexp.MustCompile(`listening on (http://\S+),`)
)

// startGateway runs the functions of a stack file.
func startGateway(t *testing.T, stack string, env ...string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), stderr: new(output)}
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "stack.yml"), []byte(stack), 0o600))
	stdout := new(output)
	cmd := exec.Command(gatewayProgram, "up", "-f", "stack.yml")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = g.dir, stdout, g.stderr, append(env, "port=0")
	g.url = start(t, cmd, stdout, up)
	return g
}

// front starts a gateway whose provider is g: what its user sees has been
// through our provider for any other one's functions. It takes g's password.
func (g *gateway) front(t *testing.T) *gateway {
	t.Helper()
	front := &gateway{dir: g.dir, stderr: new(output)}
	cmd := exec.Command(gatewayProgram)
	cmd.Dir, cmd.Stderr = t.TempDir(), front.stderr
	cmd.Env = []string{"functions_provider_url=" + g.url, "basic_auth=true",
		"secret_mount_path=" + filepath.Join(g.dir, ".gatehound/secrets"), "system_issuer=http://gateway.test", "listen=127.0.0.1:0"}
	front.url = start(t, cmd, front.stderr, listening)
	return front
}

// start starts a gateway and returns the URL that it prints as said.
func start(t *testing.T, cmd *exec.Cmd, printed *output, said *regexp.Regexp) (url string) {
	t.Helper()
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "metrics_port=0")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if t.Failed() {
			t.Logf("%s printed\n%s\nand on stderr\n%s", cmd, printed, cmd.Stderr)
		}
	})
	eventually(t, "it is never up", func() bool {
		match := said.FindStringSubmatch(printed.String())
		if match != nil {
			url = match[1]
		}
		return match != nil
	})
	return url
}

// overEach runs a test against a gateway with functions of its own, and against
// one that has them from another provider.
func overEach(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, startGateway(t, stack))
	})
	t.Run("upstream", func(t *testing.T) {
		t.Parallel()
		test(t, startGateway(t, stack).front(t))
	})
}

func eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 20*time.Millisecond, otherwise)
}

func (g *gateway) password(t *testing.T) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(g.dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	return strings.TrimSpace(string(password))
}

// grant gives subjects of the development identity provider these actions on
// these resources.
func (g *gateway) grant(t *testing.T, subject string, actions, resources []string) {
	t.Helper()
	list := func(all []string) string {
		text, _ := json.Marshal(all)
		return string(text)
	}
	objects := fmt.Sprintf(`apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: %[1]s, namespace: openfaas}
spec: {statement: [{sid: "1", effect: Allow, action: %[2]s, resource: %[3]s}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: %[1]s, namespace: openfaas}
spec: {policy: [%[1]s], principal: {"jwt:sub": [%[1]s]}}
`, subject, list(actions), list(resources))
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, ".gatehound/iam", subject+".yaml"), []byte(objects), 0o600))
}

// idToken returns one of the development identity provider.
func (g *gateway) idToken(t *testing.T, subject string) string {
	t.Helper()
	cmd := exec.Command(gatewayProgram, "id-token", "--sub", subject)
	cmd.Dir = g.dir
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// apiToken exchanges an ID token, as soon as something is granted to subject.
func (g *gateway) apiToken(t *testing.T, subject string) string {
	t.Helper()
	id := g.idToken(t, subject)
	var body struct {
		Token string `json:"access_token"`
	}
	eventually(t, "nothing is ever granted to "+subject, func() bool {
		res, err := http.PostForm(g.url+"/oauth/token", url.Values{
			"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"subject_token":      {id},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		})
		require.NoError(t, err)
		defer res.Body.Close()
		require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
		return res.StatusCode == http.StatusOK
	})
	return body.Token
}

// user is somebody at a shell, with a home of their own.
type user struct {
	home string
	url  string
}

func (g *gateway) user(t *testing.T) *user { return &user{home: t.TempDir(), url: g.url} }

// tokenUser is logged in as `faas-cli pro auth` leaves it.
func (g *gateway) tokenUser(t *testing.T, token string) *user {
	t.Helper()
	u := g.user(t)
	require.NoError(t, os.Mkdir(filepath.Join(u.home, ".openfaas"), 0o700))
	u.write(t, ".openfaas/config.yml", fmt.Sprintf("auths:\n- gateway: %s\n  auth: oauth2\n  token: %s\n  options: []\n", g.url, token))
	return u
}

func (u *user) write(t *testing.T, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(u.home, name), []byte(text), 0o600))
}

// command is a faas-cli that cannot reach anything but this machine.
func (u *user) command(ctx context.Context, stdin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, faasCLI, args...)
	cmd.Dir, cmd.Stdin = u.home, strings.NewReader(stdin)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.home, "OPENFAAS_URL=" + u.url,
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}
	return cmd
}

// run runs faas-cli and returns what the user sees, and whether it exits with 0.
func (u *user) run(t *testing.T, stdin string, args ...string) (shown string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := u.command(ctx, stdin, args...).CombinedOutput()
	if err != nil {
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 1, exit.ExitCode(), "faas-cli %s\n%s", strings.Join(args, " "), out)
	}
	return string(out), err == nil
}

var blanks = regexp.MustCompile(`[ \t]+`)

// shows wants a command to succeed and to show all of these, whatever the
// width of its columns.
func (u *user) shows(t *testing.T, command string, all ...string) string {
	t.Helper()
	shown, ok := u.run(t, "", strings.Fields(command)...)
	require.True(t, ok, "faas-cli %s\n%s", command, shown)
	shown = blanks.ReplaceAllString(shown, " ")
	for _, want := range all {
		require.Contains(t, shown, want, "faas-cli %s", command)
	}
	return shown
}

// fails wants a command to fail and to show all of these.
func (u *user) fails(t *testing.T, command string, all ...string) {
	t.Helper()
	shown, ok := u.run(t, "", strings.Fields(command)...)
	require.False(t, ok, "faas-cli %s\n%s", command, shown)
	for _, want := range all {
		require.Contains(t, shown, want, "faas-cli %s", command)
	}
}

// claims returns the claims of a token, unverified.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(body, &c))
	return c
}
