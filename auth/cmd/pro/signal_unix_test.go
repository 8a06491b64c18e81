//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHangUp: who loses the connection to the machine while a refresh token is on its
// way does not lose that, too.
func TestHangUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	var p *httptest.Server
	p = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/token" {
			fmt.Fprintf(w, `{"issuer":%[1]q,"authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/token","jwks_uri":"%[1]s/k"}`, p.URL)
			return
		}
		close(asked)
		time.Sleep(200 * time.Millisecond) // the signal comes meanwhile
		_, _ = io.WriteString(w, `{"access_token":"a","token_type":"Bearer","refresh_token":"second"}`)
	}))
	t.Cleanup(p.Close)
	g := newGateway(t, gives("api"))
	u := newUser(t)
	s := &store{filepath.Join(u.home, ".openfaas")}
	require.NoError(t, os.Mkdir(s.dir, 0o700))
	require.NoError(t, s.saveSettings(settings{Gateway: g.URL, Authority: p.URL, ClientID: "c", Grant: grantMachine, ClientSecretFile: "-", RefreshToken: "first", ListenPort: 31111}))
	cmd := u.asProgram("auth", "-g", g.URL)
	cmd.Stdin = strings.NewReader("s")
	require.NoError(t, cmd.Start())
	<-asked
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.Error(t, cmd.Wait())
	r, _, err := s.settings(g.URL)
	require.NoError(t, err)
	require.Equal(t, "second", r.RefreshToken)
}
