package exchange

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

const clusterIssuer = "https://kubernetes.default.svc.cluster.local"

// apiServer is as strict as a cluster's: discovery is for who has a token.
type apiServer struct {
	*provider
	dir string // what is mounted into our pod
	ca  *authority

	mu      sync.Mutex
	jwksURI string
	token   string
	refused int
}

func newAPIServer(t *testing.T) *apiServer {
	a := &apiServer{provider: newProvider(t, nil), dir: t.TempDir(), ca: newAuthority(t)}
	// An address of the node's, which pods may not reach; it does not exist.
	a.jwksURI = "https://192.0.2.1:6443" + keysPath
	keys := a.Config.Handler
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+a.token {
			a.refused++
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": clusterIssuer, "jwks_uri": a.jwksURI})
		case keysPath:
			if !strings.Contains(r.Header.Get("Accept"), "application/jwk-set+json") {
				w.WriteHeader(http.StatusNotAcceptable)
				return
			}
			r.URL.Path = "/keys"
			keys.ServeHTTP(w, r)
		default:
			http.Redirect(w, r, a.jwksURI, http.StatusFound)
		}
	})
	a.secure(t, a.ca.vouch(t, "127.0.0.1", time.Now().Add(time.Hour)))
	a.rotate(t, "mounted-1")
	writeFile(t, filepath.Join(a.dir, "ca.crt"), a.ca.pem)
	return a
}

func (a *apiServer) rotate(t *testing.T, token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = token
	writeFile(t, filepath.Join(a.dir, "token"), token+"\n")
}

func (a *apiServer) cluster() *Cluster {
	return &Cluster{Address: strings.TrimPrefix(a.URL, "https://"), Dir: a.dir}
}

// gateway trusts the cluster's ServiceAccounts.
func (a *apiServer) gateway(t *testing.T, issInternal string, changes ...func(*Config)) *gateway {
	policy, role := invoke("my-app", "system:serviceaccount:openfaas:my-app", "openfaas-fn:*")
	set := compile(t, iam.Objects{
		Issuers: []iam.JwtIssuer{{Metadata: iam.Metadata{Name: "kubernetes"}, Spec: iam.JwtIssuerSpec{
			Iss: clusterIssuer, IssInternal: issInternal, Aud: []string{gatewayURL}, TokenExpiry: "2h"}}},
		Policies: []iam.Policy{policy}, Roles: []iam.Role{role},
	})
	return newGateway(t, set, append([]func(*Config){func(c *Config) { c.Cluster = a.cluster() }}, changes...)...)
}

// projected is a ServiceAccount token's claims, as an API server writes them.
func projected() map[string]any {
	return map[string]any{
		"iss": clusterIssuer, "aud": []string{gatewayURL}, "sub": "system:serviceaccount:openfaas:my-app", "groups": nil,
		"nbf": now.Unix() - 60, "exp": now.Unix() + 7200, "jti": "0d5e7a5c-7e4f-4f0c-8d4d-0c3f4dd2f6ab",
		"kubernetes.io": map[string]any{
			"namespace":      "openfaas",
			"node":           map[string]any{"name": "node-1", "uid": "2f1c"},
			"pod":            map[string]any{"name": "my-app-5d8f", "uid": "9b3e"},
			"serviceaccount": map[string]any{"name": "my-app", "uid": "77aa"},
		},
	}
}

// TestServiceAccountToken: as a pod's gateway finds its cluster, with neither
// DNS nor an issInternal, or with one.
func TestServiceAccountToken(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	for _, internal := range []string{"", a.URL, "https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local:443/"} {
		g := a.gateway(t, internal)
		res, err := g.exchange(t, a.provider.token(t, projected()), "function", "openfaas-fn:env")
		require.NoError(t, err, internal)
		require.Equal(t, "fed:system:serviceaccount:openfaas:my-app", g.claims(t, res.AccessToken)["sub"])
		require.Equal(t, []string{"openfaas-fn:env"}, g.opens(t, res.AccessToken, []string{"openfaas-fn:env", "openfaas-fn:cows"}))
	}
	require.Zero(t, a.refused)

	// The token that is mounted is another after an hour.
	a.rotate(t, "mounted-2")
	_, err := a.gateway(t, "").exchange(t, a.provider.token(t, projected()), "")
	require.NoError(t, err)

	// Without the cluster's CA and token, there are no keys.
	for _, change := range []func(*Config){
		func(c *Config) { c.Cluster = nil },
		func(c *Config) { c.Cluster = &Cluster{Address: a.cluster().Address, Dir: t.TempDir()} },
	} {
		_, err = a.gateway(t, a.URL, change).exchange(t, a.provider.token(t, projected()), "")
		requireRefused(t, err, TemporarilyUnavailable, clusterIssuer)
	}
	// insecure_tls is for others: a token is never given to who cannot prove to
	// be the API server.
	insecure, err := NewClient(ClientConfig{Insecure: true})
	require.NoError(t, err)
	writeFile(t, filepath.Join(a.dir, "ca.crt"), newAuthority(t).pem)
	var warned warnings
	_, err = a.gateway(t, "", func(c *Config) { c.Client, c.Warnf = insecure, warned.add }).exchange(t, a.provider.token(t, projected()), "")
	requireRefused(t, err, TemporarilyUnavailable, clusterIssuer)
	require.Contains(t, warned.String(), "JwtIssuer kubernetes ("+clusterIssuer+"): cannot fetch the issuer's keys: ")
	require.Contains(t, warned.String(), "unknown authority")
	require.NotContains(t, warned.String(), "mounted-2")
	require.Zero(t, a.refused)
}

// TestTokenGoesNowhereElse: the API server, or somebody who wrote its objects,
// points at other servers, by its jwks_uri and by redirects; and other issuers
// point at the API server.
func TestTokenGoesNowhereElse(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	var mu sync.Mutex
	var seen, credentials []string
	watch := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.URL.Path)
		credentials = append(credentials, r.Header.Values("Authorization")...)
		http.NotFound(w, r)
	}
	plain := httptest.NewServer(http.HandlerFunc(watch))
	t.Cleanup(plain.Close)
	// Its certificate is good, for the cluster's CA even.
	secure := httptest.NewUnstartedServer(http.HandlerFunc(watch))
	other := &provider{Server: secure}
	other.secure(t, a.ca.vouch(t, "127.0.0.1", time.Now().Add(time.Hour)))
	insecure, err := NewClient(ClientConfig{Insecure: true})
	require.NoError(t, err)

	redirect := a.URL + "/redirect"
	for _, c := range []struct{ jwksURI, redirect, seen string }{
		{other.URL + "/stolen", "", "/stolen"},
		{redirect, other.URL + "/redirected", "/redirected"},
		{plain.URL + keysPath, "", ""}, // http is refused altogether
	} {
		a.jwksURI = c.jwksURI
		if c.redirect != "" {
			handler := a.Config.Handler
			a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/redirect" {
					http.Redirect(w, r, c.redirect, http.StatusFound)
					return
				}
				handler.ServeHTTP(w, r)
			})
			defer func() { a.Config.Handler = handler }()
		}
		_, err := a.gateway(t, "", func(c *Config) { c.Client = insecure }).exchange(t, a.provider.token(t, projected()), "")
		requireRefused(t, err, TemporarilyUnavailable, clusterIssuer)
		mu.Lock()
		if c.seen != "" {
			require.Contains(t, seen, c.seen)
		} else {
			require.NotContains(t, seen, keysPath)
		}
		require.Empty(t, credentials)
		mu.Unlock()
	}

	// An issuer elsewhere, whose keys are said to be at the API server.
	pointing := newProvider(t, nil)
	pointing.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": pointing.URL, "jwks_uri": a.URL + keysPath})
	})
	g := newGateway(t, aliceMayInvoke(t, pointing, "*"), func(c *Config) { c.Client, c.Cluster = insecure, a.cluster() })
	before := a.refused
	_, err = g.exchange(t, pointing.token(t, nil), "")
	requireRefused(t, err, TemporarilyUnavailable, pointing.URL)
	require.Greater(t, a.refused, before, "asked without a token")
}

func TestWhatIsTheAPIServer(t *testing.T) {
	t.Parallel()
	for authority, want := range map[string]bool{
		"https://10.96.0.1":                                 true,
		"https://10.96.0.1:443/":                            true,
		"https://kubernetes.default.svc":                    true,
		"https://kubernetes.default.svc.cluster.local":      true,
		"https://kubernetes.default.svc.example.com/":       true,
		"https://kubernetes.default.svc:6443":               false,
		"https://10.96.0.1:6443":                            false,
		"https://10.96.0.10":                                false,
		"https://kubernetes.default.svcs":                   false,
		"https://x.kubernetes.default.svc":                  false,
		"https://idp.example.com/kubernetes.default.svc":    false,
		"https://kubernetes.default.svc@idp.example.com":    false,
		"https://idp.example.com/?kubernetes.default.svc.x": false,
	} {
		u, err := url.Parse(authority)
		require.NoError(t, err)
		require.Equal(t, want, (&Cluster{Address: "10.96.0.1:443"}).is(u), authority)
	}
	u, _ := url.Parse("https://[fd00::1]:6443")
	require.True(t, (&Cluster{Address: "[fd00::1]:6443"}).is(u))
}

// TestRealAPIServer does the same with a real API server, and is not among the
// other tests: see README.md.
func TestRealAPIServer(t *testing.T) {
	t.Parallel()
	if os.Getenv("GATEHOUND_KUBERNETES") == "" {
		t.Skip("NOT TESTED AGAINST A REAL API SERVER: set GATEHOUND_KUBERNETES=1 and KUBECONFIG")
	}
	require.NotEmpty(t, os.Getenv("KUBECONFIG"), "GATEHOUND_KUBERNETES is set: set KUBECONFIG too")
	kubectl := func(args ...string) string {
		out, err := exec.Command(cmp.Or(os.Getenv("KUBECTL"), "kubectl"), args...).Output()
		require.NoError(t, err, "kubectl %s", args)
		return strings.TrimSpace(string(out))
	}
	namespace := fmt.Sprintf("gatehound-test-%d", time.Now().UnixNano())
	kubectl("create", "namespace", namespace)
	t.Cleanup(func() { kubectl("delete", "namespace", namespace, "--wait=false") })
	kubectl("create", "serviceaccount", "gateway", "-n", namespace)
	kubectl("create", "serviceaccount", "my-app", "-n", namespace)
	server, err := url.Parse(kubectl("config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
	require.NoError(t, err)
	ca, err := base64.StdEncoding.DecodeString(kubectl("config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"))
	require.NoError(t, err)
	var discovery struct{ Issuer string }
	require.NoError(t, json.Unmarshal([]byte(kubectl("get", "--raw", "/.well-known/openid-configuration")), &discovery))

	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "ca.crt"), string(ca))
	writeFile(t, filepath.Join(dir, "token"), kubectl("create", "token", "gateway", "-n", namespace))
	cluster := &Cluster{Address: server.Host, Dir: dir}
	subject := "system:serviceaccount:" + namespace + ":my-app"
	policy, role := invoke("my-app", subject, "openfaas-fn:*")
	trusted := iam.JwtIssuer{Metadata: iam.Metadata{Name: "kubernetes"}, Spec: iam.JwtIssuerSpec{Iss: discovery.Issuer, Aud: []string{gatewayURL}, TokenExpiry: "2h"}}
	if u, err := url.Parse(discovery.Issuer); err != nil || !cluster.is(u) {
		trusted.Spec.IssInternal = server.String()
	}
	set := compile(t, iam.Objects{Issuers: []iam.JwtIssuer{trusted}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role}})
	g := newGateway(t, set, func(c *Config) { c.Cluster, c.Now, c.Warnf = cluster, time.Now, t.Logf })
	res, err := g.exchange(t, kubectl("create", "token", "my-app", "-n", namespace, "--audience", gatewayURL), "function", "openfaas-fn:env")
	require.NoError(t, err)
	g.advance(time.Since(now)) // for claims alone, and not before the token was issued
	require.Equal(t, "fed:"+subject, g.claims(t, res.AccessToken)["sub"])

	_, err = g.exchange(t, kubectl("create", "token", "my-app", "-n", namespace), "function")
	requireRefused(t, err, InvalidRequest, "aud does not name the expected audience")
	_, err = g.exchange(t, kubectl("create", "token", "gateway", "-n", namespace, "--audience", gatewayURL), "function")
	requireRefused(t, err, InvalidRequest, "No policies found for subject: system:serviceaccount:"+namespace+":gateway")
}
