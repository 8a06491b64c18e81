package idp

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2/clientcredentials"
)

// startDex starts the program DEX, with a user dev@example.com.
func startDex(t *testing.T) *provider {
	t.Helper()
	const address = "127.0.0.1:" + dexPort
	issuer := "http://" + address + "/dex"
	config := filepath.Join(t.TempDir(), "dex.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
issuer: %s
storage: {type: memory}
web: {http: %q}
oauth2:
  skipApprovalScreen: true
  passwordConnector: local
  grantTypes: [authorization_code, refresh_token, password, client_credentials]
staticClients:
- {id: native, name: native, secret: the-secret, redirectURIs: [%q]}
enablePasswordDB: true
staticPasswords:
- {email: dev@example.com, username: dev, userID: 08a8684b, hash: %q}
`, issuer, address, redirectURL, "$2a$10$yBfPg6ckIxNH2mvmMjULhOb6YPbrxihRKabeBtn5kewUtnpYmhwE2"), 0o600))
	printed := new(output)
	cmd := exec.Command(os.Getenv("DEX"), "serve", config)
	cmd.Stdout, cmd.Stderr = printed, printed
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has no state, and waits long for its clients
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Dex printed\n%s", printed)
		}
	})
	p := &provider{issuer: issuer}
	require.Eventually(t, func() bool {
		var err error
		// Its keys are found with this context, later too.
		p.discovered, err = oidc.NewProvider(context.Background(), issuer)
		return err == nil
	}, patience, 50*time.Millisecond, "Dex never answers")
	return p
}

// TestDex needs a built Dex, and so is not among the other tests: see README.md.
func TestDex(t *testing.T) {
	t.Parallel()
	if os.Getenv("DEX") == "" {
		t.Skip("NOT TESTED WITH DEX: set DEX to its program")
	}
	p := startDex(t)
	c := p.oauth2(nativeClient, "the-secret")
	login := codeFlow(t, c, func(page *url.URL, _ []byte) (string, url.Values) {
		return page.String(), url.Values{"login": {"dev@example.com"}, "password": {"verysecure"}}
	})
	id, err := p.discovered.Verifier(&oidc.Config{ClientID: nativeClient}).Verify(t.Context(), login.Extra("id_token").(string))
	require.NoError(t, err)
	machine := clientcredentials.Config{ClientID: nativeClient, ClientSecret: "the-secret", TokenURL: c.Endpoint.TokenURL, Scopes: []string{"openid"}}
	service, err := machine.Token(t.Context())
	require.NoError(t, err)
	serviceID, err := p.discovered.Verifier(&oidc.Config{ClientID: nativeClient}).Verify(t.Context(), service.AccessToken)
	require.NoError(t, err)

	g := startGateway(t, objects(p.issuer, []string{nativeClient}, []string{id.Subject, serviceID.Subject}))
	g.opens(t, "ID token of a code flow", login.Extra("id_token").(string), "id_token")
	g.opens(t, "access token of a code flow", login.AccessToken, "access_token")
	g.opens(t, "access token of client credentials", service.AccessToken, "access_token")
	password, err := c.PasswordCredentialsToken(t.Context(), "dev@example.com", "verysecure")
	require.NoError(t, err)
	g.opens(t, "ID token of a password", password.Extra("id_token").(string), "id_token")
}
