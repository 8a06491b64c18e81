package watchdog

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

func scrape(t *testing.T, port int) string {
	t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(b)
}

func TestAuthMetrics(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.down.Store(true)
	port := freePort(t)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev",
		fmt.Sprintf("metrics_port=%d", port))
	good := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour)
	p.get("/", good)
	text := scrape(t, port)
	require.Contains(t, text, "gatehound_jwks_age_seconds +Inf\n")
	require.Contains(t, text, `gatehound_auth_total{result="unavailable"} 1`+"\n")
	require.Contains(t, text, `gatehound_auth_total{result="ok"} 0`+"\n")
	i.down.Store(false)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	p.get("/", good)
	p.get("/", good)
	p.get("/")
	p.get("/", "Authorization: Bearer nonsense")
	p.get("/", "Authorization: Bearer "+i.token(t, "dev:other", time.Hour))
	text = scrape(t, port)
	for result, n := range map[string]int{"ok": 2, "no_bearer": 1, "invalid": 1, "forbidden": 1, "unavailable": 1} {
		require.Contains(t, text, fmt.Sprintf("gatehound_auth_total{result=%q} %d\n", result, n))
	}
	age := regexp.MustCompile(`(?m)^gatehound_jwks_age_seconds (\S+)$`).FindStringSubmatch(text)
	require.NotNil(t, age)
	seconds, err := strconv.ParseFloat(age[1], 64)
	require.NoError(t, err)
	require.Greater(t, seconds, 0.0)
	require.Less(t, seconds, 60.0)
	require.Regexp(t, `(?m)^gatehound_build_info\{revision="[^"]+",version="[^"]+"\} 1$`, text)
	require.NotContains(t, text, "nonsense")
}

func TestFailureMetrics(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	p := start(t, httpEnv(t, 0, fmt.Sprintf("metrics_port=%d", port))...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	require.NotContains(t, scrape(t, port), "gatehound_auth_total", "without jwt_auth")
	p.get("/slow", "X-Timeout: 10ms")
	p.raw("CONNECT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	io.WriteString(conn, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
	p.eventually(func() bool { return strings.Contains(p.stdout.String(), "slow call began") }, "a call in flight")
	conn.Close()
	p.logged("GET /hang - 499 ")
	text := scrape(t, port)
	for cause, n := range map[string]int{"timeout": 1, "client_gone": 1, "bad_request": 1, "unreachable": 0, "failed": 0} {
		require.Contains(t, text, fmt.Sprintf("gatehound_upstream_errors_total{cause=%q} %d\n", cause, n))
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		nil: "ok", auth.ErrNoBearer: "no_bearer", auth.ErrForbidden: "forbidden", auth.ErrUnavailable: "unavailable",
		fmt.Errorf("%w: x", auth.ErrInvalidToken): "invalid", errors.New("x"): "invalid",
	} {
		require.Equal(t, want, authResult(err))
	}
	for err, want := range map[error]string{
		executor.ErrTimeout: "timeout", reverseproxy.ErrTimeout: "timeout", reverseproxy.ErrClientGone: "client_gone",
		reverseproxy.ErrBadBody: "bad_request", reverseproxy.ErrBodyTooLarge: "bad_request",
		reverseproxy.ErrUnreachable: "unreachable", executor.ErrFailed: "failed", errors.New("x"): "failed",
	} {
		status, _ := executor.Status(err)
		require.Equal(t, want, failureCause(err, status), err)
	}
}
