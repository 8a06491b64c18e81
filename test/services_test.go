package test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/stretchr/testify/require"
)

// oneLine is a log provider as faas-provider has them made.
type oneLine struct{}

func (oneLine) Query(_ context.Context, r logs.Request) (<-chan logs.Message, error) {
	lines := make(chan logs.Message, 1)
	lines <- logs.Message{Name: r.Name, Namespace: r.Namespace, Text: "kept elsewhere"}
	close(lines)
	return lines, nil
}

// TestOtherServices has a gateway that asks one server for functions, one for
// logs, and a third for counts, and is told of a fourth that it does not know.
func TestOtherServices(t *testing.T) {
	t.Parallel()
	behind := startUp(t, "", nil)
	logsProvider := httptest.NewServer(logs.NewLogHandlerFunc(oneLine{}, time.Minute))
	t.Cleanup(logsProvider.Close)
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"function_name":"env.openfaas-fn"},"value":[1435781451.781,"41"]}]}}`)
	}))
	t.Cleanup(prometheus.Close)
	host, port, err := net.SplitHostPort(prometheus.Listener.Addr().String())
	require.NoError(t, err)
	front := start(t, t.TempDir(), []string{
		"listen=127.0.0.1:0", "metrics_port=0", "functions_provider_url=" + behind.url, "logs_provider_url=" + logsProvider.URL,
		"faas_prometheus_host=" + host, "faas_prometheus_port=" + port,
		"secret_mount_path=" + filepath.Join(behind.dir, ".gatehound", "secrets"), "async=true", "faas_nats_address=nats",
	}, "gateway")
	at := front.stderr.find(t, front, `listening on (http://\S+),`)[1]
	front.stderr.find(t, front, `WRN async, faas_nats_address: no effect`)
	admin := behind.admin(t)
	require.Contains(t, get(t, at+"/system/logs?name=env", admin).body, `"text":"kept elsewhere"`)
	require.Equal(t, 404, get(t, at+"/system/logs?name=nope", admin).status)
	require.Contains(t, get(t, at+"/system/function/env", admin).body, `"invocationCount":41`)
	require.Equal(t, 501, do(t, "POST", at+"/async-function/env", "").status)
}

// TestStateIsGone: the caller and the log are told what cannot be written.
func TestStateIsGone(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	state := filepath.Join(g.dir, ".gatehound", "functions")
	require.NoError(t, os.RemoveAll(state))
	a := do(t, "POST", g.url+"/system/scale-function/env", `{"replicas":2}`, g.admin(t))
	require.Equal(t, 500, a.status)
	require.Regexp(t, `^function env.openfaas-fn cannot be kept: open \S+/functions/\S+: no such file or directory\n$`, a.body)
	g.stderr.find(t, g.program, `ERR function env.openfaas-fn cannot be kept: open \S+: no such file or directory`)
	require.Equal(t, 200, get(t, g.url+"/function/env").status)
}
