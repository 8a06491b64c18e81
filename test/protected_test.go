package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProtectedFunctions runs functions with what there is besides a token:
// claims as headers, open paths, preflights and webhooks. That none of it can be
// got around is for package watchdog's tests to show.
func TestProtectedFunctions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const secret = "what GitHub was told"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.txt"), []byte(secret+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(`
functions:
  who:
    fprocess: env
    environment:
      jwt_auth: true
      jwt_auth_headers: sub,fed:iss,email
      jwt_auth_forward_token: false
      jwt_auth_skip_paths: /,/healthz,/assets/*
  app: {fprocess: hello, environment: {mode: http, jwt_auth: true, jwt_auth_cors_preflight: true}}
  on-push: {fprocess: cat, environment: {hmac_auth: github, hmac_auth_secret_file: secret.txt}}
  both: {fprocess: cat, environment: {jwt_auth: true, hmac_auth: github, hmac_auth_secret_file: secret.txt}}
`), 0o600))
	g := startUp(t, dir, nil, "-f", "stack.yml")
	for name, access := range map[string]string{
		"who": "with a function token", "on-push": "with a signature", "both": "with token or signature",
	} {
		require.Regexp(t, `(?m)^  `+name+` +`+access+` +`+regexp.QuoteMeta(g.url)+`/function/`+name+`$`, g.stdout.String())
	}
	bearer := "Authorization: Bearer " + g.functionToken(t)

	seen := get(t, g.url+"/function/who/x", bearer, "X-Auth-Email: eve@example.com", "X_Auth_Subject: eve").body
	require.Contains(t, seen, "Http_X_Auth_Subject=fed:alice\n")
	require.Contains(t, seen, "Http_X_Auth_Fed_Iss="+g.url+"/dev-idp\n")
	require.NotContains(t, seen, "eve")
	require.NotContains(t, seen, "Http_Authorization")
	for path, status := range map[string]int{
		"/": 200, "/healthz": 200, "/assets/x.css": 200,
		"/assets": 401, "/assets/": 401, "/healthz/": 401, "/assets/%6c": 401, "/assets/../x": 401, "/assets//x": 401, "/assets/x;y": 401,
	} {
		require.Equal(t, status, rawGet(t, g.url, "/function/who"+path), path)
	}

	preflight := []string{"Origin: https://example.com", "Access-Control-Request-Method: PUT"}
	require.Equal(t, 200, do(t, http.MethodOptions, g.url+"/function/app/x", "", preflight...).status)
	require.Equal(t, 401, do(t, http.MethodOptions, g.url+"/function/app/x", "").status)
	require.Equal(t, 401, do(t, http.MethodPut, g.url+"/function/app/x", "", preflight...).status)

	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("pushed"))
	signature := "X-Hub-Signature-256: sha256=" + hex.EncodeToString(mac.Sum(nil))
	for _, name := range []string{"on-push", "both"} {
		require.Equal(t, "pushed", do(t, http.MethodPost, g.url+"/function/"+name, "pushed", signature).body)
		require.Equal(t, 401, do(t, http.MethodPost, g.url+"/function/"+name, "pulled", signature).status)
		require.Equal(t, 401, do(t, http.MethodPost, g.url+"/function/"+name, "pushed").status)
	}
	require.Equal(t, "anything", do(t, http.MethodPost, g.url+"/function/both", "anything", bearer).body)
	require.Equal(t, 401, do(t, http.MethodPost, g.url+"/function/both", "pulled", bearer, signature).status)
	require.Equal(t, 401, do(t, http.MethodPost, g.url+"/function/on-push", "pushed", bearer).status)
}
