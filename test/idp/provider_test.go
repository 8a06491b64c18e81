package idp

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"
)

// The provider's clients, its user, and where its browser is sent in the end:
// nobody listens there.
const (
	nativeClient  = "native"
	webClient     = "web"
	serviceClient = "sid1"
	deviceClient  = "device"
	redirectURL   = "http://localhost:1/auth/callback"
	user          = "id2"
	// Where `pro` waits: on any port for the native client, on this one for the other.
	callbackPath = "/oauth/callback"
	implicitPort = "31117"
	// Ports for one test each, below those that the kernel gives to whoever wants any.
	proPort, refusedPort, dexPort = "31118", "31119", "31120"
)

// provider is an OpenID provider that others wrote.
type provider struct {
	issuer     string
	discovered *oidc.Provider
}

// newProvider starts zitadel's example.
func newProvider(t *testing.T) *provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://" + server.Listener.Addr().String()
	clients := map[string]*storage.Client{
		nativeClient: storage.NativeClient(nativeClient, redirectURL, "http://127.0.0.1"+callbackPath),
		webClient:    storage.WebClient(webClient, "secret", redirectURL, "http://localhost:"+implicitPort+callbackPath),
		deviceClient: storage.DeviceClient(deviceClient, "secret"),
	}
	store := jwtStorage{storage.NewStorageWithClients(storage.NewUserStore(issuer), clients)}
	server.Config.Handler = exampleop.SetupServer(issuer, store, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	server.Start()
	t.Cleanup(server.Close)
	discovered, err := oidc.NewProvider(t.Context(), issuer)
	require.NoError(t, err)
	return &provider{issuer, discovered}
}

// jwtStorage gives clients access tokens that are JWTs, as most providers do;
// the example's are opaque.
type jwtStorage struct{ *storage.Storage }

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func (s jwtStorage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return jwtClient{c}, err
}

func (s jwtStorage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := s.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{c}, err
}

// CompleteDeviceAuthorization knows the user by the ID that tokens have; the
// example forgets to look it up.
func (s jwtStorage) CompleteDeviceAuthorization(ctx context.Context, code, _ string) error {
	return s.Storage.CompleteDeviceAuthorization(ctx, code, user)
}

func (p *provider) oauth2(client, secret string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: client, ClientSecret: secret, Endpoint: p.discovered.Endpoint(), RedirectURL: redirectURL,
		Scopes: []string{oidc.ScopeOpenID, "email", oidc.ScopeOfflineAccess},
	}
}

var hidden = regexp.MustCompile(`name="id" value="([^"]+)"`)

// login logs in at zitadel's form.
func (p *provider) login(t *testing.T, c *oauth2.Config) *oauth2.Token {
	t.Helper()
	return codeFlow(t, c, func(page *url.URL, form []byte) (string, url.Values) {
		id := hidden.FindSubmatch(form)
		require.NotNil(t, id, "%s", form)
		return "/login/username", url.Values{"id": {string(id[1])}, "username": {"test-user2"}, "password": {"verysecure"}}
	})
}

// codeFlow goes through the code flow with PKCE as a browser would. fill fills
// the login form in, and says where it is sent.
func codeFlow(t *testing.T, c *oauth2.Config, fill func(page *url.URL, form []byte) (action string, fields url.Values)) *oauth2.Token {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	var callback *url.URL
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Host == "localhost:1" {
			callback = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	verifier := oauth2.GenerateVerifier()
	page, err := browser.Get(c.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier)))
	require.NoError(t, err)
	form, err := io.ReadAll(page.Body)
	page.Body.Close()
	require.NoError(t, err)
	action, fields := fill(page.Request.URL, form)
	target, err := page.Request.URL.Parse(action)
	require.NoError(t, err)
	res, err := browser.PostForm(target.String(), fields)
	require.NoError(t, err)
	res.Body.Close()
	require.NotNil(t, callback, "the login ends elsewhere: %s", res.Status)
	require.Equal(t, "the-state", callback.Query().Get("state"))
	token, err := c.Exchange(t.Context(), callback.Query().Get("code"), oauth2.VerifierOption(verifier))
	require.NoError(t, err)
	return token
}
