package clients

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPro has faas-cli run our plugin, and then go on with what that has saved.
func TestPro(t *testing.T) {
	t.Parallel()
	g := startGateway(t, stack)
	g.grant(t, "ida", []string{"Function:*"}, []string{"openfaas-fn:*"})
	g.apiToken(t, "ida") // it is granted
	u := g.user(t)
	install := exec.Command(filepath.Join(filepath.Dir(gatewayProgram), "pro"), "install")
	install.Env = []string{"HOME=" + u.home}
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "Installed "+u.home+"/.openfaas/plugins/pro\n")

	require.Contains(t, u.shows(t, "pro auth --help"), "faas-cli pro auth --gateway URL")
	shown, ok := u.run(t, g.idToken(t, "nobody"), "pro", "auth", "--token-file", "-")
	require.False(t, ok)
	require.Contains(t, shown, "No policies found for subject: nobody")
	u.fails(t, "invoke guarded", "401")
	for _, command := range [][]string{{"pro", "auth"}, {"auth"}} {
		shown, ok = u.run(t, g.idToken(t, "ida"), append(command, "--token-file", "-")...)
		require.True(t, ok, shown)
		require.Contains(t, shown, "Logged in as ida: saved the gateway's token for "+g.url)
		require.Equal(t, "guarded\nshout\n", u.shows(t, "list -q"))
		require.Equal(t, "moo", u.invoke(t, "moo", "guarded"))
	}

	u.shows(t, "pro logout", "Forgot the login at "+g.url)
	u.fails(t, "list", "Unauthorized access")
}
