package test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestPrimaryIssuer: a provider that no JwtIssuer trusts is named at the start and
// on the login page, and one that is down at the start is good once it is there.
func TestPrimaryIssuer(t *testing.T) {
	t.Parallel()
	idp := newOpenID(t)
	var up atomic.Bool
	pages := idp.Config.Handler
	idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			panic(http.ErrAbortHandler)
		}
		pages.ServeHTTP(w, r)
	})
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s3cret\n"), 0o600))
	g := startUp(t, dir, []string{"primary_issuer=" + idp.URL, "oauth_client_id=dashboard", "oauth_client_secret_file=" + secret})
	warning := fmt.Sprintf("primary_issuer: no JwtIssuer trusts %s, so nobody can log in there: add one with spec.iss", idp.URL)
	warned := func(n int) {
		t.Helper()
		eventually(t, func() bool { return strings.Count(g.stderr.String(), warning) == n }, "no warning")
	}
	warned(1)
	b := newBrowser(t, g.url)
	page, _ := b.open(t, "/ui/login")
	require.Contains(t, page.body, "No JwtIssuer trusts "+idp.URL)

	file := filepath.Join(dir, ".gatehound/iam/people.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, carolMayLook, idp.URL, idp.URL, "carol"), 0o600))
	eventually(t, func() bool {
		page, _ = b.open(t, "/ui/login/provider")
		return page.status == http.StatusBadGateway
	}, "the JwtIssuer is never in force")
	up.Store(true)
	eventually(t, func() bool {
		_, at := b.open(t, "/ui/login/provider?next=/ui/me")
		return at == "/ui/me"
	}, "the provider is not asked again")
	require.NoError(t, os.Remove(file))
	warned(2)
}

// TestPrimaryIssuerWithoutAPage: nobody can log in at the development provider.
func TestPrimaryIssuerWithoutAPage(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	c := exec.Command(filepath.Join(bin, "gateway"), "up")
	c.Dir = t.TempDir()
	c.Env = append(os.Environ(), "port="+port, "metrics_port=0", "primary_issuer=http://127.0.0.1:"+port+"/dev-idp", "oauth_client_id=x")
	out, err := c.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "is the development identity provider, which has no page to log in at")
}

// TestGuessesAtTheGateway: passwords are tried at /system/ no faster than at the form.
func TestGuessesAtTheGateway(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	b := newBrowser(t, g.url)
	b.send(t, "/ui/login", url.Values{"user": {"admin"}, "password": {g.password(t)}})
	system := func(password string) answer {
		return get(t, g.url+"/system/functions", basicAuth("admin", password))
	}
	for i := 0; system(fmt.Sprint(i)).status == http.StatusUnauthorized; i++ {
		require.Less(t, i, 50)
	}
	require.Equal(t, http.StatusTooManyRequests, system(g.password(t)).status)
	list, at := b.open(t, "/ui/")
	require.Equal(t, 200, list.status, "sessions go on")
	require.Equal(t, "/ui/", at)
	eventually(t, func() bool { return system(g.password(t)).status == 200 }, "the operator never gets in")
}

// TestUpHelp: the settings are told in one place.
func TestUpHelp(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(filepath.Join(bin, "gateway"), "up", "--help").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "gateway --help")
	require.Contains(t, string(out), "--file")
	require.Less(t, strings.Count(string(out), "\n"), 25)
}
