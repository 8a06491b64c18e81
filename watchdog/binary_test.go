package watchdog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests run the built program; the test binary itself is the function of
// http mode.
var fwatchdog string

const functionVariable = "WATCHDOG_TEST_FUNCTION"

func TestMain(m *testing.M) {
	if kind := os.Getenv(inprocVariable); kind != "" {
		inprocFunction(kind)
		return
	}
	if address := os.Getenv(functionVariable); address != "" {
		testFunction(address)
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fwatchdog")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		fwatchdog = filepath.Join(dir, "fwatchdog")
		args := []string{"build", "-o", fwatchdog}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "./cmd/fwatchdog")...)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Len()
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// program is a running fwatchdog.
type program struct {
	t              *testing.T
	cmd            *exec.Cmd
	dir            string // its TMPDIR
	url            string
	stdout, stderr *output
	ended          chan struct{}
}

// launch starts fwatchdog without waiting for anything.
func launch(t *testing.T, env ...string) *program { return launchProgram(t, fwatchdog, env...) }

func launchProgram(t *testing.T, path string, env ...string) *program {
	return launchCommand(t, []string{path}, env...)
}

func launchCommand(t *testing.T, command []string, env ...string) *program {
	p := &program{t: t, dir: t.TempDir(), stdout: &output{}, stderr: &output{}, ended: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.dir, "GORACE=halt_on_error=1 atexit_sleep_ms=0",
		"listen=127.0.0.1:0", "metrics_port=0", "healthcheck_interval=0",
	}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.WaitDelay = time.Second
	require.NoError(t, p.cmd.Start())
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		require.NotContains(t, p.stderr.String(), "DATA RACE")
		require.NotContains(t, p.stderr.String(), "BUG: panic")
		if t.Failed() {
			stdout := p.stdout.String()
			t.Logf("fwatchdog's output:\n%s%s", stdout[max(0, len(stdout)-10_000):], p.stderr)
		}
	})
	return p
}

var servingOn = regexp.MustCompile(`Serving mode \w+ on (\S+),`)

// start starts fwatchdog and waits until it serves.
func start(t *testing.T, env ...string) *program {
	p := launch(t, env...)
	p.awaitServing()
	return p
}

func (p *program) awaitServing() {
	p.t.Helper()
	p.eventually(func() bool {
		m := servingOn.FindStringSubmatch(p.stderr.String())
		if m != nil {
			p.url = "http://" + m[1]
		}
		return m != nil
	}, "serving")
}

// patience is how long a test waits for what must happen: machines that test much
// else besides are slow.
const patience = 30 * time.Second

func (p *program) eventually(f func() bool, what string) {
	p.t.Helper()
	require.Eventually(p.t, f, patience, 2*time.Millisecond, what)
}

func (p *program) logged(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	p.eventually(func() bool { return re.MatchString(p.stderr.String()) }, pattern)
}

// exit waits for the program's end and returns its exit status.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(15 * time.Second):
		require.Fail(p.t, "fwatchdog does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading the body
}

// client keeps no connections: each request shows itself to the limiter anew.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (p *program) request(method, target string, body io.Reader, headers ...string) *http.Request {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, p.url+target, body)
	require.NoError(p.t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header[name] = append(req.Header[name], value)
	}
	return req
}

func (p *program) do(method, target, body string, headers ...string) reply {
	p.t.Helper()
	res, err := client.Do(p.request(method, target, strings.NewReader(body), headers...))
	require.NoError(p.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b), err}
}

func (p *program) get(target string, headers ...string) reply {
	p.t.Helper()
	return p.do("GET", target, "", headers...)
}

// raw sends bytes as they are and returns the answer's bytes.
func (p *program) raw(request string) string {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p.t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, request)
	require.NoError(p.t, err)
	b, err := io.ReadAll(conn)
	require.NoError(p.t, err)
	return string(b)
}

// halfClosed sends bytes, ends its side and returns what comes back.
func (p *program) halfClosed(request string) string {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p.t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(conn, request)
	require.NoError(p.t, err)
	require.NoError(p.t, conn.(*net.TCPConn).CloseWrite())
	b, _ := io.ReadAll(conn)
	return string(b)
}

func script(format string, args ...any) string {
	return "fprocess=sh -c '" + fmt.Sprintf(format, args...) + "'"
}
