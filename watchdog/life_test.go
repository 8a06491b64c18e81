package watchdog

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

func TestHealthAndLock(t *testing.T) {
	t.Parallel()
	healthcheck := func(dir string) (int, string) {
		cmd := exec.Command(fwatchdog, "-run-healthcheck")
		cmd.Env = []string{"TMPDIR=" + dir}
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	p := start(t, "fprocess=cat")
	lock := filepath.Join(p.dir, ".lock")
	require.FileExists(t, lock)
	code, _ := healthcheck(p.dir)
	require.Equal(t, 0, code)
	require.Equal(t, "OK", p.get("/_/health").body)
	for _, method := range []string{"POST", "PUT", "DELETE", "HEAD"} {
		require.Equal(t, 405, p.do(method, "/_/health", "").status)
		require.Equal(t, 405, p.do(method, "/_/ready", "").status)
	}
	require.Equal(t, 200, p.get("/_/ready").status)
	require.NoError(t, os.Remove(lock))
	require.Equal(t, 503, p.get("/_/health").status)
	require.Equal(t, 503, p.get("/_/ready").status)
	code, out := healthcheck(p.dir)
	require.Equal(t, 1, code)
	require.Equal(t, "unable to find lock file.\n", out)

	p = start(t, "fprocess=cat", "suppress_lock=true")
	require.NoFileExists(t, filepath.Join(p.dir, ".lock"))
	require.Equal(t, 200, p.get("/_/health").status)
}

// Unready first, then no new connections, then what is in flight, then the end.
func TestShutdown(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "healthcheck_interval=2s")...)
	pid, err := strconv.Atoi(p.get("/pid").body)
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.eventually(func() bool {
		_, err := os.Stat(filepath.Join(p.dir, ".lock"))
		return os.IsNotExist(err)
	}, "no lock file")
	require.Equal(t, 503, p.get("/_/health").status) // still listening
	require.Equal(t, 503, p.get("/_/ready").status)
	got := make(chan reply, 1)
	go func() { got <- p.get("/started") }()
	require.Equal(t, 0, p.exit())
	require.Equal(t, "finished", (<-got).body)
	require.True(t, dead(pid))
}

// What does not drain within write_timeout is cut off, in every mode.
func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{httpEnv(t, 0), {`fprocess=sh -c 'echo $$; exec sleep 300'`}} {
		p := start(t, append(env, "write_timeout=200ms", "healthcheck_interval=0", "exec_timeout=1m")...)
		res, err := client.Do(p.request("GET", "/events", nil))
		require.NoError(t, err)
		b := make([]byte, 5)
		_, err = io.ReadAtLeast(res.Body, b, 2)
		require.NoError(t, err)
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.Equal(t, 0, p.exit())
		p.logged("cut off after 200ms")
		_, err = io.ReadAll(res.Body)
		require.Error(t, err)
		res.Body.Close()
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := start(t, "mode=http", "upstream_url=unix:///nowhere", "healthcheck_interval=1h",
		script(`trap "" TERM; echo $$ > pid; sleep 300 & wait; sleep 300`))
	pidFile := filepath.Join(p.dir, "pid")
	p.eventually(func() bool { b, _ := os.ReadFile(pidFile); return len(b) > 0 }, "function's start")
	b, _ := os.ReadFile(pidFile)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.logged("Shutting down")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 1, p.exit())
	require.True(t, dead(pid))
}

func TestBadStart(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	taken := ln.Addr().String()
	_, port, _ := net.SplitHostPort(taken)
	for _, c := range []struct {
		name string
		env  []string
		want []string
	}{
		{"bad values", []string{"mode=htpp", "port=x", "exec_timeout=soon", "fprocess="},
			[]string{`mode="htpp"`, `port="x"`, `exec_timeout="soon"`, "fprocess"}},
		{"taken port", []string{"fprocess=cat", "listen=" + taken}, []string{"cannot listen on " + taken}},
		{"taken metrics port", []string{"fprocess=cat", "metrics_port=" + port}, []string{"cannot serve metrics"}},
		{"no such program", []string{"fprocess=/does/not/exist"}, []string{"cannot run the function"}},
		{"no name", []string{"fprocess=cat", "jwt_auth=true", "OPENFAAS_NAMESPACE=x"}, []string{"OPENFAAS_NAME"}},
		{"no namespace", []string{"fprocess=cat", "jwt_auth=true", "OPENFAAS_NAME=x"}, []string{"OPENFAAS_NAMESPACE"}},
		{"socket path is a file", []string{"fprocess=cat", "listen=unix:///etc/hostname"}, []string{"no socket"}},
	} {
		p := launch(t, c.env...)
		require.Equal(t, 1, p.exit(), c.name)
		for _, want := range c.want {
			require.Contains(t, p.stderr.String(), want, c.name)
		}
		require.NoFileExists(t, filepath.Join(p.dir, ".lock"), c.name)
		if len(c.want) == 1 && c.name != "no such program" && !strings.Contains(c.name, "name") {
			require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), c.name)
		}
	}
	out, err := exec.Command(fwatchdog, "-version").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "Version: ")
	require.Error(t, exec.Command(fwatchdog, "serve").Run())
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "w")
	stale, err := net.Listen("unix", socket)
	require.NoError(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()

	p := start(t, "fprocess=cat", "listen=unix://"+socket)
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	c := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	res, err := c.Post("http://w/", "", strings.NewReader("hello"))
	require.NoError(t, err)
	b, _ := io.ReadAll(res.Body)
	require.Equal(t, "hello", string(b))
	c.CloseIdleConnections()

	second := launch(t, "fprocess=cat", "listen=unix://"+socket)
	require.Equal(t, 1, second.exit())
	require.Contains(t, second.stderr.String(), "another server answers there")

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.NoFileExists(t, socket)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	p := start(t, "fprocess=cat", "metrics_port="+port)
	p.get("/")
	p.do("POST", "/", "x")
	p.do("BREW", "/", "")
	p.do("MADEUP", "/", "")
	p.get("/_/health")
	var text string
	p.eventually(func() bool {
		res, err := http.Get("http://127.0.0.1:" + port + "/metrics")
		require.NoError(t, err)
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		text = string(b)
		return strings.Contains(text, `http_requests_total{code="200",method="unknown"} 2`)
	}, "all counted")
	for _, want := range []string{
		`http_requests_total{code="200",method="get"} 1`, `http_requests_total{code="200",method="post"} 1`,
		`http_request_duration_seconds_bucket{code="200",method="get",le="10"} 1`,
		"http_requests_in_flight 0", "go_goroutines", "process_cpu_seconds_total",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, strings.ToLower(text), "madeup")
}

// Streams outlive write_timeout; a client that does not read does not.
func TestWriteTimeoutIsNotAStreams(t *testing.T) {
	t.Parallel()
	p := start(t, "write_timeout=200ms", script(`for i in 1 2 3 4; do echo $i; sleep 0.1; done`))
	r := p.get("/")
	require.NoError(t, r.err)
	require.Equal(t, "1\n2\n3\n4\n", r.body)

	p = start(t, "write_timeout=200ms", "fprocess=yes")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	p.logged(`GET / - 200 OK`)
}

// TestLockLink: another user of a shared temporary folder may have put a link
// where the lock file goes.
func TestLockLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(precious, []byte("precious"), 0o600))
	temp := filepath.Join(dir, "tmp")
	require.NoError(t, os.Mkdir(temp, 0o700))
	require.NoError(t, os.Symlink(precious, filepath.Join(temp, ".lock")))
	p := start(t, "fprocess=cat", "TMPDIR="+temp)
	require.Equal(t, 200, p.get("/_/health").status)
	data, err := os.ReadFile(precious)
	require.NoError(t, err)
	require.Equal(t, "precious", string(data))
}
