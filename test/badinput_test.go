package test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBadConfiguration starts the gateway with what cannot work: it ends with
// exit code 1 and says all that is wrong.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())

	cases := []struct {
		name  string
		env   []string
		args  []string
		files map[string]string
		says  []string
	}{
		{
			name: "several bad values at once",
			env:  []string{"port=http", "read_timeout=soon", "debug=perhaps", "system_issuer=gateway", "log_encoding=xml", "function_namespace=Dev"},
			args: []string{"up"},
			says: []string{`port="http"`, `read_timeout="soon"`, `debug="perhaps"`, `system_issuer="gateway"`, `log_encoding="xml"`, `function_namespace="Dev"`},
		},
		{name: "taken port", env: []string{"port=" + takenPort, "metrics_port=0"}, args: []string{"up"}, says: []string{"127.0.0.1:" + takenPort + " is taken", "set port"}},
		{name: "taken metrics port", env: []string{"port=0", "metrics_port=" + takenPort}, args: []string{"up"}, says: []string{"127.0.0.1:" + takenPort + " is taken", "set metrics_port"}},
		{name: "not loopback", env: []string{"listen=0.0.0.0:0"}, args: []string{"up"}, says: []string{`listen="0.0.0.0:0"`, "loopback"}},
		{name: "no issuer beyond loopback", env: []string{"functions_provider_url=http://127.0.0.1:9"}, says: []string{"system_issuer"}},
		{name: "password in a URL is not repeated", env: []string{"system_issuer=https://user:hunter2@example.com"}, says: []string{"system_issuer", "without credentials"}},
		{name: "no stack file", env: freePorts, args: []string{"up", "-f", "missing.yml"}, says: []string{"missing.yml"}},
		{
			name: "YAML syntax", env: freePorts, args: []string{"up", "-f", "stack.yml"},
			files: map[string]string{"stack.yml": "functions:\n  a:\n    fprocess: [\n"},
			says:  []string{"stack.yml", "line 3"},
		},
		{
			name: "unknown field", env: freePorts, args: []string{"up", "-f", "stack.yml"},
			files: map[string]string{"stack.yml": "functions:\n  a:\n    fprocess: cat\n    enviroment: {jwt_auth: true}\n"},
			says:  []string{"stack.yml", "line 4", "enviroment"},
		},
		{
			name: "bad names", env: freePorts, args: []string{"up", "-f", "stack.yml"},
			files: map[string]string{"stack.yml": "functions:\n  A_b: {fprocess: cat}\n  c: {fprocess: cat, namespace: ../x}\n"},
			says:  []string{`"A_b"`, `"../x"`},
		},
		{
			name: "environment of functions", env: freePorts, args: []string{"up", "-f", "stack.yml"},
			files: map[string]string{"stack.yml": "functions:\n  a: {fprocess: cat, environment: {jwt_auth: on, mode: htpp}}\n  b: {image: b}\n"},
			says:  []string{"function a.openfaas-fn", `jwt_auth="on"`, `mode="htpp"`, "function b.openfaas-fn", `fprocess=""`},
		},
		{name: "no functions", env: freePorts, args: []string{"up", "-f", "stack.yml"}, files: map[string]string{"stack.yml": ""}, says: []string{"stack.yml", "no functions"}},
		{name: "data_dir is a file", env: append([]string{"data_dir=file"}, freePorts...), args: []string{"up"}, files: map[string]string{"file": ""}, says: []string{"data_dir"}},
		{name: "missing IAM folder", env: append([]string{"iam_dir=nowhere"}, freePorts...), says: []string{"iam_dir", "nowhere"}},
		{name: "missing key", env: append([]string{"issuer_key_path=nowhere.key"}, freePorts...), says: []string{"nowhere.key"}},
		{name: "key that others read", env: append([]string{"issuer_key_path=open.key"}, freePorts...), files: map[string]string{"open.key": "x"}, says: []string{"open.key", "chmod"}},
		{name: "folder without keys", env: append([]string{"issuer_key_path=."}, freePorts...), says: []string{"issuer_key_path", "at least one file", ".pem"}},
		{name: "folder with a bad key", env: append([]string{"issuer_key_path=."}, freePorts...), files: map[string]string{"open.pem": "x"}, says: []string{"issuer_key_path", "open.pem", "chmod"}},
		{name: "CA bundle without a certificate", env: append([]string{"ca_bundle_path=ca.pem"}, freePorts...), files: map[string]string{"ca.pem": "hunter2"}, says: []string{"ca_bundle_path: ca.pem: no certificate in it"}},
		{name: "missing CA bundle", env: append([]string{"ca_bundle_path=nowhere.pem"}, freePorts...), says: []string{"ca_bundle_path", "nowhere.pem"}},
		{name: "rotation before the first start", args: []string{"keys", "rotate"}, says: []string{"start the gateway once"}},
		{name: "unknown subcommand", args: []string{"upp"}, says: []string{"upp"}},
		{name: "id-token before up", args: []string{"id-token", "--sub", "a"}, says: []string{"gateway up"}},
		{name: "id-token without sub", args: []string{"id-token"}, says: []string{"sub"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, content := range c.files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
			}
			p := start(t, dir, c.env, "gateway", c.args...)
			require.Equal(t, 1, p.wait(t))
			for _, part := range c.says {
				require.Contains(t, p.stderr.String(), part)
			}
			require.NotContains(t, p.stderr.String(), "hunter2")
			require.NotContains(t, p.stderr.String(), "goroutine ")
		})
	}
}

// TestFunctionsThatDoNotExist checks what a caller with a wrong path is told,
// and that it leaves no metrics behind.
func TestFunctionsThatDoNotExist(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	for path, says := range map[string]string{
		"/function/nope":             `function "nope" not found in namespace "openfaas-fn"`,
		"/function/hello.dev":        `function "hello" not found in namespace "dev"`,
		"/function/":                 "want /function/<name>",
		"/function/..%2fsystem/info": "want /function/<name>",
		"/function/Hello":            "want /function/<name>",
		"/nowhere":                   "no such page",
		"/dev-idp":                   "no such page",
	} {
		a := get(t, g.url+path)
		require.Equal(t, http.StatusNotFound, a.status, path)
		require.Contains(t, a.body, says, path)
	}
	require.Equal(t, "mine", get(t, g.url+"/function/nope", "X-Call-Id: mine").header.Get("X-Call-Id"))
	require.Equal(t, 404, rawGet(t, g.url, "/function/../system/info"))
	require.Equal(t, 401, rawGet(t, g.url, "/system/info?x=/function/env"))
}

// TestAdministration checks the guard of /system/.
func TestAdministration(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	data, err := os.ReadFile(filepath.Join(g.dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	password := strings.TrimSpace(string(data))
	for _, c := range []struct {
		path    string
		headers []string
		status  int
	}{
		{"/system/info", []string{basicAuth("admin", password)}, 200},
		{"/system/functions", []string{basicAuth("admin", password)}, 200},
		{"/system/function/hello", []string{basicAuth("admin", password)}, 200},
		{"/system/function/nope", []string{basicAuth("admin", password)}, 404},
		{"/system/functions?namespace=..", []string{basicAuth("admin", password)}, 400},
		{"/system/nonsense", []string{basicAuth("admin", password)}, 404},
		{"/system/nonsense", nil, 401},
		{"/system/", nil, 401},
		{"/system/info", nil, 401},
		{"/system/info", []string{basicAuth("admin", password+"x")}, 401},
		{"/system/info", []string{basicAuth("root", password)}, 401},
		{"/system/info", []string{basicAuth("admin", "")}, 401},
		{"/system/info", []string{basicAuth("admin", password), basicAuth("admin", password)}, 401},
		{"/system/info", []string{"Authorization: Basic !!!"}, 401},
	} {
		a := get(t, g.url+c.path, c.headers...)
		require.Equal(t, c.status, a.status, "%s %v", c.path, c.headers)
		if c.status == 401 {
			require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
		}
	}
	g.cmd.Process.Signal(os.Interrupt)
	require.Zero(t, g.wait(t))
	require.NotContains(t, g.stderr.String()+g.stdout.String(), password)
}
