//go:build unix

package main

import (
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
	p := newRotating(t, func() {
		close(asked)
		time.Sleep(200 * time.Millisecond) // a slow provider: the signal comes meanwhile
	})
	g := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // a signal that comes late finds the program here
	}))
	t.Cleanup(g.Close)
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
