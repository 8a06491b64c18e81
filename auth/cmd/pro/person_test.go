package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// newProvider is one whose token endpoint answers the same to everybody.
func newProvider(t *testing.T, status int, answer map[string]any) (p *httptest.Server, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	p = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		body := answer
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			body = map[string]any{
				"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
				"jwks_uri": p.URL + "/keys", "device_authorization_endpoint": p.URL + "/device",
			}
		case "/device":
			body = map[string]any{"device_code": "d", "user_code": "ABCD", "verification_uri": p.URL + "/activate", "expires_in": 600, "interval": 1}
		default:
			w.WriteHeader(status)
		}
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(p.Close)
	return p, asked
}

// TestRefreshWithoutID: some providers give no ID token for a refresh token; that
// is no dead end.
func TestRefreshWithoutID(t *testing.T) {
	t.Parallel()
	p, _ := newProvider(t, 200, map[string]any{"access_token": "a", "token_type": "Bearer"})
	g := newGateway(t, gives("api"))
	u := newUser(t)
	s := &store{filepath.Join(u.home, ".openfaas")}
	require.NoError(t, os.Mkdir(s.dir, 0o700))
	require.NoError(t, s.saveSettings(settings{Gateway: g.URL, Authority: p.URL, ClientID: "c", Grant: grantCode, RefreshToken: "r", ListenPort: 31111}))
	code, _, stderr := u.run(t, "", "auth", "-g", g.URL, "--timeout", "50ms", "--listen-port", freeport.Take())
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "the last login has ended (the provider gives no ID token for the refresh token); log in again\n"+
		"cannot open a browser: there is no display here\nOpen this page to log in:\n\n  "+p.URL+"/authorize?")
	require.Contains(t, stderr, "pro: nobody logged in within 50ms\n")
}

// TestNobodyAsked: nobody logs in for a gateway that is not reached.
func TestNobodyAsked(t *testing.T) {
	t.Parallel()
	p, _ := newProvider(t, 200, nil)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for gateway, want := range map[string]string{
		"http://127.0.0.1:1": "Nobody listens at 127.0.0.1:1: is it running",
		secure.URL:           "give that one's certificate by --ca.",
	} {
		for _, grant := range []string{grantCode, grantImplicit, grantDevice} {
			code, stdout, stderr := newUser(t).run(t, "", "auth", "-g", gateway, "--authority", p.URL, "--client-id", "c", "--grant", grant, "--listen-port", freeport.Take())
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "pro: cannot reach the gateway at "+gateway+": ")
			require.Contains(t, stderr, want)
			require.NotContains(t, stderr, "/authorize")
		}
	}
}

func TestDeviceTimeout(t *testing.T) {
	t.Parallel()
	p, _ := newProvider(t, 400, map[string]any{"error": "authorization_pending"})
	u := newUser(t)
	code, _, stderr := u.run(t, "", "auth", "-g", newGateway(t, gives("api")).URL, "--authority", p.URL, "--client-id", "c", "--grant", "device", "--timeout", "50ms")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "pro: the provider refuses: expired_token: nobody typed the code in time\n")
}

// TestSavedFirst: nobody logs in for what cannot be saved.
func TestSavedFirst(t *testing.T) {
	t.Parallel()
	p, asked := newProvider(t, 200, nil)
	u := newUser(t)
	dir := filepath.Join(u.home, ".openfaas")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte("auths: [\n"), 0o600))
	code, _, stderr := u.run(t, "", "auth", "--authority", p.URL, "--client-id", "c")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, dir+"/config.yml: yaml: line")
	require.Zero(t, asked.Load())
}

// TestLockHeld: who waits for another run is told so.
func TestLockHeld(t *testing.T) {
	t.Parallel()
	s := &store{t.TempDir()}
	unlock, err := s.lock(t.Context())
	require.NoError(t, err)
	in, out := io.Pipe()
	defer in.Close()
	locked := make(chan error)
	go func() {
		unlock, err := program{stderr: out}.lock(t.Context(), s)
		if err == nil {
			unlock()
		}
		locked <- err
	}()
	line := make([]byte, 200)
	n, err := in.Read(line)
	require.NoError(t, err)
	require.Equal(t, "waiting for another faas-cli pro, which has "+s.dir+"\n", string(line[:n]))
	unlock()
	require.NoError(t, <-locked)
}

// TestInterruptedReading: Ctrl-C ends it where a token is awaited from a terminal,
// too.
func TestInterruptedReading(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	in, out := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	var said bytes.Buffer
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"auth", "--token-file", "-"}, program{in, &said, &said, func(name string) string { return u.env[name] }})
	}()
	cancel(errInterrupted)
	require.Equal(t, 1, <-ended)
	require.Equal(t, "\npro: interrupted\n", said.String())
}

// TestTokenEmpty: a CI job whose variable is not set waits for nobody.
func TestTokenEmpty(t *testing.T) {
	t.Parallel()
	p, asked := newProvider(t, 200, nil)
	u := newUser(t)
	for _, remembered := range []bool{false, true} {
		for _, flag := range []string{"--token=", "--token-file=", "--token-file=-"} {
			code, _, stderr := u.run(t, " \n", "auth", flag)
			require.Equal(t, 2, code, stderr)
			require.Equal(t, "pro: the token is empty\nTry: faas-cli pro auth --help\n", strings.TrimPrefix(stderr, "warning: "))
		}
		if !remembered {
			s := &store{filepath.Join(u.home, ".openfaas")}
			require.NoError(t, s.saveSettings(settings{Gateway: "http://127.0.0.1:8080", Authority: p.URL, ClientID: "c", Grant: grantCode}))
		}
	}
	require.Zero(t, asked.Load())
}

// TestShown: nothing that others wrote passes for a line of ours, and no token is
// in an error.
func TestShown(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	token := unsigned(map[string]any{"sub": "alice\nwarning: \x1b[31m"})
	g := newGateway(t, gives("api"))
	code, _, stderr := u.run(t, token, "auth", "-g", g.URL, "--token-file", "-")
	require.Equal(t, 0, code)
	require.Equal(t, "Logged in as alice�warning: �[31m: saved the gateway's token for "+g.URL+", good until "+
		time.Now().Add(time.Hour).Format("15:04")+" (1h0m0s)\n", stderr)
	for _, args := range [][]string{{"auth", token}, {"auth", "--timeout", token}, {"token", "--function", token}} {
		code, _, stderr = u.run(t, "", args...)
		require.NotZero(t, code)
		require.Contains(t, stderr, "[token]")
		require.NotContains(t, stderr, token[:20])
	}
	_, _, stderr = u.run(t, "", "tokn")
	require.Contains(t, stderr, "\n\ttoken\n")
	_, _, stderr = u.run(t, "", "token", "--function", "env")
	require.Contains(t, stderr, "\nTry: faas-cli pro token --help\n")
	g.exchange = gives("\x1b]0;title\a")
	code, stdout, _ := u.run(t, token, "auth", "-g", g.URL, "--token-file", "-", "--print-token")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
}

func TestLogoutNobody(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	code, _, stderr := u.run(t, "", "logout", "-g", "https://gw.example.com")
	require.Equal(t, 0, code)
	require.Equal(t, "You were not logged in at https://gw.example.com\n", stderr)
	require.NoFileExists(t, filepath.Join(u.home, ".openfaas", "config.yml"))
}
