package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestUpstreamProvider puts a gateway in front of another one, which runs the
// functions and is a faas-provider to the first.
func TestUpstreamProvider(t *testing.T) {
	t.Parallel()
	behind := startUp(t, "", []string{"port=" + freeport.Take()}) // where nobody else listens when it has ended
	front := start(t, t.TempDir(), []string{
		"listen=127.0.0.1:0", "metrics_port=0",
		"functions_provider_url=" + behind.url,
		"secret_mount_path=" + filepath.Join(behind.dir, ".gatehound", "secrets"),
	}, "gateway")
	at := front.stderr.find(t, front, `listening on (http://\S+),`)[1]

	require.Equal(t, "OK\n", get(t, at+"/healthz").body)
	require.Contains(t, get(t, at+"/function/env/a%2Fb?q=%20").body, "Http_Query=q=%20\n")
	require.Equal(t, 404, get(t, at+"/function/nope").status)
	require.Equal(t, 401, get(t, at+"/function/hello").status)
	hello := get(t, at+"/function/hello/a%2Fb?q", "Authorization: Bearer "+behind.functionToken(t))
	require.Equal(t, "Hello! You sent GET /a%2Fb?q\n", hello.body)
	require.Len(t, hello.header.Values("X-Call-Id"), 1)

	// The development identity provider is not trusted outside of `up`.
	require.Equal(t, 404, get(t, at+"/dev-idp/.well-known/openid-configuration").status)

	behind.cmd.Process.Signal(os.Interrupt)
	behind.wait(t)
	require.Equal(t, 502, get(t, at+"/function/nope", "X-Call-Id: night").status)
	front.stderr.find(t, front, `ERR functions provider: .*call_id=night`)
}

// TestPlainGateway runs a gateway by its environment alone, on the state that
// an `up` left behind.
func TestPlainGateway(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	id := g.idToken(t, "--sub", "alice")
	g.cmd.Process.Signal(os.Interrupt)
	require.Zero(t, g.wait(t))

	stack := filepath.Join(g.dir, "stack.yml")
	require.NoError(t, os.WriteFile(stack, []byte("functions:\n  shout: {fprocess: tr a-z A-Z, environment: {mode: serializing}}\n"), 0o600))
	plain := start(t, g.dir, append([]string{"stack_file=" + stack, "system_issuer=https://gateway.example.com/"}, freePorts...), "gateway")
	at := plain.stderr.find(t, plain, `listening on (http://\S+),`)[1]
	require.Contains(t, get(t, at+"/.well-known/openid-configuration").body, `"issuer":"https://gateway.example.com"`)
	eventually(t, func() bool { return get(t, at+"/function/shout").status == 200 }, "never ready")

	a, body := (&gatewayUp{url: at}).exchange(t, id)
	require.Equal(t, 400, a.status)
	require.Contains(t, body["error_description"], "not a registered")
	require.Equal(t, 404, get(t, at+"/dev-idp/.well-known/openid-configuration").status)
}

// TestUpAfterPlainGateway starts the plain gateway first: the IAM folder is
// there then, but empty, and the commands that `up` prints have to work.
func TestUpAfterPlainGateway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := start(t, dir, freePorts, "gateway")
	plain.stderr.find(t, plain, `listening on (http://\S+),`)
	plain.cmd.Process.Signal(os.Interrupt)
	require.Zero(t, plain.wait(t))
	startUp(t, dir, nil).functionToken(t)
}

// TestGatewayMetrics checks upstream's names, and that random function names
// create no series.
func TestGatewayMetrics(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	g := startUp(t, "", []string{"metrics_port=" + port})
	get(t, g.url+"/function/env")
	get(t, g.url+"/function/hello")
	get(t, g.url+"/function/nope")
	g.functionToken(t)
	metrics := get(t, "http://127.0.0.1:"+port+"/metrics").body
	for _, line := range []string{
		`gateway_function_invocation_total{code="200",function_name="env.openfaas-fn"} 1`,
		`gateway_function_invocation_total{code="401",function_name="hello.openfaas-fn"} 1`,
		`gateway_function_invocation_started{function_name="env.openfaas-fn"} 1`,
		`gateway_functions_seconds_count{code="200",function_name="env.openfaas-fn"} 1`,
		`gateway_service_count{function_name="upper.openfaas-fn"} 1`,
		`gateway_token_exchange_total{result="ok"} 1`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
	require.NotContains(t, metrics, "nope")
	require.Equal(t, "OK", strings.TrimSpace(get(t, "http://127.0.0.1:"+port+"/healthz").body))
}

// TestCallHeaders checks what the gateway adds to a call and to its answer.
func TestCallHeaders(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	a := get(t, g.url+"/function/env", "X-Call-Id: mine", "X-Start-Time: 1", "X-Forwarded-For: 203.0.113.9")
	require.Equal(t, []string{"mine"}, a.header.Values("X-Call-Id"))
	require.Regexp(t, `^\d{19}$`, a.header.Get("X-Start-Time"))
	host := strings.TrimPrefix(g.url, "http://")
	for _, line := range []string{
		"Http_X_Call_Id=mine",
		"Http_X_Start_Time=" + a.header.Get("X-Start-Time"),
		"Http_X_Forwarded_For=203.0.113.9, 127.0.0.1",
		"Http_X_Forwarded_Host=" + host,
		"Http_X_Forwarded_Proto=http",
	} {
		require.Contains(t, a.body, line+"\n")
	}
	// Whoever answers, there is one Date.
	for _, path := range []string{"/function/env", "/function/hello", "/function/nope", "/healthz", "/function/env/_/health"} {
		require.Len(t, get(t, g.url+path).header.Values("Date"), 1, path)
	}
	require.Len(t, get(t, g.url+"/function/hello", "Authorization: Bearer "+g.functionToken(t)).header.Values("Date"), 1)

	// The gateway's own settings are not the functions'.
	require.NotContains(t, a.body, "data_dir")
	require.NotContains(t, a.body, "basic-auth")
}
