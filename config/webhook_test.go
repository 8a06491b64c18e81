package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	c, err := ParseWatchdog([]string{"fprocess=cat", "hmac_auth=github", "hmac_auth_secret_file=/s"})
	require.NoError(t, err)
	require.Equal(t, "github /s", c.HMACAuth+" "+c.HMACSecretFile)
	require.Equal(t, 1<<20, c.HMACMaxBody)
	require.Empty(t, c.HMACHeader+c.HMACHash)

	c, err = ParseWatchdog([]string{"fprocess=cat", "hmac_auth=generic", "hmac_auth_secret_file=/s", "hmac_auth_header=X-Sig",
		"hmac_auth_hash=md5", "hmac_auth_max_body=67108864"})
	require.NoError(t, err)
	require.Equal(t, "X-Sig md5", c.HMACHeader+" "+c.HMACHash)
	require.Equal(t, 64<<20, c.HMACMaxBody)

	c, err = ParseWatchdog([]string{"fprocess=cat", "hmac_auth=generic", "hmac_auth_secret_file=/s", "hmac_auth_header=X-Sig"})
	require.NoError(t, err)
	require.Equal(t, "sha256", c.HMACHash)

	c, err = ParseWatchdog([]string{"fprocess=cat", "hmac_auth="})
	require.NoError(t, err)
	require.Zero(t, c.HMACMaxBody)
}

func TestWebhooksBadValues(t *testing.T) {
	t.Parallel()
	const github, generic = "hmac_auth=github; hmac_auth_secret_file=/s; ", "hmac_auth=generic; hmac_auth_secret_file=/s; "
	for env, want := range map[string]string{ // separated by "; "
		"hmac_auth=true": "hmac_auth=", "hmac_auth=GitHub": "hmac_auth=",
		"hmac_auth=slack":                      "hmac_auth_secret_file=",
		"hmac_auth_secret_file=/s":             "hmac_auth=",
		"hmac_auth_header=X":                   "hmac_auth=",
		"hmac_auth_hash=md5":                   "hmac_auth=",
		"hmac_auth_max_body=1":                 "hmac_auth=",
		github + "hmac_auth_header=X":          "hmac_auth_header=",
		github + "hmac_auth_hash=sha256":       "hmac_auth_hash=",
		github + "hmac_auth_max_body=0":        "hmac_auth_max_body=",
		github + "hmac_auth_max_body=1MiB":     "hmac_auth_max_body=",
		github + "hmac_auth_max_body=67108865": "hmac_auth_max_body=",
		github + "ready_path=/ready":           "ready_path=",
		generic:                                "hmac_auth_header=",
		generic + "hmac_auth_header=X Y":       "hmac_auth_header=",
		generic + "hmac_auth_header=X:":        "hmac_auth_header=",
		// Headers that are read once however often they came, or that a token needs.
		generic + "hmac_auth_header=content-type":            "hmac_auth_header=",
		generic + "hmac_auth_header=Authorization":           "hmac_auth_header=",
		generic + "hmac_auth_header=X; hmac_auth_hash=SHA1":  "hmac_auth_hash=",
		generic + "hmac_auth_header=X; hmac_auth_hash=crc32": "hmac_auth_hash=",
	} {
		_, err := ParseWatchdog(append([]string{"fprocess=cat"}, strings.Split(env, "; ")...))
		var e *Error
		require.True(t, errors.As(err, &e), env)
		require.Len(t, e.Problems, 1, env)
		require.True(t, strings.HasPrefix(e.Problems[0], want), e.Problems[0])
	}
	// A function in http mode asks nobody for its readiness but its own server.
	_, err := ParseWatchdog([]string{"fprocess=cat", "mode=http", "upstream_url=http://127.0.0.1:1", "ready_path=/ready",
		"hmac_auth=github", "hmac_auth_secret_file=/s"})
	require.NoError(t, err)
}
