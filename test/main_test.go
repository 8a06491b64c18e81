// Package test holds the end-to-end tests. They build the binaries and start
// them in empty folders, on free ports, as a user would.
package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// bin is the folder with the built binaries gateway and fwatchdog.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(functionVariable) != "" {
		serveFunction()
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehound-bin-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin = dir
	args := []string{"build", "-o", dir}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, "../gateway/cmd/gateway", "../watchdog/cmd/fwatchdog")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the binaries: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience bounds every wait: much longer than anything takes, even with the
// race detector on a busy machine.
const patience = 60 * time.Second

// program is a running binary.
type program struct {
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{}
}

// binary returns the path of one of our binaries; another one's is as given.
func binary(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(bin, name)
}

// start runs name from bin, or the program at an absolute path, in dir. The
// environment is env and PATH alone.
func start(t *testing.T, dir string, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{
		cmd:    exec.Command(binary(name), args...),
		stdout: newOutput(), stderr: newOutput(),
		exited: make(chan struct{}),
	}
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			t.Errorf("%s had to be killed", name)
		}
		require.NotContains(t, p.stderr.String(), "DATA RACE")
		if t.Failed() {
			t.Logf("%s printed\n%s\nand on stderr\n%s", name, p.stdout, p.stderr)
		}
	})
	return p
}

// wait returns the exit code.
func (p *program) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		require.Fail(t, "still running", "stderr:\n%s", p.stderr)
		return -1
	}
}

// output collects what a program prints, and tells who waits for it.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// find waits until the output matches pattern and returns the submatches.
func (o *output) find(t *testing.T, p *program, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		match, changed := re.FindStringSubmatch(o.buf.String()), o.changed
		o.mu.Unlock()
		if match != nil {
			return match
		}
		select {
		case <-changed:
		case <-p.exited:
			if match := re.FindStringSubmatch(o.String()); match != nil {
				return match
			}
			require.Fail(t, "exited before it printed "+pattern, "stderr:\n%s", p.stderr)
		case <-deadline:
			require.Fail(t, "never printed "+pattern, "stdout:\n%s\nstderr:\n%s", p.stdout, p.stderr)
		}
	}
}

// gatewayUp is a `gateway up` that is ready.
type gatewayUp struct {
	*program
	dir string
	url string
}

// freePorts lets the kernel choose; metrics are off.
var freePorts = []string{"port=0", "metrics_port=0"}

// startUp starts `gateway up` in dir ("" = an empty folder) and waits until
// its functions are ready.
func startUp(t *testing.T, dir string, env []string, args ...string) *gatewayUp {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	p := start(t, dir, append(append([]string{}, freePorts...), env...), "gateway", append([]string{"up"}, args...)...)
	url := p.stdout.find(t, p, `(?m)^gatehound is up at (http://\S+)$`)[1]
	return &gatewayUp{program: p, dir: dir, url: url}
}

// idToken returns an ID token of the development identity provider.
func (g *gatewayUp) idToken(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "gateway"), append([]string{"id-token"}, args...)...)
	cmd.Dir = g.dir
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.TrimSuffix(string(out), "\n")
}

// answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request. headers are "Name: value".
func do(t *testing.T, method, target, body string, headers ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(read)}
}

func get(t *testing.T, target string, headers ...string) answer {
	t.Helper()
	return do(t, http.MethodGet, target, "", headers...)
}

const (
	tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	idTokenType   = "urn:ietf:params:oauth:token-type:id_token"
)

// exchange posts to the token endpoint. parameters are name, value, …
func (g *gatewayUp) exchange(t *testing.T, subjectToken string, parameters ...string) (answer, map[string]any) {
	t.Helper()
	form := url.Values{
		"grant_type":         {tokenExchange},
		"subject_token_type": {idTokenType},
		"subject_token":      {subjectToken},
	}
	for i := 0; i < len(parameters); i += 2 {
		form.Add(parameters[i], parameters[i+1])
	}
	a := do(t, http.MethodPost, g.url+"/oauth/token", form.Encode(), "Content-Type: application/x-www-form-urlencoded")
	var decoded map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &decoded), a.body)
	return a, decoded
}

// functionToken exchanges an ID token of alice.
func (g *gatewayUp) functionToken(t *testing.T, audience ...string) string {
	t.Helper()
	parameters := []string{"scope", "function"}
	for _, a := range audience {
		parameters = append(parameters, "audience", a)
	}
	a, body := g.exchange(t, g.idToken(t, "--sub", "alice"), parameters...)
	require.Equal(t, http.StatusOK, a.status, a.body)
	return body["access_token"].(string)
}

// relatives returns the processes whose environment or command line mentions
// mark, by PID.
func relatives(t *testing.T, mark string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, dir := range dirs {
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if bytes.Contains(environ, []byte(mark)) || bytes.Contains(cmdline, []byte(mark)) {
			found[filepath.Base(dir)] = strings.ReplaceAll(string(cmdline), "\x00", " ")
		}
	}
	return found
}

// eventually polls until ok.
func eventually(t *testing.T, ok func() bool, message string) {
	t.Helper()
	require.Eventually(t, ok, patience, 20*time.Millisecond, message)
}

// lines returns s split at line ends.
func lines(s string) []string {
	var all []string
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		all = append(all, sc.Text())
	}
	return all
}
