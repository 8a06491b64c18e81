package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway"
	"github.com/gatehound/gatehound/gateway/dashboard"
)

// openDashboard returns the pages for people, or nil if the settings want none, and
// what has to run beside them. address is where this gateway listens: the pages use
// its API. client reaches the provider where people log in.
func openDashboard(settings config.Gateway, address net.Addr, c dashboard.Config, client *http.Client) (*gateway.Dashboard, func(context.Context), error) {
	if !settings.Dashboard {
		return nil, func(context.Context) {}, nil
	}
	c.API = selfTransport(address)
	c.PublicURL = settings.PublicURL
	c.DefaultNamespace = settings.FunctionNamespace
	if settings.PrimaryIssuer != "" {
		secret, err := readClientSecret(settings.OAuthClientSecretFile)
		if err != nil {
			return nil, nil, err
		}
		c.Provider = &login.Config{Issuer: settings.PrimaryIssuer, ClientID: settings.OAuthClientID, ClientSecret: secret, Scopes: settings.OAuthScopes, HTTP: client}
	}
	pages, err := dashboard.New(c)
	if err != nil {
		return nil, nil, fmt.Errorf("the dashboard: %w", err)
	}
	return &gateway.Dashboard{Handler: pages, MaxForm: pages.MaxForm, PublicURL: settings.PublicURL, CookieMark: dashboard.CookieMark}, pages.Run, nil
}

// selfTransport sends requests to the gateway that listens on address, whatever
// host they name. No proxy comes in between: they bring credentials.
func selfTransport(address net.Addr) http.RoundTripper {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, address.Network(), address.String())
		},
		DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}
}

// readClientSecret reads the dashboard's secret at the provider; "" = it has none.
func readClientSecret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("oauth_client_secret_file: %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", fmt.Errorf("oauth_client_secret_file: %s is empty", file)
	}
	return secret, nil
}

// publicURL is where browsers find the dashboard; "" = where we listen.
func publicURL(settings config.Gateway) string {
	if settings.PublicURL == nil {
		return ""
	}
	return settings.PublicURL.String()
}
