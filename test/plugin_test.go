package test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// startAsking starts a gateway that asks an auth plugin, in front of behind,
// which runs the functions. Both variables for authentication are set, as in
// OpenFaaS' own files.
func startAsking(t *testing.T, behind *gatewayUp, plugin string, env ...string) *gatewayUp {
	t.Helper()
	dir := t.TempDir()
	p := start(t, dir, append([]string{
		"listen=127.0.0.1:0", "metrics_port=0", "debug=1",
		"functions_provider_url=" + behind.url,
		"secret_mount_path=" + filepath.Join(behind.dir, ".gatehound", "secrets"),
		"basic_auth=true", "auth_proxy_url=" + plugin,
	}, env...), "gateway")
	p.stderr.find(t, p, `the auth plugin at https?://127\.0\.0\.1:\d+ decides`)
	return &gatewayUp{program: p, dir: dir, url: p.stderr.find(t, p, `listening on (http://\S+),`)[1]}
}

// TestGatewayAsPlugin: one gateway decides for another, and runs its functions.
func TestGatewayAsPlugin(t *testing.T) {
	t.Parallel()
	judge := startUp(t, "", []string{"validate_forwarded=true", "debug=1"})
	require.NoError(t, os.WriteFile(filepath.Join(judge.dir, ".gatehound/iam/dev.yaml"), []byte(aliceMayDev), 0o600))
	front := startAsking(t, judge, judge.url+"/validate", "auth_pass_body=true")
	var as string
	eventually(t, func() bool {
		as = "Authorization: Bearer " + judge.apiToken(t, "alice")
		return get(t, front.url+"/system/namespace/dev", as).status != 403
	}, "the policy is never in force")

	require.Equal(t, 202, do(t, "POST", front.url+"/system/namespace/", `{"name":"dev","labels":{"openfaas":"1"}}`, as).status)
	deployed := do(t, "POST", front.url+"/system/functions",
		`{"service":"echo","namespace":"dev","image":"echo","envProcess":"cat","envVars":{"mode":"serializing"}}`, as)
	require.Equal(t, 202, deployed.status, deployed.body)
	eventually(t, func() bool { return do(t, "POST", front.url+"/function/echo.dev", "moo").body == "moo" }, "it never answers")
	listed := get(t, front.url+"/system/functions?namespace=dev", as, "X-Request-Id: one-for-both")
	require.Contains(t, listed.body, `"name":"echo"`)
	require.Equal(t, "one-for-both", listed.header.Get("X-Request-Id"))
	judge.stderr.find(t, judge.program, `path=/validate .*request_id=one-for-both`)
	front.stderr.find(t, front.program, `path=/system/functions .*request_id=one-for-both`)

	forged := []string{as, "X-Forwarded-Method: GET", "X-Forwarded-Uri: /system/namespace/dev", "x_forwarded_uri: /system/namespace/dev"}
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/system/info", "", 403},
		{"GET", "/system/functions", "", 403},
		{"DELETE", "/system/functions", `{"functionName":"env"}`, 403},
		{"DELETE", "/system/functions?namespace=dev", `{"functionName":"env","namespace":"openfaas-fn"}`, 400},
		{"POST", "/system/secrets", `{"name":"s","value":"hunter2"}`, 403},
		{"GET", "/system/nonsense", "", 404},
	} {
		a := do(t, c.method, front.url+c.path, c.body, forged...)
		require.Equal(t, c.status, a.status, "%s %s: %s", c.method, c.path, a.body)
	}
	stranger := get(t, front.url+"/system/info")
	require.Equal(t, 401, stranger.status)
	require.Len(t, stranger.header.Values("WWW-Authenticate"), 2)
	require.Equal(t, 401, get(t, front.url+"/system/info", "Authorization: Bearer "+judge.functionToken(t)).status)
	require.Equal(t, 200, get(t, front.url+"/system/info", judge.admin(t)).status)
	require.Equal(t, 404, get(t, front.url+"/validate", judge.admin(t)).status)

	judge.stderr.find(t, judge.program, `POST denied to another gateway .*action=Secret:Create .*subject=alice`)
	for _, g := range []*gatewayUp{judge, front} {
		require.NotContains(t, g.stderr.String(), "hunter2")
		require.NotContains(t, g.stderr.String(), "eyJ")
	}
}

// TestGatewayAsOpenFaaSPlugin: who asks says nothing of the request.
func TestGatewayAsOpenFaaSPlugin(t *testing.T) {
	t.Parallel()
	judge := startUp(t, "", []string{"port=" + freeport.Take()})
	require.NoError(t, os.WriteFile(filepath.Join(judge.dir, ".gatehound/iam/dev.yaml"), []byte(aliceMayDev), 0o600))
	front := startAsking(t, judge, judge.url+"/validate")
	require.Equal(t, 202, do(t, "POST", front.url+"/system/functions", `{"service":"echo","image":"echo","envProcess":"cat"}`, judge.admin(t)).status)
	a := get(t, front.url+"/system/namespace/dev", "Authorization: Bearer "+judge.apiToken(t, "alice"))
	require.Equal(t, 403, a.status)
	require.Contains(t, a.body, "want * on *")

	judge.cmd.Process.Signal(os.Interrupt)
	judge.wait(t)
	require.Equal(t, 502, get(t, front.url+"/system/info", judge.admin(t)).status)
	front.stderr.find(t, front.program, `ERR auth_proxy_url: dial tcp .*request_id=`)
}

// TestForeignPlugin is any other program, behind TLS.
func TestForeignPlugin(t *testing.T) {
	t.Parallel()
	behind := startUp(t, "", nil)
	plugin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-Uri") != "/system/info" || r.Header.Get("Cookie") != "session=1" {
			http.Redirect(w, r, "https://login.example.com/", http.StatusFound)
		}
	}))
	t.Cleanup(plugin.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: plugin.Certificate().Raw}), 0o600))
	front := startAsking(t, behind, plugin.URL, "SSL_CERT_FILE="+ca)
	require.Equal(t, 200, get(t, front.url+"/system/info", "Cookie: session=1").status)
	for _, path := range []string{"/system/info", "/system/functions"} {
		a := get(t, front.url+path, behind.admin(t))
		require.Equal(t, 302, a.status)
		require.Equal(t, "https://login.example.com/", a.header.Get("Location"))
	}
	require.Contains(t, get(t, front.url+"/function/env").body, "Http_Path=/", "function calls are no matter of the plugin")
}

// TestPluginIsToldNoMadeUpAddress: one that goes by where a request comes from is told
// that by us, also of who asks by the dashboard.
func TestPluginIsToldNoMadeUpAddress(t *testing.T) {
	t.Parallel()
	plugin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-For") != "10.0.0.1" { // the operators' network
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(plugin.Close)
	front := startAsking(t, startUp(t, "", nil), plugin.URL)
	within := "X-Forwarded-For: 10.0.0.1"
	require.Equal(t, 403, get(t, front.url+"/system/functions", within).status)
	form := do(t, "POST", front.url+"/ui/login", "user=a&password=b", within, "Content-Type: application/x-www-form-urlencoded")
	require.Equal(t, 401, form.status)
	require.Empty(t, form.header.Values("Set-Cookie"))
}
