// Package idp tries the built gateway with an OpenID provider and an OpenID
// client that others wrote.
package idp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// binary is the built gateway.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehound-idp-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gateway")
	build := exec.Command("go", "build", "-o", dir, "./gateway/cmd/gateway", "./gateway/cmd/federated-gateway", "./auth/cmd/pro")
	build.Dir = "../.." // the module whose program it is
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience bounds every wait: much longer than anything takes.
const patience = 60 * time.Second

// gateway is the built one, running.
type gateway struct {
	url    string
	dir    string // its own
	stderr *output
}

// output collects what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

var listening = regexp.MustCompile(`listening on (http://\S+),`)

// startGateway starts one with these IAM objects and two functions.
func startGateway(t *testing.T, objects string) *gateway {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "iam"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "iam", "iam.yaml"), []byte(objects), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(
		"functions:\n  shout: {fprocess: tr a-z A-Z, environment: {mode: serializing, jwt_auth: true}}\n"+
			"  env: {fprocess: cat, environment: {mode: serializing, jwt_auth: true}}\n"), 0o600))
	g := &gateway{dir: dir, stderr: new(output)}
	cmd := exec.Command(binary)
	cmd.Dir, cmd.Stderr = dir, g.stderr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "port=0", "metrics_port=0", "iam_dir=iam", "stack_file=stack.yml", "debug=true"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if t.Failed() {
			t.Logf("the gateway printed\n%s", g.stderr)
		}
	})
	require.Eventually(t, func() bool {
		match := listening.FindStringSubmatch(g.stderr.String())
		if match != nil {
			g.url = match[1]
		}
		return match != nil
	}, patience, 10*time.Millisecond, "never listened")
	for _, function := range []string{"shout", "env"} {
		require.Eventually(t, func() bool { return g.call(t, function, "") == http.StatusUnauthorized }, patience, 20*time.Millisecond, "never ready")
	}
	return g
}

// shout calls the function of this name and returns the status.
func (g *gateway) shout(t *testing.T, token string) int { return g.call(t, "shout", token) }

func (g *gateway) call(t *testing.T, function, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url+"/function/"+function, strings.NewReader("hello"))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	if res.StatusCode == http.StatusOK {
		require.Equal(t, "hello", strings.ToLower(string(body)))
	}
	return res.StatusCode
}

// exchange trades a token for one for functions, or for an API token.
func (g *gateway) exchange(t *testing.T, subject, subjectType, scope string) (token, refusal string) {
	t.Helper()
	res, err := http.PostForm(g.url+"/oauth/token", url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {subject},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:" + subjectType},
		"scope":              {scope},
	})
	require.NoError(t, err)
	defer res.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&body))
	require.Equal(t, body.AccessToken != "", res.StatusCode == http.StatusOK)
	return body.AccessToken, body.Description
}

// opens exchanges a token, by way of an API token too, and calls the function
// with what comes of it. Nothing else opens it, and nothing is logged.
func (g *gateway) opens(t *testing.T, what, token, kind string) {
	t.Helper()
	require.NotEmpty(t, token, what)
	require.Equal(t, http.StatusUnauthorized, g.shout(t, token), what)
	api, refusal := g.exchange(t, token, kind, "")
	require.Empty(t, refusal, what)
	require.Equal(t, http.StatusUnauthorized, g.shout(t, api), what)
	for _, subject := range []string{token, api} {
		function, refusal := g.exchange(t, subject, kind, "function")
		require.Empty(t, refusal, what)
		require.Equal(t, http.StatusOK, g.shout(t, function), what)
		_, refusal = g.exchange(t, function, kind, "function")
		require.Equal(t, "a function token cannot be exchanged", refusal)
		require.NotContains(t, g.stderr.String(), function)
	}
	require.NotContains(t, g.stderr.String(), token)
}

// objects trusts an issuer, and lets some of its subjects call the function.
func objects(issuer string, audience, subjects []string) string {
	list := func(all []string) string {
		text, _ := json.Marshal(all)
		return string(text)
	}
	return fmt.Sprintf(`
apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: idp, namespace: openfaas}
spec: {iss: %q, aud: %s, tokenExpiry: 30m}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: shout, namespace: openfaas}
spec: {statement: [{effect: Allow, action: ["Function:Invoke"], resource: ["openfaas-fn:shout"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: shout, namespace: openfaas}
spec: {policy: [shout], principal: {"jwt:sub": %s}, condition: {StringEqual: {"jwt:iss": %q}}}
`, issuer, list(audience), list(subjects), issuer)
}

// TestFlows gets tokens by every flow and calls the function with what each is
// exchanged for; the tokens themselves do not open it.
func TestFlows(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient, serviceClient}, []string{user, serviceClient}))
	c := p.oauth2(nativeClient, "")
	login := p.login(t, c)
	g.opens(t, "ID token of a code flow", login.Extra("id_token").(string), "id_token")
	g.opens(t, "access token of a code flow", login.AccessToken, "access_token")

	require.NotEmpty(t, login.RefreshToken)
	refreshed, err := c.TokenSource(t.Context(), &oauth2.Token{RefreshToken: login.RefreshToken}).Token()
	require.NoError(t, err)
	require.NotEqual(t, login.Extra("id_token"), refreshed.Extra("id_token"))
	g.opens(t, "ID token of a refresh", refreshed.Extra("id_token").(string), "id_token")
	g.opens(t, "access token of a refresh", refreshed.AccessToken, "access_token")

	machine := clientcredentials.Config{ClientID: serviceClient, ClientSecret: "verysecret", TokenURL: p.discovered.Endpoint().TokenURL, Scopes: []string{"openid"}}
	token, err := machine.Token(t.Context())
	require.NoError(t, err)
	g.opens(t, "access token of client credentials", token.AccessToken, "access_token")

	_, refusal := g.exchange(t, refreshed.RefreshToken, "jwt", "")
	require.Contains(t, refusal, "subject_token: ")
	other := p.login(t, p.oauth2(webClient, "secret"))
	_, refusal = g.exchange(t, other.Extra("id_token").(string), "id_token", "function")
	require.Contains(t, refusal, "aud does not name the expected audience", "a token for another client")
	stranger := newProvider(t)
	_, refusal = g.exchange(t, stranger.login(t, stranger.oauth2(nativeClient, "")).Extra("id_token").(string), "id_token", "function")
	require.Equal(t, "issuer "+stranger.issuer+" is not a registered JwtIssuer", refusal)
}

// TestNobody: a good login is not enough.
func TestNobody(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient}, []string{"id1"}))
	id := p.login(t, p.oauth2(nativeClient, "")).Extra("id_token").(string)
	for _, scope := range []string{"", "function"} {
		_, refusal := g.exchange(t, id, "id_token", scope)
		require.Equal(t, "No policies found for subject: "+user, refusal)
	}
}

// TestAsClient has go-oidc find and verify what our gateway issues, as any
// OpenID client would.
func TestAsClient(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient}, []string{user}))
	id := p.login(t, p.oauth2(nativeClient, "")).Extra("id_token").(string)

	ours, err := oidc.NewProvider(t.Context(), g.url)
	require.NoError(t, err)
	require.Equal(t, g.url+"/oauth/token", ours.Endpoint().TokenURL)
	verifier := ours.Verifier(&oidc.Config{ClientID: g.url})
	for scope, has := range map[string][]string{"": {"policy"}, "function": {"function"}} {
		token, refusal := g.exchange(t, id, "id_token", scope)
		require.Empty(t, refusal)
		verified, err := verifier.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, "fed:"+user, verified.Subject)
		require.Equal(t, []string{g.url}, verified.Audience)
		require.WithinDuration(t, time.Now().Add(30*time.Minute), verified.Expiry, time.Minute)
		var claims map[string]any
		require.NoError(t, verified.Claims(&claims))
		require.Equal(t, p.issuer, claims["fed:iss"])
		for _, name := range has {
			require.Contains(t, claims, name)
		}
		if scope == "function" {
			require.Len(t, claims, 9, "iss, aud, sub, fed:iss, function, iat, nbf, exp, jti")
			require.Equal(t, map[string]any{"permissions": []any{"openfaas-fn:shout"}}, claims["function"])
		}
		_, err = verifier.Verify(t.Context(), token[:len(token)-6]+"AAAAAA")
		require.ErrorContains(t, err, "failed to verify signature")
	}
	_, err = ours.Verifier(&oidc.Config{ClientID: "somebody"}).Verify(t.Context(), id)
	require.Error(t, err)
}
