package clients

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	sdk "github.com/openfaas/go-sdk"
	"github.com/stretchr/testify/require"
)

// client is go-sdk's.
func (g *gateway) client(t *testing.T, options ...sdk.ClientOption) *sdk.Client {
	t.Helper()
	u, err := url.Parse(g.url)
	require.NoError(t, err)
	return sdk.NewClientWithOpts(u, &http.Client{Timeout: patience}, options...)
}

// accepted wants the status of what go-sdk did to be 202.
func accepted(t *testing.T) func(status int, err error) {
	return func(status int, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, http.StatusAccepted, status)
	}
}

// call invokes a function and returns the status and the answer.
func call(t *testing.T, c *sdk.Client, name, namespace string, auth bool) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("moo"))
	require.NoError(t, err)
	res, err := c.InvokeFunction(name, namespace, false, auth, req)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(read)
}

// TestSDK administers with the password.
func TestSDK(t *testing.T) {
	t.Parallel()
	overEach(t, administer)
}

func administer(t *testing.T, g *gateway) {
	ctx := t.Context()
	c := g.client(t, sdk.WithAuthentication(&sdk.BasicAuth{Username: "admin", Password: g.password(t)}))

	info, err := c.GetInfo(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, info.Provider.Provider)
	require.NotEmpty(t, info.Provider.Orchestration)
	require.NotEmpty(t, info.Version.Release)
	require.NotEmpty(t, info.Arch)

	accepted(t)(c.CreateNamespace(ctx, types.FunctionNamespace{Name: "dev", Labels: map[string]string{"team": "a"}}))
	accepted(t)(c.UpdateNamespace(ctx, types.FunctionNamespace{Name: "dev", Labels: map[string]string{"team": "b"}}))
	namespace, err := c.GetNamespace(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"openfaas": "1", "team": "b"}, namespace.Labels)
	namespaces, err := c.GetNamespaces(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"dev", "openfaas-fn"}, namespaces)
	_, err = c.UpdateNamespace(ctx, types.FunctionNamespace{Name: "nobody"})
	require.EqualError(t, err, "namespace nobody not found")

	accepted(t)(c.CreateSecret(ctx, types.Secret{Name: "key", Namespace: "dev", Value: "hunter2"}))
	accepted(t)(c.UpdateSecret(ctx, types.Secret{Name: "key", Namespace: "dev", Value: "hunter3"}))
	secrets, err := c.GetSecrets(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, []types.Secret{{Name: "key", Namespace: "dev"}}, secrets)

	echo := types.FunctionDeployment{Service: "echo", Namespace: "dev", Image: "echo:1", EnvProcess: "cat",
		EnvVars: map[string]string{"mode": "serializing"}, Secrets: []string{"key"}, Labels: &map[string]string{"team": "a"}}
	_, err = c.Update(ctx, echo)
	require.Error(t, err, "it is not there yet")
	accepted(t)(c.Deploy(ctx, echo))
	available := func(n uint64) {
		t.Helper()
		eventually(t, "its replicas are never as wanted", func() bool {
			f, err := c.GetFunction(ctx, "echo", "dev")
			require.NoError(t, err)
			return f.Replicas == n && f.AvailableReplicas == n
		})
	}
	available(1)
	echo.Image = "echo:2"
	accepted(t)(c.Update(ctx, echo))
	require.NoError(t, c.ScaleFunction(ctx, "echo", "dev", 2))
	available(2)
	require.NoError(t, c.ScaleFunction(ctx, "echo", "dev", 0))
	available(0)
	status, body := call(t, c, "echo", "dev", false) // starts it
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "moo", body)
	functions, err := c.GetFunctions(ctx, "dev")
	require.NoError(t, err)
	require.Len(t, functions, 1)
	require.Equal(t, "echo:2", functions[0].Image)
	require.Equal(t, []string{"key"}, functions[0].Secrets)
	require.Equal(t, "a", (*functions[0].Labels)["team"])
	require.EqualValues(t, 1, functions[0].InvocationCount)
	require.EqualError(t, c.ScaleFunction(ctx, "nobody", "dev", 1), "function nobody not found")

	since := time.Now().Add(-time.Minute)
	eventually(t, "the call is never logged", func() bool {
		lines, err := c.GetLogs(ctx, "echo", "dev", false, 5, &since)
		require.NoError(t, err)
		var called bool
		for line := range lines {
			called = called || strings.Contains(line.Text, "POST / - 200 OK")
		}
		return called
	})
	followed, err := c.GetLogs(ctx, "echo", "dev", true, 1, nil)
	require.NoError(t, err)
	line := <-followed
	require.Equal(t, logs.Message{Name: "echo", Namespace: "dev", Instance: line.Instance, Timestamp: line.Timestamp, Text: line.Text}, line)
	_, err = c.GetLogs(ctx, "nobody", "dev", false, 0, nil)
	require.EqualError(t, err, "function: nobody not found")

	require.NoError(t, c.DeleteFunction(ctx, "echo", "dev"))
	for range followed { // ends with the function
	}
	require.EqualError(t, c.DeleteFunction(ctx, "echo", "dev"), "function echo not found")
	require.NoError(t, c.DeleteSecret(ctx, "key", "dev"))
	require.EqualError(t, c.DeleteSecret(ctx, "key", "dev"), "secret key not found")
	require.NoError(t, c.DeleteNamespace(ctx, "dev"))
	require.EqualError(t, c.DeleteNamespace(ctx, "dev"), "namespace dev not found")
}

// TestSDKTokens has a machine log in by client credentials: go-sdk exchanges
// what it gets for API tokens, and those, or that, for function tokens.
func TestSDKTokens(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	g := startGateway(t, stack)
	g.grant(t, "robot", []string{"Function:List", "Function:Invoke", "Namespace:List"}, []string{"openfaas-fn:guarded"})
	g.apiToken(t, "robot") // it is in force
	tokens := map[string]string{"robot": g.idToken(t, "robot"), "stranger": g.idToken(t, "stranger")}
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "client_credentials" || r.FormValue("client_secret") != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"`+tokens[r.FormValue("client_id")]+`","token_type":"Bearer","expires_in":60}`)
	}))
	t.Cleanup(provider.Close)
	login := func(client string) sdk.TokenSource {
		return sdk.NewClientCredentialsTokenSource(client, "s3cret", provider.URL, "openid", "client_credentials", "")
	}
	api := &sdk.TokenAuth{TokenURL: g.url + "/oauth/token", TokenSource: login("robot")}

	c := g.client(t, sdk.WithAuthentication(api), sdk.WithFunctionTokenCache(sdk.NewMemoryTokenCache()))
	functions, err := c.GetFunctions(ctx, "openfaas-fn")
	require.NoError(t, err)
	require.Len(t, functions, 1, "that of the policy alone")
	require.Equal(t, "guarded", functions[0].Name)
	status, err := c.Deploy(ctx, types.FunctionDeployment{Service: "mine", Image: "x", EnvProcess: "cat"})
	require.Equal(t, http.StatusForbidden, status)
	require.ErrorContains(t, err, "Function:Create")
	require.ErrorContains(t, c.DeleteFunction(ctx, "guarded", ""), "403")

	status, _ = call(t, c, "guarded", "", false)
	require.Equal(t, http.StatusUnauthorized, status)
	for range 2 { // the second with the token that was kept
		status, body := call(t, c, "guarded", "", true)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "moo", body)
	}
	direct := g.client(t, sdk.WithFunctionTokenSource(login("robot"))) // an ID token, without an API token between
	status, _ = call(t, direct, "guarded", "openfaas-fn", true)
	require.Equal(t, http.StatusOK, status)

	// Who is refused learns why.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", nil)
	require.NoError(t, err)
	_, err = c.InvokeFunction("shout", "", false, true, req)
	require.ErrorContains(t, err, "invalid_target: audience 'openfaas-fn:shout' is not covered")
	stranger := &sdk.TokenAuth{TokenURL: g.url + "/oauth/token", TokenSource: login("stranger")}
	_, err = g.client(t, sdk.WithAuthentication(stranger)).GetFunctions(ctx, "")
	require.ErrorContains(t, err, "No policies found for subject: stranger")
	_, err = sdk.ExchangeIDToken(g.url+"/oauth/token", "junk", sdk.WithScope([]string{"function"}))
	var refusal *sdk.OAuthError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "invalid_request", refusal.Err)
}
