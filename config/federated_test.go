package config

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseFederated(t *testing.T) {
	t.Parallel()
	needed := []string{"issuer=https://example.eu.auth0.com/", "audience=fed-gw.example.com", "secret_mount_path=/var/secrets"}
	c, err := ParseFederated(needed)
	require.NoError(t, err)
	require.Equal(t, Federated{
		Address: ":8080", MetricsAddress: ":8082",
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, UpstreamTimeout: time.Minute,
		Gateway: &url.URL{Scheme: "http", Host: "gateway.openfaas:8080"},
		Issuer:  "https://example.eu.auth0.com/", Audience: "fed-gw.example.com", SecretMountPath: "/var/secrets",
	}, c, "Auth0's issuer keeps its slash")

	c, err = ParseFederated(append(needed, "listen=127.0.0.1:9000", "metrics_port=0", "gateway_url=http://127.0.0.1:8081/",
		"allow_invoke=true", "debug=1", "log_encoding=json", "read_timeout=5", "write_timeout=6s", "upstream_timeout=2m",
		"ca_bundle_path=/ca.pem", "insecure_tls=true"))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9000", c.Address)
	require.Empty(t, c.MetricsAddress)
	require.Equal(t, "127.0.0.1:8081", c.Gateway.Host)
	require.Equal(t, []time.Duration{5 * time.Second, 6 * time.Second, 2 * time.Minute}, []time.Duration{c.ReadTimeout, c.WriteTimeout, c.UpstreamTimeout})
	require.Equal(t, "/ca.pem", c.CABundlePath)
	require.True(t, c.AllowInvoke && c.Debug && c.LogJSON && c.InsecureTLS)
}

func TestParseFederatedProblems(t *testing.T) {
	t.Parallel()
	_, err := ParseFederated(nil)
	var problems *Error
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems.Problems, 3, "issuer, audience and secret_mount_path have no default")

	// All at once, each with its name.
	_, err = ParseFederated([]string{"port=x", "metrics_port=-1", "gateway_url=https://gateway", "issuer=keycloak", "audience=a",
		"secret_mount_path=/s", "allow_invoke=yes", "debug=maybe", "log_encoding=xml", "read_timeout=x", "write_timeout=0",
		"upstream_timeout=-1s", "insecure_tls=2"})
	require.ErrorAs(t, err, &problems)
	require.Len(t, problems.Problems, 11)
	require.ErrorContains(t, err, "put a proxy that speaks it beside")
	for _, bad := range []string{
		"gateway_url=http://gateway/prefix", "gateway_url=http://gateway?x", "gateway_url=http://gateway?", "gateway_url=http://:8080",
		"gateway_url=http://root:word@gateway", "gateway_url=gateway:8080", "listen=unix:///x.sock", "listen=8080",
		"issuer=https://root:word@idp", "issuer=https://idp?tenant=1", "issuer=https://idp/#x",
		"issuer=https://idp/ ", "audience=a\n", "audience= ",
	} {
		_, err = ParseFederated([]string{"issuer=https://idp", "audience=a", "secret_mount_path=/s", bad})
		require.ErrorAs(t, err, &problems, bad)
		require.Len(t, problems.Problems, 1, bad)
		require.NotContains(t, err.Error(), "word@", bad)
	}
}
