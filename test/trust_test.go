package test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const clusterIssuer = "https://kubernetes.default.svc.cluster.local"

// cluster is an API server as far as ServiceAccounts' tokens go. Its
// certificate is its own CA.
type cluster struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newCluster(t *testing.T) *cluster {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c := &cluster{key: key}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			// The public address, which is not to be asked: see issInternal.
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, clusterIssuer, clusterIssuer+"/openid/v1/jwks")
		case "/openid/v1/jwks":
			b64 := base64.RawURLEncoding
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"sa-1","n":%q,"e":%q}]}`,
				b64.EncodeToString(key.N.Bytes()), b64.EncodeToString(big.NewInt(int64(key.E)).Bytes()))
		default:
			http.NotFound(w, r)
		}
	}))
	c.Config.ErrorLog = log.New(&strings.Builder{}, "", 0)
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// ca writes a bundle with the cluster's CA.
func (c *cluster) ca(t *testing.T, path string) string {
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// token is a projected one of the ServiceAccount my-app.
func (c *cluster) token(t *testing.T) string {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": clusterIssuer, "aud": []string{"https://gateway.example.com"}, "sub": "system:serviceaccount:openfaas:my-app",
		"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(2 * time.Hour).Unix(), "jti": "1",
		"kubernetes.io": map[string]any{"namespace": "openfaas", "serviceaccount": map[string]string{"name": "my-app", "uid": "77aa"}},
	})
	token.Header["kid"] = "sa-1"
	signed, err := token.SignedString(c.key)
	require.NoError(t, err)
	return signed
}

// start starts a gateway that trusts the cluster, on debug.
func (c *cluster) start(t *testing.T, env ...string) *gatewayUp {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "iam"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "iam", "cluster.yaml"), fmt.Appendf(nil, `
apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: kubernetes, namespace: openfaas}
spec: {iss: %q, issInternal: %q, aud: ["https://gateway.example.com"], tokenExpiry: 2h}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: fn-rw, namespace: openfaas}
spec: {statement: [{sid: 1-rw, effect: Allow, action: ["Function:*"], resource: ["dev:*"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: my-app, namespace: openfaas}
spec:
  policy: [fn-rw]
  condition: {StringEqual: {"jwt:iss": [%q]}}
  principal: {"jwt:sub": ["system:serviceaccount:openfaas:my-app"]}
`, clusterIssuer, c.URL, clusterIssuer), 0o600))
	p := start(t, dir, append(append([]string{"iam_dir=iam", "debug=1"}, env...), freePorts...), "gateway")
	return &gatewayUp{program: p, dir: dir, url: p.stderr.find(t, p, `listening on (http://\S+),`)[1]}
}

// TestServiceAccountByCurl runs the command of OpenFaaS' documentation, which
// puts the token into the query; nothing of it may be logged.
func TestServiceAccountByCurl(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g := c.start(t, "ca_bundle_path="+c.ca(t, filepath.Join(t.TempDir(), "ca.pem")))
	id := c.token(t)
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "openfaas-token"), []byte(id), 0o600))

	script := exec.Command("bash", "-eu", "-o", "pipefail")
	script.Dir = g.dir
	script.Env = append(os.Environ(), "GATEWAY="+g.url)
	script.Stdin = strings.NewReader(`export OPENFAAS_URL=$GATEWAY
export ID_TOKEN="$(cat openfaas-token)" # Id token obtained from a trusted OIDC provider.
curl -s -X POST \
"$OPENFAAS_URL/oauth/token?grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=$ID_TOKEN&subject_token_type=urn:ietf:params:oauth:token-type:id_token"
`)
	out, err := script.Output()
	require.NoError(t, err)
	var res map[string]any
	require.NoError(t, json.Unmarshal(out, &res), "%s", out)
	api, _ := res["access_token"].(string)
	require.Equal(t, map[string]any{"access_token": api, "issued_token_type": idTokenType, "token_type": "Bearer", "expires_in": 7200.0}, res)
	claims := claimsOf(t, g.url, api)
	require.Equal(t, "fed:system:serviceaccount:openfaas:my-app", claims["sub"])
	require.Equal(t, clusterIssuer, claims["fed:iss"])
	require.Equal(t, []any{"fn-rw"}, claims["policy"])
	require.Equal(t, "openfaas", claims["kubernetes.io"].(map[string]any)["namespace"])

	_, body := g.exchange(t, api, "scope", "function", "audience", "dev:env")
	function, _ := body["access_token"].(string)
	require.NotEmpty(t, function, body)

	query := "grant_type=" + tokenExchange + "&subject_token=" + id + "&subject_token_type=" + idTokenType
	for name, r := range map[string]struct{ query, body, says string }{
		"twice":           {query + "&subject_token=" + id, "", "parameter 'subject_token' is given more than once"},
		"query and body":  {query, "subject_token=" + id, "parameter 'subject_token' is given more than once"},
		"two scopes":      {query, "scope=function&scope=function", "parameter 'scope' is given more than once"},
		"broken encoding": {query + "%zz", "", "bad percent-encoding"},
		"large body":      {query, "x=" + strings.Repeat("y", 65<<10), "the request body is too large"},
		"large token":     {"", "subject_token=" + strings.Repeat("x", 33<<10), "subject_token is larger than"},
	} {
		target := g.url + "/oauth/token"
		if r.query != "" {
			target += "?" + r.query
		}
		a := do(t, http.MethodPost, target, r.body, "Content-Type: application/x-www-form-urlencoded")
		require.Equal(t, http.StatusBadRequest, a.status, name)
		require.Contains(t, a.body, r.says, name)
		require.Equal(t, "no-store", a.header.Get("Cache-Control"), name)
		require.NotContains(t, a.body, id, name)
	}
	require.NotEqual(t, http.StatusOK, get(t, g.url+"/oauth/token?"+query).status, "GET, whose URLs are kept in histories and caches")

	// Both logs were on all the time.
	printed := g.stderr.String()
	require.Contains(t, printed, "path=/oauth/token")
	for _, secret := range []string{id, api, function} {
		for _, part := range strings.Split(secret, ".")[1:] {
			require.NotContains(t, printed, part)
		}
	}
	require.NotContains(t, printed, "subject_token=")
	require.NotContains(t, printed, "insecure")
}

// TestUntrustedCertificate: what the operator of a gateway without the private
// CA is told, at the start and later, and the caller.
func TestUntrustedCertificate(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g := c.start(t)
	a, body := g.exchange(t, c.token(t))
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, map[string]any{"error": "temporarily_unavailable",
		"error_description": "the keys of issuer " + clusterIssuer + " cannot be fetched at the moment; try again"}, body)
	g.stderr.find(t, g.program, `WRN JwtIssuer kubernetes \(`+clusterIssuer+`\): cannot fetch the issuer's keys: `+c.URL+`/\S+: .*unknown authority`)

	insecure := c.start(t, "insecure_tls=true")
	insecure.stderr.find(t, insecure.program, `WRN insecure_tls=true: certificates of issuers are not checked, so whoever is between`)
	a, _ = insecure.exchange(t, c.token(t))
	require.Equal(t, http.StatusOK, a.status, a.body)
}

// TestFunctionTokenHoldsNothingElse: a provider's claims end at the gateway.
func TestFunctionTokenHoldsNothingElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	g := c.start(t, "ca_bundle_path="+c.ca(t, filepath.Join(t.TempDir(), "ca.pem")))
	_, body := g.exchange(t, c.token(t), "scope", "function", "audience", "dev:env")
	claims := claimsOf(t, g.url, body["access_token"].(string))
	for _, name := range []string{"sub", "fed:iss", "function", "iss", "aud", "exp", "iat", "nbf", "jti"} {
		require.Contains(t, claims, name)
		delete(claims, name)
	}
	require.Empty(t, claims)
}
