package config

import (
	"net/textproto"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func parseProtected(env ...string) (Watchdog, error) {
	return ParseWatchdog(append([]string{"fprocess=cat", "mode=http", "upstream_url=http://127.0.0.1:3000",
		"jwt_auth=true", "OPENFAAS_NAME=env"}, env...))
}

func TestJWTAuthSettings(t *testing.T) {
	t.Parallel()
	c, err := parseProtected("jwt_auth_leeway=0", "jwt_auth_refresh=30s", "jwt_auth_keep_keys=1m", "jwt_auth_issuer=https://gw.example.com/",
		"jwt_auth_headers=sub, iss,fed:iss,preferred_username,https://x/claims/E-Mail", "jwt_auth_forward_token=false",
		"jwt_auth_skip_paths=/public/*, /healthz,/,/docs/,/a/b/*,/_/metrics", "jwt_auth_cors_preflight=true")
	require.NoError(t, err)
	require.Zero(t, c.JWTLeeway)
	require.Equal(t, 30*time.Second, c.JWTRefresh)
	require.Equal(t, time.Minute, c.JWTKeepKeys)
	require.Equal(t, "https://gw.example.com/", c.JWTIssuer)
	require.Equal(t, clusterAuthority, c.JWTAuthority)
	require.Equal(t, []ClaimHeader{
		{"sub", "X-Auth-Subject"}, {"iss", "X-Auth-Issuer"}, {"fed:iss", "X-Auth-Fed-Iss"},
		{"preferred_username", "X-Auth-Preferred-Username"}, {"https://x/claims/E-Mail", "X-Auth-Https-X-Claims-E-Mail"},
	}, c.JWTHeaders)
	require.True(t, c.JWTHideToken)
	require.Equal(t, []string{"/public/*", "/healthz", "/", "/docs/", "/a/b/*", "/_/metrics"}, c.JWTSkipPaths)
	require.True(t, c.JWTPreflight)

	c, err = parseProtected("jwt_auth_jwks_file=/run/keys.json", "jwt_auth_issuer=https://gw.example.com")
	require.NoError(t, err)
	require.Equal(t, "/run/keys.json", c.JWTKeysFile)
	require.Empty(t, c.JWTAuthority)
}

func TestJWTAuthBadSettings(t *testing.T) {
	t.Parallel()
	many := "jwt_auth_headers=" + strings.Join(strings.Split("abcdefghijklmnopq", ""), ",")
	for _, c := range []struct{ env, says string }{
		{"jwt_auth_leeway=61s", "no more than 60s"},
		{"jwt_auth_leeway=-1s", "a duration"},
		{"jwt_auth_refresh=999ms", "at least 1s"},
		{"jwt_auth_refresh=0", "at least 1s"},
		{"jwt_auth_keep_keys=599s", "at least twice jwt_auth_refresh, which is 5m0s"},
		{"jwt_auth_refresh=24h", "at least twice jwt_auth_refresh"},
		{"jwt_auth_issuer=gateway", "an http:// or https:// URL"},
		{"jwt_auth_jwks_file=/keys.json", `jwt_auth_issuer="": want the issuer`},
		{"jwt_auth_jwks_file=/keys.json jwt_auth_issuer=http://gw jwt_auth_authority=http://gw", "keys come from one place"},
		{"jwt_auth_jwks_file=/keys.json jwt_auth_issuer=http://gw jwt_auth_local=true", "keys come from one place"},
		{"jwt_auth_headers=sub,subject", `"sub" and "subject" are both X-Auth-Subject`},
		{"jwt_auth_headers=a:b,a-B", "are both X-Auth-A-B"},
		{"jwt_auth_headers=sub,,iss", "names of claims"},
		{"jwt_auth_headers=sub,:", "names of claims"},
		{"jwt_auth_headers=ü", "names of claims"},
		{many, "at most 16 claims"},
		{"jwt_auth_forward_token=no", "true or false"},
		{"jwt_auth_cors_preflight=yes", "true or false"},
		{"jwt_auth_cors_preflight=true mode=streaming", "false in mode streaming"},
		{"jwt_auth_cors_preflight=true mode=serializing", "false in mode serializing"},
		{"jwt_auth_cors_preflight=true mode=static", "false in mode static"},
		{"jwt_auth=false jwt_auth_cors_preflight=true", "without jwt_auth"},
		{"jwt_auth=false jwt_auth_headers=sub", "without jwt_auth"},
		{"jwt_auth=false jwt_auth_skip_paths=/x", "without jwt_auth"},
		{"jwt_auth=false jwt_auth_jwks_file=/keys.json jwt_auth_issuer=http://gw", "without jwt_auth"},
		{"jwt_auth_skip_paths=/*", "jwt_auth=false to open every path"},
		{"jwt_auth_skip_paths=public", "want paths such as"},
		{"jwt_auth_skip_paths=/public/**", "want paths such as"},
		{"jwt_auth_skip_paths=/public*", "want paths such as"},
		{"jwt_auth_skip_paths=/*/x", "want paths such as"},
		{"jwt_auth_skip_paths=/a//b", "want paths such as"},
		{"jwt_auth_skip_paths=/a//*", "want paths such as"},
		{"jwt_auth_skip_paths=//*", "want paths such as"},
		{"jwt_auth_skip_paths=/a/../b", "want paths such as"},
		{"jwt_auth_skip_paths=/a/.", "want paths such as"},
		{"jwt_auth_skip_paths=/a/.../*", "want paths such as"},
		{"jwt_auth_skip_paths=/%70ublic", "want paths such as"},
		{"jwt_auth_skip_paths=/a;b", "want paths such as"},
		{`jwt_auth_skip_paths=/a\b`, "want paths such as"},
		{"jwt_auth_skip_paths=/ä", "want paths such as"},
		{"jwt_auth_skip_paths=/a?b", "want paths such as"},
		{"jwt_auth_skip_paths=/a,,/b", "want paths such as"},
	} {
		_, err := parseProtected(strings.Fields(c.env)...)
		require.ErrorContains(t, err, c.says, c.env)
		require.Len(t, err.(*Error).Problems, 1, c.env)
	}
}

// A plain path is one that Go's own cleaning leaves as it is.
func FuzzPlainPath(f *testing.F) {
	for _, p := range []string{"/", "/a/b", "/a/", "//", "/a/../b", "/.../x", "/a.b", "/a%2fb", "/a;x", `/a\b`, "", "a", "/é"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !PlainPath(p) {
			return
		}
		clean := path.Clean(p)
		if strings.HasSuffix(p, "/") && p != "/" {
			clean += "/"
		}
		require.Equal(t, clean, p)
		require.NotContains(t, p+"/", "/.../")
		require.False(t, strings.ContainsAny(p, "%;\\?# \x00"))
	})
}

func FuzzClaimHeader(f *testing.F) {
	for _, c := range []string{"sub", "fed:iss", "", "::", "é", "a b", "A--b", "kubernetes.io"} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, claim string) {
		h := claimHeader(claim)
		if h == "" {
			return
		}
		require.True(t, strings.HasPrefix(h, "X-Auth-") && len(h) > len("X-Auth-"), h)
		require.Equal(t, textproto.CanonicalMIMEHeaderKey(h), h)
		require.NotContains(t, h, "--")
		require.Empty(t, strings.Trim(h, "-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	})
}
