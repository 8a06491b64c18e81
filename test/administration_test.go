package test

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// aliceMayDev grants alice everything in the namespace dev.
const aliceMayDev = `apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: dev-admin, namespace: openfaas}
spec:
  statement:
  - {sid: 1-dev, effect: Allow, action: ["*"], resource: ["dev:*"]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: dev-admin, namespace: openfaas}
spec:
  policy: [dev-admin]
  principal: {"jwt:sub": [alice]}
`

func (g *gatewayUp) apiToken(t *testing.T, subject string) string {
	t.Helper()
	a, body := g.exchange(t, g.idToken(t, "--sub", subject))
	require.Equal(t, 200, a.status, a.body)
	return body["access_token"].(string)
}

// TestAPITokenAdministers takes alice from her login to a function of her own,
// and no further.
func TestAPITokenAdministers(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, ".gatehound/iam/dev.yaml"), []byte(aliceMayDev), 0o600))
	var token string
	eventually(t, func() bool {
		token = g.apiToken(t, "alice")
		return get(t, g.url+"/system/namespace/dev", "Authorization: Bearer "+token).status != 403
	}, "the policy is never in force")
	as := "Authorization: Bearer " + token

	require.Equal(t, 202, do(t, "POST", g.url+"/system/namespace/", `{"name":"dev","labels":{"openfaas":"1"}}`, as).status)
	require.Equal(t, 202, do(t, "POST", g.url+"/system/secrets", `{"name":"key","namespace":"dev","value":"hunter2"}`, as).status)
	deployed := do(t, "POST", g.url+"/system/functions",
		`{"service":"echo","namespace":"dev","image":"echo","envProcess":"cat","envVars":{"mode":"serializing"},"secrets":["key"]}`, as)
	require.Equal(t, 202, deployed.status, deployed.body)
	eventually(t, func() bool { return do(t, "POST", g.url+"/function/echo.dev", "moo").body == "moo" }, "it never answers")
	require.Equal(t, `["dev"]`, get(t, g.url+"/system/namespaces", as).body)
	list := get(t, g.url+"/system/functions?namespace=dev", as)
	require.Contains(t, list.body, `"name":"echo"`)
	require.NotContains(t, list.body, `"invocationCount":0`)
	require.Contains(t, list.body, `"invocationCount":`)

	// The log is followed while the function is called.
	res := send(t, t.Context(), "GET", g.url+"/system/logs?name=echo&namespace=dev&follow=true", nil, as)
	require.Equal(t, 200, res.StatusCode)
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, `"namespace":"dev"`)
	res.Body.Close()

	for _, c := range []struct{ method, path, body string }{
		{"GET", "/system/info", ""},
		{"GET", "/system/functions", ""},
		{"GET", "/system/secrets", ""},
		{"DELETE", "/system/functions", `{"functionName":"env"}`},
		{"POST", "/system/scale-function/env", `{"serviceName":"env","replicas":0}`},
		{"POST", "/system/functions", `{"service":"echo","image":"echo","envProcess":"cat"}`},
		{"DELETE", "/system/namespace/openfaas-fn", ""},
	} {
		a := do(t, c.method, g.url+c.path, c.body, as)
		require.Equal(t, 403, a.status, "%s %s: %s", c.method, c.path, a.body)
	}
	require.Equal(t, 400, do(t, "DELETE", g.url+"/system/functions?namespace=dev", `{"functionName":"env","namespace":"openfaas-fn"}`, as).status)
	require.Equal(t, 401, get(t, g.url+"/system/functions?namespace=dev", "Authorization: Bearer "+g.idToken(t, "--sub", "alice")).status)

	require.Equal(t, 202, do(t, "DELETE", g.url+"/system/functions", `{"functionName":"echo","namespace":"dev"}`, as).status)
	require.Equal(t, 404, get(t, g.url+"/function/echo.dev").status)
	g.stderr.find(t, g.program, `POST denied .*action=Function:Create .*subject=alice`)
	require.NotContains(t, g.stderr.String(), "hunter2")
	require.NotContains(t, g.stderr.String(), token)
}

// TestBasicAuthOff starts gateways with basic_auth=false.
func TestBasicAuthOff(t *testing.T) {
	t.Parallel()
	off := append([]string{"basic_auth=false"}, freePorts...)

	t.Run("open without objects", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for range 2 { // announced each time
			p := start(t, dir, off, "gateway")
			url := p.stderr.find(t, p, `listening on (http://\S+),`)[1]
			p.stderr.find(t, p, `WRN basic_auth=false and no IAM objects in \S+: everybody`)
			require.Equal(t, 200, get(t, url+"/system/functions").status)
			require.Equal(t, 403, get(t, url+"/system/functions", "Origin: http://evil.test").status)
			require.NoFileExists(t, filepath.Join(dir, ".gatehound/secrets/basic-auth-password"))
			p.cmd.Process.Signal(os.Interrupt)
			require.Zero(t, p.wait(t))
		}
	})
	t.Run("refused beyond loopback", func(t *testing.T) {
		t.Parallel()
		p := start(t, t.TempDir(), []string{"basic_auth=false", "port=0", "metrics_port=0",
			"functions_provider_url=http://127.0.0.1:1", "system_issuer=http://gateway.test"}, "gateway")
		require.Equal(t, 1, p.wait(t))
		require.Contains(t, p.stderr.String(), "set listen=127.0.0.1:8080, or iam_dir or iam_store")
	})
	t.Run("tokens alone with iam_dir", func(t *testing.T) {
		t.Parallel()
		p := start(t, t.TempDir(), append([]string{"iam_dir=" + t.TempDir()}, off...), "gateway")
		url := p.stderr.find(t, p, `listening on (http://\S+),`)[1]
		a := get(t, url+"/system/functions", basicAuth("admin", ""))
		require.Equal(t, http.StatusUnauthorized, a.status)
		require.Equal(t, []string{`Bearer realm="Restricted"`}, a.header.Values("WWW-Authenticate"))
		require.NotContains(t, p.stderr.String(), "everybody")
	})
	t.Run("tokens alone in up", func(t *testing.T) {
		t.Parallel()
		g := startUp(t, "", []string{"basic_auth=false"})
		require.Equal(t, 401, get(t, g.url+"/system/functions").status)
		require.Equal(t, 403, get(t, g.url+"/system/functions", "Authorization: Bearer "+g.apiToken(t, "alice")).status, "the sample grants invoking alone")
		require.NotContains(t, g.stdout.String(), "admin password")
	})
}
