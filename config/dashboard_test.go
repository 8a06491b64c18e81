package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseDashboard(t *testing.T) {
	t.Parallel()
	c, err := ParseGateway(nil)
	require.NoError(t, err)
	require.True(t, c.Dashboard)
	require.Empty(t, c.PrimaryIssuer)
	require.Nil(t, c.PublicURL)
	require.Equal(t, []string{"openid", "profile", "email"}, c.OAuthScopes)

	c, err = ParseGateway([]string{"dashboard=false", "primary_issuer=https://idp.example.com/realms/a/", "oauth_client_id=gw",
		"oauth_client_secret_file=/s", "oauth_scopes=openid,groups offline_access", "public_url=https://gw.example.com/"})
	require.NoError(t, err)
	require.False(t, c.Dashboard)
	require.Equal(t, "https://idp.example.com/realms/a/", c.PrimaryIssuer, "the slash may be part of its name")
	require.Equal(t, "gw", c.OAuthClientID)
	require.Equal(t, "/s", c.OAuthClientSecretFile)
	require.Equal(t, []string{"openid", "groups", "offline_access"}, c.OAuthScopes)
	require.Equal(t, "gw.example.com", c.PublicURL.Host)

	for environ, want := range map[string]string{
		"primary_issuer=https://idp":      `oauth_client_id=""`,
		"oauth_client_id=gw":              `primary_issuer=""`,
		"primary_issuer=idp":              `primary_issuer="idp"`,
		"primary_issuer=https://idp?a=b":  `primary_issuer="https://idp?a=b"`,
		"oauth_client_secret_file=/s":     `oauth_client_secret_file="/s"`,
		"oauth_scopes=profile":            `oauth_scopes="profile"`,
		"public_url=gw.example.com":       `public_url="gw.example.com"`,
		"public_url=https://gw/dashboard": `public_url="https://gw/dashboard"`,
		"public_url=https://u:p@gw":       `public_url="https://[hidden]@gw"`,
		"dashboard=perhaps":               `dashboard="perhaps"`,
	} {
		_, err := ParseGateway([]string{environ})
		require.ErrorContains(t, err, want, environ)
	}
}
