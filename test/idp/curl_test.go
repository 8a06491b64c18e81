package idp

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// machineFlow is OpenFaaS' documentation for machines, as it is printed there
// but for where the URLs and the answers go.
const machineFlow = `
export IDP_TOKEN_URL="$PROVIDER_TOKEN_URL"
export CLIENT_ID="sid1"
export CLIENT_SECRET="$(cat ./client-secret.txt)"
curl -S -L -X POST "${IDP_TOKEN_URL}" \
    --header 'Content-Type: application/x-www-form-urlencoded' \
    --data-urlencode "client_id=${CLIENT_ID}" \
    --data-urlencode "client_secret=${CLIENT_SECRET}" \
    --data-urlencode 'scope=email' \
    --data-urlencode 'grant_type=client_credentials' | access_token > token.txt

export IDP_TOKEN_URL="$GATEWAY_TOKEN_URL"
export TOKEN="$(cat token.txt)"
curl -S -L -X POST "${IDP_TOKEN_URL}" \
--header 'Content-Type: application/x-www-form-urlencoded' \
--data-urlencode "subject_token=${TOKEN}" \
--data-urlencode "subject_token_type=urn:ietf:params:oauth:token-type:id_token" \
--data-urlencode 'grant_type=urn:ietf:params:oauth:grant-type:token-exchange' \
--data-urlencode 'scope=function' \
--data-urlencode 'audience=openfaas-fn:env' | access_token > function-token.txt

curl -i "$FUNCTION_URL" \
    -H "Authorization: Bearer $(cat ./function-token.txt)"
`

// TestMachineFlow runs it, with a provider that others wrote.
func TestMachineFlow(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, strings.ReplaceAll(objects(p.issuer, []string{serviceClient}, []string{serviceClient}), "openfaas-fn:shout", "openfaas-fn:*"))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "client-secret.txt"), []byte("verysecret\n"), 0o600))
	script := exec.Command("bash", "-eu", "-o", "pipefail")
	script.Dir = dir
	script.Env = append(os.Environ(), "PROVIDER_TOKEN_URL="+p.discovered.Endpoint().TokenURL,
		"GATEWAY_TOKEN_URL="+g.url+"/oauth/token", "FUNCTION_URL="+g.url+"/function/env")
	script.Stdin = strings.NewReader(`access_token() { sed 's/.*"access_token":"\([^"]*\)".*/\1/'; }` + machineFlow)
	out, err := script.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "HTTP/1.1 200 OK\r\n")

	token, err := os.ReadFile(filepath.Join(dir, "function-token.txt"))
	require.NoError(t, err)
	narrow := strings.TrimSpace(string(token))
	require.Equal(t, http.StatusOK, g.call(t, "env", narrow))
	require.Equal(t, http.StatusForbidden, g.call(t, "shout", narrow), "the audience narrows what the machine may do")
	require.NotContains(t, g.stderr.String(), narrow)
}
