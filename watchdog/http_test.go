package watchdog

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// httpEnv is the environment of http mode with the test function, which listens
// after delay.
func httpEnv(t *testing.T, delay time.Duration, env ...string) []string {
	address := "127.0.0.1:" + freeport.Take()
	return append([]string{
		"mode=http", "fprocess=" + os.Args[0], "upstream_url=http://" + address,
		fmt.Sprintf("%s=%s,tcp,%s", functionVariable, delay, address),
	}, env...)
}

func TestHTTPMode(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "log_callid=1", "log_buffer_size=10")...)

	r := p.get("/a%2Fb/c?x=1&token=geheim", "x-call-id: id-1")
	require.Equal(t, 200, r.status)
	require.Equal(t, "GET /a%2Fb/c?x=1&token=geheim length=0 body=0 <nil>", r.body)
	require.Regexp(t, `^\d+\.\d{6}$`, r.header.Get("X-Duration-Seconds"))
	p.logged(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d GET /a%2Fb/c\?x=1&token=\[hidden\] - 200 OK - ContentLength: 51B \(\d+\.\d{4}s\) \[id-1\]$`)
	require.NotContains(t, p.stderr.String(), "geheim")

	r = p.get("/redirect")
	require.Equal(t, 302, r.status)
	require.Equal(t, "/elsewhere", r.header.Get("Location"))
	p.logged(`GET /redirect - 302 Found - ContentLength: .*\[none\]`)

	p.get("/log")
	// The request's own line may come between the function's.
	own := regexp.MustCompile(`(?m)^.* GET /log - 200 OK .*\n`)
	split := regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d stderr: x{10}\n[^\n]+ stderr: x{10}\n[^\n]+ stderr: x{5}\n`)
	p.eventually(func() bool { return split.MatchString(own.ReplaceAllString(p.stderr.String(), "")) }, split.String())
	stdout := regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d stdout: to stdout$`)
	p.eventually(func() bool { return stdout.MatchString(p.stdout.String()) }, stdout.String()) // another pipe than stderr's

	p.get("/probed", "User-Agent: kube-probe/1.33")
	p.get("/after")
	p.logged(`GET /after`)
	require.NotContains(t, p.stderr.String(), "/probed")

	// Event by event, while the function keeps the answer open.
	res, err := client.Do(p.request("GET", "/events", nil))
	require.NoError(t, err)
	_, err = io.ReadFull(res.Body, make([]byte, len("data: 0\n\n")*3))
	require.NoError(t, err)
	res.Body.Close()
}

func TestHTTPModeBuffersBodies(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"http_buffer_req_body=true": "length=3 body=3", "buffer_http=1": "length=3 body=3", "buffer_http=0": "length=-1 body=3",
	} {
		p := start(t, httpEnv(t, 0, variable)...)
		res, err := client.Do(p.request("POST", "/", io.MultiReader(strings.NewReader("abc"))))
		require.NoError(t, err)
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		require.Contains(t, string(b), want, variable)
	}
}

func TestHTTPModeUpstreams(t *testing.T) {
	t.Parallel()
	env := httpEnv(t, 0)
	env[2] += "/prefix/"
	p := start(t, append(env, "prefix_logs=false")...)
	require.Contains(t, p.get("/x?y").body, "GET /prefix/x?y ")
	require.Contains(t, p.raw("GET http://h/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "GET /prefix/x ")

	dir, err := os.MkdirTemp("", "s") // t.TempDir() is too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "f")
	p = start(t, "mode=http", "fprocess="+os.Args[0], "http_upstream_url=unix://"+socket, "upstream_url=http://127.0.0.1:1",
		functionVariable+"=0s,unix,"+socket, "prefix_logs=false")
	require.Contains(t, p.get("/x").body, "GET /x ")
	p.get("/log")
	p.eventually(func() bool { return strings.Contains("\n"+p.stdout.String(), "\nto stdout\n") }, "plain log line")
}

func TestColdStart(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 400*time.Millisecond)...)
	require.Equal(t, 503, p.get("/_/ready").status)
	require.Equal(t, 200, p.get("/_/health").status)
	require.Equal(t, 200, p.get("/early").status) // waits
	require.Equal(t, 200, p.get("/_/ready").status)

	p = start(t, httpEnv(t, time.Hour, "exec_timeout=100ms")...)
	r := p.get("/")
	require.Equal(t, 504, r.status)
	require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
}

func TestHTTPModeTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "exec_timeout=1s")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	for _, header := range []string{"X-Timeout: 1h", "X-Timeout: 50ms"} {
		r := p.get("/slow", header)
		require.Equal(t, 504, r.status)
		require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
		require.NotEmpty(t, r.header.Get("X-Duration-Seconds"))
	}
	require.Equal(t, 200, p.get("/").status) // the function lives on
}

func TestFunctionEndsByItself(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 7} {
		p := start(t, httpEnv(t, 0)...)
		inFlight := make(chan *http.Response, 1)
		go func() {
			res, err := client.Do(p.request("GET", "/hang", nil))
			if err == nil {
				res.Body.Close()
			}
			inFlight <- res
		}()
		p.eventually(func() bool { return strings.Contains(p.stdout.String(), "slow call began") }, "a call in flight")
		go client.Do(p.request("GET", fmt.Sprintf("/exit/%d", code), nil))
		require.Equal(t, 1, p.exit())
		require.Contains(t, p.stderr.String(), "process ended by itself: "+map[int]string{0: "exit status 0", 7: "function failed: exit status 7"}[code])
		require.Contains(t, p.stderr.String(), "last words")
		res := <-inFlight
		require.NotNil(t, res, "the caller in flight is told")
		require.Equal(t, 500, res.StatusCode)
		require.NoFileExists(t, filepath.Join(p.dir, ".lock"))
	}
}

func TestKilledWatchdogLeavesNoFunction(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux' parent death signal")
	}
	p := start(t, httpEnv(t, 0)...)
	pid, err := strconv.Atoi(p.get("/pid").body)
	require.NoError(t, err)
	require.False(t, dead(pid))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
	p.eventually(func() bool { return dead(pid) }, "function's end")
}

func TestReadyPath(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "ready_path=/notready")...)
	p.eventually(func() bool { return p.get("/_/ready").status != 503 }, "function's start")
	r := p.get("/_/ready")
	require.Equal(t, 418, r.status)
	require.Equal(t, "not yet\n", r.body)

	p = start(t, "ready_path=/check", script(`test $Http_Path = /check && echo fine`))
	require.Equal(t, "fine\n", p.get("/_/ready").body)
}

// TestReadyPathPassesNothingOn: nobody needs a token for /_/ready, so it must
// not carry a call to the function.
func TestReadyPathPassesNothingOn(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "ready_path=/headers")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	r := p.get("/_/ready?admin=1", "X-Secret: attack", "Authorization: Bearer attack", "Cookie: attack", "Content-Type: attack")
	require.Equal(t, 200, r.status)
	require.True(t, strings.HasPrefix(r.body, "GET /headers\n"), r.body)
	require.NotContains(t, r.body, "attack")
	require.Equal(t, 400, p.do("GET", "/_/ready", "attack").status)

	// A connection with such a body on it is not read on.
	raw := p.raw("GET /_/ready HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nattack\r\n0\r\n\r\n" +
		"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, 1, strings.Count(raw, "HTTP/1.1 "), raw)

	fork := start(t, "ready_path=/x", "fprocess=cat")
	require.Equal(t, 400, fork.do("GET", "/_/ready", "attack").status)
	fork = start(t, "ready_path=/x", "fprocess=env")
	require.NotContains(t, fork.get("/_/ready?attack", "X-Secret: attack").body, "attack")
}
