package idp

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/openfaas/go-sdk"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// apiStorage gives machines tokens for an audience of its own, as Auth0 does for
// the API that is asked for; "" = for the client itself, as Keycloak can.
type apiStorage struct {
	jwtStorage
	audience string
}

func (s apiStorage) ClientCredentialsTokenRequest(ctx context.Context, client string, scopes []string) (op.TokenRequest, error) {
	r, err := s.jwtStorage.ClientCredentialsTokenRequest(ctx, client, scopes)
	if s.audience == "" || err != nil {
		return r, err
	}
	return apiRequest{r, s.audience}, nil
}

type apiRequest struct {
	op.TokenRequest
	audience string
}

func (r apiRequest) GetAudience() []string { return []string{r.audience} }

// newRealm starts zitadel's example below a path, where Keycloak has its realms.
func newRealm(t *testing.T, path, audience string) *provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://" + server.Listener.Addr().String() + path
	store := apiStorage{jwtStorage{storage.NewStorageWithClients(storage.NewUserStore(issuer), nil)}, audience}
	server.Config.Handler = http.StripPrefix(path, exampleop.SetupServer(issuer, store, slog.New(slog.NewTextHandler(io.Discard, nil)), false))
	server.Start()
	t.Cleanup(server.Close)
	discovered, err := oidc.NewProvider(t.Context(), issuer)
	require.NoError(t, err)
	return &provider{issuer, discovered}
}

// startFederated starts the built federated gateway in front of g.
func startFederated(t *testing.T, g *gateway, env ...string) *gateway {
	t.Helper()
	f := &gateway{stderr: new(output)}
	cmd := exec.Command(filepath.Join(filepath.Dir(binary), "federated-gateway"))
	cmd.Stderr = f.stderr
	cmd.Env = append([]string{"listen=127.0.0.1:0", "metrics_port=0", "gateway_url=" + g.url, "log_encoding=json", "debug=true",
		"secret_mount_path=" + filepath.Join(g.dir, ".gatehound", "secrets")}, env...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if t.Failed() {
			t.Logf("the federated gateway printed\n%s", f.stderr)
		}
	})
	require.Eventually(t, func() bool {
		match := listening.FindStringSubmatch(f.stderr.String())
		if match != nil {
			f.url = match[1]
		}
		return match != nil
	}, patience, 10*time.Millisecond, "never listened")
	return f
}

// federatedFlow is the documentation's for the federated gateway, as it is printed
// there but for where the URLs and the answers go.
const federatedFlow = `
export IDP_TOKEN_URL="$PROVIDER_TOKEN_URL"
export CLIENT_ID="sid1"
export CLIENT_SECRET="verysecret"
curl -S -L -X POST "${IDP_TOKEN_URL}" \
--header 'Content-Type: application/x-www-form-urlencoded' \
--data-urlencode "client_id=${CLIENT_ID}" \
--data-urlencode "client_secret=${CLIENT_SECRET}" \
--data-urlencode 'scope=email' \
--data-urlencode 'grant_type=client_credentials' \
--data-urlencode 'audience=fed-gw.example.com' | access_token > token.txt

curl -s -i "$FEDERATED_URL/system/functions" -H "Authorization: Bearer $(cat token.txt)"
`

func TestFederated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ path, issued, wanted string }{
		"as Keycloak: the audience is the client":     {"/realms/openfaas", "", serviceClient},
		"as Auth0: the audience is an API of its own": {"", "fed-gw.example.com", "fed-gw.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newRealm(t, c.path, c.issued)
			g := startGateway(t, objects("https://nobody.example.com", []string{"x"}, []string{"x"}))
			f := startFederated(t, g, "issuer="+p.issuer, "audience="+c.wanted)
			other := startFederated(t, g, "issuer="+p.issuer, "audience=other", "allow_invoke=true")
			calls := startFederated(t, g, "issuer="+p.issuer, "audience="+c.wanted, "allow_invoke=true")

			dir := t.TempDir()
			script := exec.Command("bash", "-eu", "-o", "pipefail")
			script.Dir = dir
			script.Env = append(os.Environ(), "PROVIDER_TOKEN_URL="+p.discovered.Endpoint().TokenURL, "FEDERATED_URL="+f.url)
			script.Stdin = strings.NewReader(`access_token() { sed 's/.*"access_token":"\([^"]*\)".*/\1/'; }` + federatedFlow)
			out, err := script.Output()
			require.NoError(t, err)
			require.Contains(t, string(out), "HTTP/1.1 200 OK\r\n")
			require.Contains(t, string(out), `"name":"shout"`)

			// go-sdk does the same.
			login := sdk.NewClientCredentialsTokenSource(serviceClient, "verysecret", p.discovered.Endpoint().TokenURL, "email", "client_credentials", c.issued)
			token, err := login.Token()
			require.NoError(t, err)
			client := func(g *gateway) *sdk.Client {
				u, err := url.Parse(g.url)
				require.NoError(t, err)
				return sdk.NewClient(u, sdk.NewClientCredentialsAuth(login), &http.Client{Timeout: patience})
			}
			functions, err := client(f).GetFunctions(t.Context(), "openfaas-fn")
			require.NoError(t, err)
			require.Len(t, functions, 2)
			require.NoError(t, client(f).ScaleFunction(t.Context(), "env", "openfaas-fn", 1))
			_, err = client(f).GetLogs(t.Context(), "env", "openfaas-fn", false, 5, nil)
			require.NoError(t, err)
			_, err = client(other).GetFunctions(t.Context(), "openfaas-fn")
			require.Error(t, err, "the same issuer, another audience")

			require.Equal(t, http.StatusNotFound, f.call(t, "env", token))
			require.Equal(t, http.StatusUnauthorized, other.call(t, "env", token))
			require.Equal(t, http.StatusUnauthorized, calls.call(t, "env", token), "the function's own check, which wants a function token")
			require.Eventually(t, func() bool { return strings.Contains(calls.stderr.String(), `"path":"/function/env"`) }, patience, 10*time.Millisecond)
			require.NotContains(t, calls.stderr.String(), `"message":"unauthenticated"`)
			// The password may change while it runs.
			secrets := t.TempDir()
			write := func(password string) {
				require.NoError(t, os.WriteFile(filepath.Join(secrets, "basic-auth-user"), []byte("admin"), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(secrets, "basic-auth-password"), []byte(password), 0o600))
			}
			good, err := os.ReadFile(filepath.Join(g.dir, ".gatehound", "secrets", "basic-auth-password"))
			require.NoError(t, err)
			write("an old password")
			late := startFederated(t, g, "issuer="+p.issuer, "audience="+c.wanted, "secret_mount_path="+secrets)
			_, err = client(late).GetFunctions(t.Context(), "openfaas-fn")
			require.ErrorContains(t, err, "does not accept this federated gateway's credentials")
			write(string(good))
			require.Eventually(t, func() bool {
				_, err := client(late).GetFunctions(t.Context(), "openfaas-fn")
				return err == nil
			}, patience, 50*time.Millisecond)
			require.NotContains(t, late.stderr.String(), strings.TrimSpace(string(good)))

			for _, printed := range []string{f.stderr.String(), other.stderr.String(), calls.stderr.String(), g.stderr.String()} {
				require.NotContains(t, printed, token)
			}
			require.Contains(t, f.stderr.String(), `"subject":"sid1"`)
		})
	}
}
