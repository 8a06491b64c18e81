package watchdog

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// contract lists what existing function images and their operators rely on,
// with the tests on the built program that fail when it breaks.
var contract = []struct{ row, tests string }{
	{"fprocess, function_process", "TestCommand TestBadStart"},
	{"mode", "TestHTTPMode TestForkModes TestStaticMode TestDefaults TestBadStart"},
	{"upstream_url, http_upstream_url", "TestHTTPModeUpstreams"},
	{"port", "TestDefaults TestPort TestBadStart"},
	{"read_timeout", "TestDefaults TestReadTimeout"},
	{"write_timeout", "TestDefaults TestWriteTimeoutIsNotAStreams TestHijackedAnswersHaveTheWriteDeadline"},
	{"exec_timeout", "TestDefaults TestExecTimeout TestHTTPModeTimeout TestWholeSeconds"},
	{"healthcheck_interval", "TestDefaults TestShutdown"},
	{"content_type", "TestDefaults TestForkModes"},
	{"http_buffer_req_body, buffer_http", "TestHTTPModeBuffersBodies"},
	{"max_inflight", "TestDefaults TestMaxInflight TestHijackedAnswersHoldASlot"},
	{"ready_path", "TestReadyPath TestReadyPathPassesNothingOn"},
	{"static_path", "TestStaticMode"},
	{"suppress_lock", "TestHealthAndLock"},
	{"prefix_logs", "TestHTTPMode TestHTTPModeUpstreams"},
	{"log_buffer_size", "TestHTTPMode TestLogBufferSize"},
	{"log_callid, log_call_id", "TestHTTPMode TestDefaults TestCallIDAlias"},
	{"jwt_auth", "TestFunctionTokens TestNoKeysYet TestAuthComesBeforeTheLimit"},
	{"jwt_auth_debug", "TestFunctionTokens TestAuthority"},
	{"jwt_auth_local", "TestAuthority"},
	{"names are lower case", "TestCommand"},
	{"metrics_port", "TestDefaults TestMetrics"},

	{"lock file", "TestHealthAndLock TestShutdown TestLockLink"},
	{"-version, -run-healthcheck", "TestBadStart TestHealthAndLock"},

	{"/_/health", "TestHealthAndLock TestShutdown"},
	{"/_/ready", "TestHealthAndLock TestMaxInflight TestColdStart TestReadyPath"},
	{"any other verb and path", "TestEverythingElse"},
	{"X-Duration-Seconds", "TestHTTPMode TestForkModes"},
	{"X-OpenFaaS-Internal: of-watchdog, 500 and 504", "TestUnreachableFunction TestHTTPModeTimeout TestExecTimeout"},
	{"429", "TestMaxInflight"},
	{"X-Timeout", "TestExecTimeout TestHTTPModeTimeout"},
	{"redirects", "TestHTTPMode"},
	{"streams and upgrades", "TestHTTPMode TestStreamsAreNotCut TestHijackedAnswersHoldASlot"}, // and test.TestHops
	{"environment of the fork modes", "TestForkModes"},
	{"serializing and streaming", "TestForkModes TestStreamingIsFullDuplex TestStreamingLargeBody"},
	{"access log", "TestHTTPMode TestDefaults"},

	{"metrics", "TestMetrics"},
	{"function tokens: 401, 403", "TestFunctionTokens"},
	{"namespace of the service account", "TestNamespaceOfTheServiceAccount"},
}

// TestContract: the list names tests that exist.
func TestContract(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var source strings.Builder
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		source.Write(b)
	}
	for _, c := range contract {
		for _, test := range strings.Fields(c.tests) {
			require.Contains(t, source.String(), "\nfunc "+test+"(t *testing.T)", c.row)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=false", `function_process=printf "%s|" 'a  b' c\ d`, "FUNCTION_PROCESS=false", "MODE=http")
	r := p.get("/")
	require.Equal(t, 200, r.status)
	require.Equal(t, "a  b|c d|", r.body)
}

// TestDefaults: what holds when nothing but the command is set.
func TestDefaults(t *testing.T) {
	t.Parallel()
	// The ports may be taken here; the message names them all the same.
	p := launch(t, "fprocess=cat", "listen=", "healthcheck_interval=", "metrics_port=0")
	p.logged(`Serving mode streaming on \S*:8080,.* timeouts: read 30s, write 30s, exec 30s, health 30s|cannot listen on :8080`)
	p = launch(t, "fprocess=cat", "metrics_port=")
	p.eventually(func() bool {
		res, err := http.Get("http://127.0.0.1:8081/metrics")
		if err == nil {
			res.Body.Close()
		}
		return err == nil || strings.Contains(p.stderr.String(), ":8081")
	}, "metrics on 8081")
	p = launch(t, "fprocess=cat", "healthcheck_interval=", "write_timeout=7s", "exec_timeout=5")
	p.logged(`timeouts: read 30s, write 7s, exec 5s, health 7s`)

	p = start(t, "fprocess=cat")
	var open []*io.PipeWriter
	for range 20 { // max_inflight is off
		r, w := io.Pipe()
		go io.WriteString(w, "x")
		res, err := client.Do(p.request("POST", "/held", r))
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, 200, res.StatusCode)
		require.Equal(t, "application/octet-stream", res.Header.Get("Content-Type"))
		open = append(open, w)
	}
	for _, w := range open {
		w.Close()
	}
	require.Equal(t, 200, p.get("/last").status)
	p.logged(`(?m)GET /last - 200 OK - ContentLength: 0B \(\d\.\d{4}s\)$`)
}

func TestPort(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	p := launch(t, "fprocess=cat", "listen=", "port="+port)
	p.url = "http://127.0.0.1:" + port
	p.logged("Serving mode streaming on ")
	require.Equal(t, "x", p.do("POST", "/", "x").body)
}

// TestReadTimeout: a request that does not come to its end.
func TestReadTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat", "read_timeout=200ms")
	for _, request := range []string{
		"", "GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		b, err := io.ReadAll(conn)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open: %q", request)
		require.False(t, strings.HasSuffix(string(b), "0\r\n\r\n"), "a whole answer to half a request: %q", b)
	}
}

func TestWholeSeconds(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=sleep 300", "exec_timeout=1")
	began := time.Now()
	require.Equal(t, 504, p.get("/").status)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
}

func TestLogBufferSize(t *testing.T) {
	t.Parallel()
	longest := func(p *program) int {
		p.get("/")
		n := 0
		p.eventually(func() bool {
			all := 0
			for _, run := range regexp.MustCompile("x{4}x+").FindAllString(p.stderr.String(), -1) {
				n, all = max(n, len(run)), all+len(run)
			}
			return all == 70000
		}, "the whole output in the log")
		return n
	}
	long := script(`head -c 70000 /dev/zero | tr "\\0" x >&2`)
	require.Equal(t, 65536, longest(start(t, long)))
	require.Equal(t, 70000, longest(start(t, long, "log_buffer_size=-1")))
}

func TestCallIDAlias(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat", "log_call_id=true")
	p.get("/", "X-Call-Id: id-2")
	p.logged(`GET / - 200 OK - ContentLength: 0B \(\d\.\d{4}s\) \[id-2\]\n`)
}

// TestAuthority: where the keys come from unless jwt_auth_authority says.
func TestAuthority(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{
		"jwt_auth_local=true":  "http://127.0.0.1:8000/.well-known/openid-configuration",
		"jwt_auth_local=false": "http://gateway.openfaas:8080/.well-known/openid-configuration",
	} {
		p := start(t, "fprocess=cat", "jwt_auth=1", "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", env)
		require.Equal(t, 401, p.get("/").status)
		require.NotContains(t, p.stderr.String(), "Refused with")
		p.logged(regexp.QuoteMeta(want))
	}
	p := start(t, "fprocess=cat", "jwt_auth=1", "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", "jwt_auth_authority=http://127.0.0.1:1", "jwt_auth_debug=1")
	require.Equal(t, 401, p.get("/").status)
	p.logged("Refused with 401")
}

func TestEverythingElse(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0)...)
	for _, verb := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"/", "/_/", "/_/other", "/metrics", "/healthz", "/_/health/x"} {
			require.True(t, strings.HasPrefix(p.do(verb, path, "").body, verb+" "+path+" "), verb+path)
		}
	}
}

func TestUnreachableFunction(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0)...)
	r := p.get("/drop")
	require.Equal(t, 500, r.status)
	require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
	require.NotEmpty(t, r.header.Get("X-Duration-Seconds"))
	require.Equal(t, 200, p.get("/").status)
}
