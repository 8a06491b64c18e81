package test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const carolMayDo = `apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: people}
spec: {iss: "%[1]s", aud: [dashboard], tokenExpiry: 30m}
---
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: do}
spec:
  statement:
  - {effect: Allow, action: ["Function:*"], resource: ["openfaas-fn:*"]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: doers}
spec:
  policy: [do]
  condition: {StringEqual: {"jwt:iss": ["%[1]s"], "jwt:sub": [carol]}}
`

// TestDashboardPages takes a function through its life by forms: it is deployed,
// called with a function token, followed, changed, scaled and deleted.
func TestDashboardPages(t *testing.T) {
	t.Parallel()
	idp := newOpenID(t)
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, ".gatehound/iam"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".gatehound/iam/people.yaml"), fmt.Appendf(nil, carolMayDo, idp.URL), 0o600))
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret\n"), 0o600))
	g := startUp(t, dir, []string{"primary_issuer=" + idp.URL, "oauth_client_id=dashboard", "oauth_client_secret_file=" + secret})
	b := newBrowser(t, g.url)
	_, at := b.open(t, "/ui/login/provider")
	require.Equal(t, "/ui/", at)
	csrf := b.csrf(t)
	form := func(pairs ...string) url.Values {
		values := url.Values{"_csrf": {csrf}}
		for i := 0; i < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		return values
	}

	const page = "/ui/functions/openfaas-fn/shout"
	fields := form("namespace", "openfaas-fn", "name", "shout", "image", "test/shout", "process", "tr a-z A-Z", "environment", "mode=serializing\r\ncontent_type=text/html",
		"jwt_auth", "true", "annotations", "com.example=<script>alert(1)</script>")
	deployed, at := b.send(t, "/ui/deploy", fields)
	require.Equal(t, page, at, deployed.body)
	require.Contains(t, deployed.body, "shout is being deployed.")
	require.Contains(t, deployed.body, "needs a token")
	require.NotContains(t, deployed.body, "<script>alert")
	eventually(t, func() bool { return get(t, g.url+"/function/shout").status == 401 }, "the function is never ready")

	call := form("method", "POST", "path", "/x", "body", "<script>hello</script>", "token", "true")
	answer, _ := b.send(t, page+"/invoke", call)
	require.Contains(t, answer.body, "200 OK")
	require.Contains(t, answer.body, "&lt;SCRIPT&gt;HELLO&lt;/SCRIPT&gt;")
	require.Contains(t, answer.body, "a function token")
	require.NotContains(t, answer.body, "eyJ")
	call.Del("token")
	answer, _ = b.send(t, page+"/invoke", call)
	require.Contains(t, answer.body, "401 Unauthorized")

	eventually(t, func() bool { // what a function writes is on its way for a moment
		logs, _ := b.open(t, page+"/logs")
		return strings.Contains(logs.body, "Serving mode serializing")
	}, "the log has no line of the function")
	stream, err := http.NewRequest(http.MethodGet, g.url+page+"/logs/stream", nil)
	require.NoError(t, err)
	res, err := b.Do(stream)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	call.Set("token", "true")
	b.send(t, page+"/invoke", call)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), "POST /x - 200 OK") {
	}
	require.NoError(t, lines.Err())
	require.True(t, strings.HasPrefix(lines.Text(), `data: {"time":"`), lines.Text())

	fields.Set("process", "tr a-z b-za")
	fields.Del("jwt_auth")
	changed, at := b.send(t, page+"/change", fields)
	require.Equal(t, page, at, changed.body)
	require.Contains(t, changed.body, "open to everybody")
	eventually(t, func() bool { return do(t, "POST", g.url+"/function/shout", "hal").body == "ibm" }, "the change never comes")
	scaled, _ := b.send(t, page+"/scale", form("replicas", "2"))
	require.Contains(t, scaled.body, "shout is being scaled to 2.")
	eventually(t, func() bool { a, _ := b.open(t, page); return strings.Contains(a.body, "2 of 2 ready") }, "it is never scaled")
	refused, _ := b.send(t, page+"/scale", form("replicas", "-1"))
	require.Equal(t, 400, refused.status)
	unproven, _ := b.send(t, page+"/delete", nil)
	require.Contains(t, unproven.body, "Nothing was done", "without the form's token")
	there, _ := b.open(t, page)
	require.Contains(t, there.body, "2 of 2 ready")
	refused, _ = b.open(t, "/ui/secrets")
	require.Equal(t, 403, refused.status)
	why, _ := b.send(t, "/ui/iam", form("action", "Secret:List"))
	require.Contains(t, why.body, "not allowed")
	list, at := b.send(t, page+"/delete", form())
	require.Equal(t, "/ui/", at)
	require.Contains(t, list.body, "shout was deleted.")
	require.Equal(t, 404, get(t, g.url+"/function/shout").status)

	// Secrets are the administrator's here.
	admin := newBrowser(t, g.url)
	admin.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {g.password(t)}})
	csrf = admin.csrf(t)
	created, _ := admin.send(t, "/ui/secrets", form("namespace", "openfaas-fn", "name", "api-key", "_value", "hunter2"))
	require.Contains(t, created.body, "The secret api-key was created.")
	require.Contains(t, created.body, "<code>api-key</code>")
	require.NotContains(t, created.body, "hunter2")
	deleted, _ := admin.send(t, "/ui/secrets/openfaas-fn/api-key/delete", form())
	require.Contains(t, deleted.body, "There are no secrets here")
	why, _ = admin.send(t, "/ui/iam", form("action", "Function:Invoke", "resource", "openfaas-fn:hello", "claims", fmt.Sprintf(`{"iss":%q,"sub":"dave"}`, idp.URL)))
	require.Contains(t, why.body, "want &#34;carol&#34;")
	require.NotContains(t, g.stderr.String(), "eyJ")
	require.NotContains(t, g.stderr.String(), "hunter2")
}
