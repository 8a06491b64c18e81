package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/gatehound/gatehound/auth/login"
)

// TestNotSaved: where a login cannot be saved, nobody is asked for anything, what
// is there stays, and it is said what is in the way.
func TestNotSaved(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"read-only": {func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(filepath.Join(dir, "config.yml"), 0o400))
		}, "logins cannot be saved: DIR/config.yml is read-only; mend that, or have $OPENFAAS_CONFIG name another folder"},
		"pro.yml read-only": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "pro.yml"), nil, 0o400))
		}, "logins cannot be saved: DIR/pro.yml is read-only; mend"},
		"a folder": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "config.yml")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "config.yml"), 0o700))
		}, "logins cannot be read: read DIR/config.yml: is a directory; mend"},
		"a link to itself": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "config.yml")))
			require.NoError(t, os.Symlink("config.yml", filepath.Join(dir, "config.yml")))
		}, "logins cannot be read: open DIR/config.yml: too many levels of symbolic links; mend"},
		"a link to nowhere": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "config.yml")))
			require.NoError(t, os.Symlink("gone/config.yml", filepath.Join(dir, "config.yml")))
		}, "logins cannot be saved: open DIR/gone/.config.yml.new: no such file or directory; mend"},
		"no folder": {func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, "logins cannot be read: open DIR/pro.yml: not a directory; mend"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, gives("api"))
			u := newUser(t)
			dir := filepath.Join(u.home, ".openfaas")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(theirs), 0o600))
			tc.spoil(t, dir)
			before, _ := os.ReadFile(filepath.Join(dir, "config.yml"))
			code, stdout, stderr := u.run(t, "the-token", "auth", "-g", g.URL, "--token-file", "-")
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "pro: "+strings.ReplaceAll(tc.want, "DIR", dir))
			require.NotContains(t, stderr, "the-token")
			require.Empty(t, g.forms)
			after, _ := os.ReadFile(filepath.Join(dir, "config.yml"))
			require.Equal(t, string(before), string(after))
		})
	}
}

// TestOtherWriter: faas-cli knows no lock; it empties its file, and then writes it.
func TestOtherWriter(t *testing.T) {
	t.Parallel()
	s := &store{t.TempDir()}
	path := filepath.Join(s.dir, "config.yml")
	require.NoError(t, os.WriteFile(path, []byte(theirs), 0o600))

	// In between reading and writing, as edit's last look finds it.
	changes := 0
	err := s.edit(credentialsFile, credentialsList, "https://mine", func(e *entries) (bool, error) {
		if changes++; changes == 1 {
			require.NoError(t, os.WriteFile(path, []byte(theirs+"later: yes\n"), 0o600))
		}
		return true, e.put("https://mine", credential{"https://mine", "oauth2", "t"})
	})
	require.NoError(t, err)
	require.Equal(t, 2, changes)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), "later: yes\n")
	require.Contains(t, string(data), "gateway: https://mine\n")

	// All the time.
	err = s.edit(credentialsFile, credentialsList, "https://mine", func(e *entries) (bool, error) {
		changes++
		require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "%schanges: %d\n", theirs, changes), 0o600))
		return true, e.put("https://mine", credential{"https://mine", "oauth2", "t"})
	})
	require.ErrorContains(t, err, path+" changes all the time")
	left, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing stays beside it")

	// While it is empty, and while half of it is there.
	for _, half := range []string{"", theirs[:len("# mine, by hand\nauths: [")] + "{"} {
		require.NoError(t, os.WriteFile(path, []byte(half), 0o600))
		synctest.Test(t, func(t *testing.T) {
			time.AfterFunc(30*time.Millisecond, func() { _ = os.WriteFile(path, []byte(theirs), 0o600) })
			require.NoError(t, s.saveCredential(credential{"https://mine", "oauth2", "t"}))
		})
		data, err = os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(data), "token: YWRtaW46YWRtaW4=\n")
	}
}

// TestGivenToken: --token does not forget how somebody logs in, and is not renewed
// as them.
func TestGivenToken(t *testing.T) {
	t.Parallel()
	machine := unsigned(map[string]any{"sub": "machine"})
	p, asked := newProvider(t, 200, map[string]any{"access_token": machine, "token_type": "Bearer"})
	g := newGateway(t, gives(tokenUntil(time.Now().Add(-time.Minute), "x")))
	u := newUser(t)
	u.env["OPENFAAS_URL"] = g.URL
	file := filepath.Join(u.home, "secret")
	require.NoError(t, os.WriteFile(file, []byte("s3cret\n"), 0o600))
	code, _, stderr := u.run(t, "", "auth", "--authority", p.URL, "--client-id", "c", "--grant", "client_credentials", "--client-secret-file", file)
	require.Equal(t, 0, code, stderr)
	s := &store{filepath.Join(u.home, ".openfaas")}
	before, _, err := s.settings(g.URL)
	require.NoError(t, err)
	before.RefreshToken, before.Origin = "r", login.Origin{Issuer: p.URL, Subject: "alice", Audience: []string{"c"}}
	require.NoError(t, s.saveSettings(before))

	asked.Store(0)
	code, _, stderr = u.run(t, unsigned(map[string]any{"sub": "bob"}), "auth", "--token-file", "-")
	require.Equal(t, 0, code, stderr)
	after, _, err := s.settings(g.URL)
	require.NoError(t, err)
	before.GivenToken = true
	require.Equal(t, before, after)
	code, stdout, stderr := u.run(t, "", "token")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, " by this computer's clock: faas-cli pro auth --gateway "+g.URL+"\n")
	require.Zero(t, asked.Load(), "alice's refresh token does not renew bob's token")

	before.RefreshToken, before.Origin = "", login.Origin{Audience: []string{}}
	require.NoError(t, s.saveSettings(before))
	code, _, stderr = u.run(t, "", "auth")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stderr, "Logged in as machine")
	before.GivenToken = false
	after, _, err = s.settings(g.URL)
	require.NoError(t, err)
	require.Equal(t, before, after)
	g.exchange = gives(tokenUntil(time.Now().Add(time.Hour), "machine"))
	code, _, stderr = u.run(t, "", "token")
	require.Equal(t, 0, code, stderr)
}

// TestOlderForm: it always printed the token, too.
func TestOlderForm(t *testing.T) {
	t.Parallel()
	p, _ := newProvider(t, 200, map[string]any{"access_token": unsigned(map[string]any{"sub": "machine"}), "token_type": "Bearer"})
	g := newGateway(t, gives("api"))
	u := newUser(t)
	args := []string{"auth", "-g", g.URL, "--grant", "client_credentials", "--auth-url", p.URL + "/token", "--client-id", "c", "--client-secret", "s"}
	code, stdout, stderr := u.run(t, "", args...)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, "api\n", stdout)
	require.Contains(t, u.config(t), "token: api\n")
	_, stdout, _ = u.run(t, "", append(args, "--print-token=false")...)
	require.Empty(t, stdout)
}

// TestSecretEmpty: that is not to be a public client.
func TestSecretEmpty(t *testing.T) {
	t.Parallel()
	p, asked := newProvider(t, 200, nil)
	u := newUser(t)
	code, _, stderr := u.run(t, " \n", "auth", "--authority", p.URL, "--client-id", "c", "--grant", "client_credentials", "--client-secret-file", "-")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "pro: --client-secret-file: there is no secret in -\n")
	require.Zero(t, asked.Load())
}

// TestSecretTooLong: a part of it is not sent anywhere, nor is another file.
func TestSecretTooLong(t *testing.T) {
	t.Parallel()
	p, asked := newProvider(t, 200, nil)
	u := newUser(t)
	code, _, stderr := u.run(t, strings.Repeat("x", maxSecret+1), "auth", "--authority", p.URL, "--client-id", "c", "--grant", "client_credentials", "--client-secret-file", "-")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "there are more than 1048576 bytes")
	require.Zero(t, asked.Load())
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for typed, want := range map[string]string{
		"secret\r":             "secret",
		"secret\nls\n":         "secret",
		"secret":               "secret",
		" secret \x04more":     "secret",
		"secrex\x7ft\r":        "secret",
		"\b\x7f\bsecret\r":     "secret",
		"secr\u00e4\x7fet\r":   "secret",
		"sec\x1aret\x1b\r":     "secret",
		"wrong\x15secret\r":    "secret",
		"\r":                   "",
		"pass word\r":          "pass word",
		long + "\r":            long,
		"p\u00e4ssw\u00f6rd\r": "p\u00e4ssw\u00f6rd",
	} {
		got, err := readLine(strings.NewReader(typed))
		require.NoError(t, err)
		require.Equal(t, want, got, "%.40q", typed)
	}
	_, err := readLine(strings.NewReader("secr\x03et\r"))
	require.ErrorIs(t, err, errInterrupted)
	_, err = readLine(strings.NewReader(strings.Repeat("x", 2*maxSecret)))
	require.EqualError(t, err, "there are more than 1048576 bytes")
}

// TestOriginKept: it is read as it was written, and a file of before it had one
// still is.
func TestOriginKept(t *testing.T) {
	t.Parallel()
	s := &store{t.TempDir()}
	want := settings{Gateway: "g", Scopes: []string{"openid"}, RefreshToken: "r",
		Origin: login.Origin{Issuer: "https://idp", Subject: "a: {b}", Audience: []string{"x", "y"}, AZP: "x", Nonce: "n"}}
	require.NoError(t, s.saveSettings(want))
	got, found, err := s.settings("g")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, want, got)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "pro.yml"), []byte("logins:\n- gateway: g\n  refresh_token: r\n"), 0o600))
	got, _, err = s.settings("g")
	require.NoError(t, err)
	require.Equal(t, settings{Gateway: "g", RefreshToken: "r"}, got)
	require.NoError(t, s.saveSettings(want))
	data, err := os.ReadFile(filepath.Join(s.dir, "pro.yml"))
	require.NoError(t, err)
	var read struct{ Logins []settings }
	require.NoError(t, yaml.Unmarshal(data, &read))
	require.Equal(t, []settings{want}, read.Logins)
}

// TestNotAGateway: what answers at --gateway is named, with what may help.
func TestNotAGateway(t *testing.T) {
	t.Parallel()
	page := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for _, tc := range []struct {
		name, want string
		answer     http.HandlerFunc
	}{
		{"no such page", "/oauth/token: it exchanges no tokens: it answered 404 Not Found, without an OAuth error\nIs this an OpenFaaS gateway with IAM (--gateway)?", page(404, "<html>")},
		{"a web page", "/oauth/token: it exchanges no tokens: its answer is no token (RFC 8693 section 2.2.1): invalid character '<' looking for beginning of value\nIs this", page(200, "<html>")},
		{"a proxy", "/oauth/token answered 502 Bad Gateway, without an OAuth error: it, or a proxy before it, is in trouble\n", page(502, "<html>")},
		{"in trouble", "pro: the gateway cannot exchange it: server_error: the store is away\nThe token is not to blame. The gateway's log says why", page(500, `{"error":"server_error","error_description":"the store is away"}`)},
		{"a login page", "it redirects to https://sso.example.com, which is not followed: is that its address?\n", http.RedirectHandler("https://sso.example.com/login", http.StatusFound).ServeHTTP},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			g := httptest.NewServer(tc.answer)
			defer g.Close()
			token := unsigned(map[string]any{"sub": "alice"})
			code, stdout, stderr := u.run(t, token, "auth", "-g", g.URL, "--token-file", "-")
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, tc.want)
			require.NotContains(t, stderr, token)
			require.NoFileExists(t, filepath.Join(u.home, ".openfaas", "config.yml"))
		})
	}
}

// TestProviderTrouble: what is amiss with the provider is said, with what may help,
// and nothing is saved.
func TestProviderTrouble(t *testing.T) {
	t.Parallel()
	const secret = "the-secret"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	enc := base64.RawURLEncoding.EncodeToString
	metadata := func(issuer string) map[string]any {
		return map[string]any{"issuer": issuer, "authorization_endpoint": issuer + "/authorize", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"}}
	}
	writes := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	for name, tc := range map[string]struct {
		tls     bool
		serve   func(w http.ResponseWriter, r *http.Request, issuer string)
		want    []string
		maximum int // bytes
	}{
		"an authority that is not known": {tls: true, want: []string{"certificate signed by unknown authority", "give that one's certificate by --ca."}},
		"another issuer": {serve: func(w http.ResponseWriter, _ *http.Request, _ string) {
			writes(w, 200, metadata("https://evil.example"))
		},
			want: []string{`is the metadata of another issuer, "https://evil.example": is that the provider's issuer URL?`}},
		"a web page": {serve: func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = io.WriteString(w, "<html>") },
			want: []string{"/.well-known/openid-configuration is not a provider's metadata: "}},
		"another's clock": {serve: func(w http.ResponseWriter, r *http.Request, issuer string) {
			w.Header().Set("Date", time.Now().Add(-2*time.Hour).UTC().Format(http.TimeFormat))
			switch r.URL.Path {
			case "/token":
				token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
					"iss": issuer, "aud": "c", "sub": "alice", "exp": time.Now().Add(-2*time.Hour + 5*time.Minute).Unix()})
				id, _ := token.SignedString(key)
				writes(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": id})
			case "/keys":
				writes(w, 200, map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "x": enc(point[1:33]), "y": enc(point[33:])}}})
			default:
				writes(w, 200, metadata(issuer))
			}
		}, want: []string{"is this computer's clock right?\nThe clock of 127.0.0.1:", " behind this computer's."}},
		"a hostile story": {serve: func(w http.ResponseWriter, r *http.Request, issuer string) {
			if r.URL.Path != "/token" {
				writes(w, 200, metadata(issuer))
				return
			}
			_ = r.ParseForm()
			_, password, _ := r.BasicAuth()
			story := "\x1b]0;title\a\u202enoitcejer\npro: logged in " + password + " " + unsigned(map[string]any{"sub": "x"}) + strings.Repeat(" more", 100_000)
			writes(w, 400, map[string]any{"error": "invalid_client\x1b[2J", "error_description": story})
		}, want: []string{"the provider refuses: invalid_client [2J:  ]0;title  noitcejer pro: logged in [secret] [token] more more"}, maximum: 1500},
		"down for repair": {serve: func(w http.ResponseWriter, r *http.Request, issuer string) {
			if r.URL.Path != "/token" {
				writes(w, 200, metadata(issuer))
				return
			}
			http.Error(w, "<html>", http.StatusServiceUnavailable)
		}, want: []string{"/token answered 503 Service Unavailable, without an OAuth error: it, or a proxy before it, is in trouble"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *httptest.Server
			p = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tc.serve(w, r, p.URL) }))
			p.Config.ErrorLog = log.New(io.Discard, "", 0)
			if tc.tls {
				p.StartTLS()
			} else {
				p.Start()
			}
			t.Cleanup(p.Close)
			u := newUser(t)
			code, stdout, stderr := u.run(t, secret, "auth", "--authority", p.URL, "--client-id", "c", "--grant", "client_credentials", "--client-secret-file", "-")
			require.Equal(t, 1, code)
			require.Empty(t, stdout)
			for _, want := range tc.want {
				require.Contains(t, stderr, want)
			}
			require.NotContains(t, stderr, secret)
			require.NotContains(t, stderr, "eyJ")
			require.NotContains(t, stderr, "\x1b")
			if tc.maximum > 0 {
				require.Less(t, len(stderr), tc.maximum)
			}
			require.NoFileExists(t, filepath.Join(u.home, ".openfaas", "config.yml"))
		})
	}
}

// newRotating starts a provider that gives the refresh token "second". before is
// called when it is asked for that.
func newRotating(t *testing.T, before func()) (p *httptest.Server) {
	t.Helper()
	p = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/token" {
			fmt.Fprintf(w, `{"issuer":%[1]q,"authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/token","jwks_uri":"%[1]s/k"}`, p.URL)
			return
		}
		before()
		_, _ = io.WriteString(w, `{"access_token":"a","token_type":"Bearer","refresh_token":"second"}`)
	}))
	t.Cleanup(p.Close)
	return p
}

// TestInterruptedRefresh: the refresh token that is on its way at a Ctrl-C is kept.
func TestInterruptedRefresh(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	p := newRotating(t, func() { cancel(errInterrupted) })
	g := newGateway(t, gives("api"))
	u := newUser(t)
	s := &store{filepath.Join(u.home, ".openfaas")}
	require.NoError(t, os.Mkdir(s.dir, 0o700))
	require.NoError(t, s.saveSettings(settings{Gateway: g.URL, Authority: p.URL, ClientID: "c", Grant: grantMachine, ClientSecretFile: "-", RefreshToken: "first", ListenPort: 31111}))
	var said bytes.Buffer
	code := run(ctx, []string{"auth", "-g", g.URL}, program{strings.NewReader("s"), &said, &said, func(name string) string { return u.env[name] }})
	require.Equal(t, 1, code)
	require.Equal(t, "\npro: interrupted\n", said.String())
	r, _, err := s.settings(g.URL)
	require.NoError(t, err)
	require.Equal(t, "second", r.RefreshToken)
	require.Empty(t, g.forms)
}
