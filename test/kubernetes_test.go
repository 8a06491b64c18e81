package test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// kubectl runs kubectl (KUBECTL, if it is not on the PATH) on KUBECONFIG's
// cluster.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	name := os.Getenv("KUBECTL")
	if name == "" {
		name = "kubectl"
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "kubectl %s: %s", strings.Join(args, " "), stderr.String())
	return strings.TrimSpace(string(out))
}

// TestRealServiceAccount exchanges a real ServiceAccount's token for a function
// token, by objects in the cluster that the gateway reads with the permissions
// that the README gives it.
func TestRealServiceAccount(t *testing.T) {
	t.Parallel()
	if os.Getenv("GATEHOUND_KUBERNETES") == "" {
		t.Skip("NOT TESTED AGAINST A REAL API SERVER: set GATEHOUND_KUBERNETES=1 and KUBECONFIG")
	}
	require.NotEmpty(t, os.Getenv("KUBECONFIG"), "GATEHOUND_KUBERNETES is set: set KUBECONFIG too")
	namespace := "gatehound-test-" + strings.ToLower(rand.Text())
	kubectl(t, "", "create", "namespace", namespace)
	t.Cleanup(func() { kubectl(t, "", "delete", "namespace", namespace, "--wait=false") })
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	rbac := regexp.MustCompile("(?s)```yaml\n(apiVersion: v1\nkind: ServiceAccount\n.*?)```").FindSubmatch(readme)[1]
	kubectl(t, strings.ReplaceAll(string(rbac), "namespace: openfaas", "namespace: "+namespace), "apply", "-f", "-")
	kubectl(t, "", "create", "serviceaccount", "my-app", "-n", namespace)

	dir := t.TempDir()
	view := func(path string) string {
		return kubectl(t, "", "config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster."+path+"}")
	}
	server, authority := view("server"), view("certificate-authority-data")
	ca, err := base64.StdEncoding.DecodeString(authority)
	require.NoError(t, err)
	caPath, configPath, stack := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "stack.yml")
	require.NoError(t, os.WriteFile(caPath, ca, 0o600))
	require.NoError(t, os.WriteFile(configPath, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: gateway, user: {token: %s}}]
contexts: [{name: c, context: {cluster: c, user: gateway}}]
current-context: c
`, server, authority, kubectl(t, "", "create", "token", "gateway", "-n", namespace)), 0o600))
	require.NoError(t, os.WriteFile(stack, []byte("functions:\n  shout: {fprocess: tr a-z A-Z, environment: {mode: serializing, jwt_auth: \"true\"}}\n"), 0o600))
	p := start(t, dir, append([]string{"iam_store=kubernetes", "iam_namespace=" + namespace, "KUBECONFIG=" + configPath,
		"SSL_CERT_FILE=" + caPath, "stack_file=" + stack}, freePorts...), "gateway")
	g := &gatewayUp{program: p, url: p.stderr.find(t, p, `listening on (http://\S+),`)[1]}
	p.stderr.find(t, p, "loaded 0 issuers, 0 policies and 0 roles, with 0 problems")

	const audience = "https://gateway.example.com"
	id := kubectl(t, "", "create", "token", "my-app", "-n", namespace, "--audience", audience, "--duration", "1h")
	a, _ := g.exchange(t, id, "scope", "function")
	require.Equal(t, http.StatusBadRequest, a.status, "not registered yet: %s", a.body)

	var discovery struct{ Issuer string }
	require.NoError(t, json.Unmarshal([]byte(kubectl(t, "", "get", "--raw", "/.well-known/openid-configuration")), &discovery))
	kubectl(t, fmt.Sprintf(`apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: kubernetes}
spec: {iss: %q, issInternal: %q, aud: [%q], tokenExpiry: 30m}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: shout}
spec: {statement: [{effect: Allow, action: ["Function:Invoke"], resource: ["openfaas-fn:shout"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: my-app}
spec: {policy: [shout], principal: {"jwt:sub": ["system:serviceaccount:%s:my-app"]}, condition: {StringEqual: {"jwt:iss": %q}}}
`, discovery.Issuer, server, audience, namespace, discovery.Issuer), "apply", "-n", namespace, "-f", "-")

	var body map[string]any
	eventually(t, func() bool {
		a, body = g.exchange(t, id, "scope", "function")
		return a.status == http.StatusOK
	}, "the token is never exchanged")
	token := body["access_token"].(string)
	require.Equal(t, float64(1800), body["expires_in"])
	claims := claimsOf(t, g.url, token)
	require.Equal(t, "fed:system:serviceaccount:"+namespace+":my-app", claims["sub"])
	require.Equal(t, discovery.Issuer, claims["fed:iss"])
	require.Equal(t, map[string]any{"permissions": []any{"openfaas-fn:shout"}}, claims["function"])
	eventually(t, func() bool {
		return do(t, http.MethodPost, g.url+"/function/shout", "hello", "Authorization: Bearer "+token).body == "HELLO"
	}, "the function does not take the token")
	require.Equal(t, http.StatusUnauthorized, do(t, http.MethodPost, g.url+"/function/shout", "hello", "Authorization: Bearer "+id).status)

	kubectl(t, "", "delete", "roles.iam.openfaas.com", "my-app", "-n", namespace)
	eventually(t, func() bool {
		a, body = g.exchange(t, id, "scope", "function")
		return a.status == http.StatusBadRequest
	}, "the role's end does not count")
	require.NotContains(t, p.stderr.String(), id)
	kubectl(t, "", "delete", "jwtissuers,policies.iam.openfaas.com", "--all", "-n", namespace)
}

// TestKubernetesAway starts a gateway whose API server is not there: it serves,
// and says that it cannot exchange yet.
func TestKubernetesAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:%s"}}]
users: [{name: u, user: {token: the-secret-token}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, freeport.Take()), 0o600))
	p := start(t, dir, append([]string{"iam_store=kubernetes", "KUBECONFIG=" + config}, freePorts...), "gateway")
	g := &gatewayUp{program: p, url: p.stderr.find(t, p, `listening on (http://\S+),`)[1]}
	p.stderr.find(t, p, "the Kubernetes API server cannot be reached; this is tried again, and nobody is trusted until then")
	a, body := g.exchange(t, "a.b.c")
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "temporarily_unavailable", body["error"])
	require.Equal(t, "OK\n", get(t, g.url+"/healthz").body)
	require.NotContains(t, p.stderr.String(), "the-secret-token")
	require.NoDirExists(t, filepath.Join(dir, ".gatehound", "iam"))
}

// TestKubernetesRefusals are starts that cannot be meant.
func TestKubernetesRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  []string
		args []string
		says string
	}{
		{[]string{"iam_store=kubernetes"}, nil, "iam_store=kubernetes: this process runs in no pod: set KUBECONFIG"},
		{[]string{"iam_store=kubernetes", "KUBECONFIG=/none"}, nil, `iam_store=kubernetes: KUBECONFIG="/none": `},
		{[]string{"iam_store=kubernetes"}, []string{"up"}, "`gateway up` has its IAM objects in a folder: unset iam_store"},
	} {
		p := start(t, t.TempDir(), append(append([]string{}, freePorts...), c.env...), "gateway", c.args...)
		require.Equal(t, 1, p.wait(t))
		require.Contains(t, p.stderr.String(), c.says)
	}
}
