package watchdog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// keyFile is a mounted key set: a link to a link, as ConfigMaps and Secrets are,
// of which the inner one is swapped.
type keyFile struct {
	t         *testing.T
	dir, path string
	version   int
	keys      map[string]*ecdsa.PrivateKey
}

const fileIssuer = "https://gateway.example.com"

func newKeyFile(t *testing.T) *keyFile {
	dir := t.TempDir()
	f := &keyFile{t: t, dir: dir, path: filepath.Join(dir, "jwks.json"), keys: map[string]*ecdsa.PrivateKey{}}
	require.NoError(t, os.Symlink(filepath.Join("..data", "jwks.json"), f.path))
	return f
}

// publish swaps in a version with the keys called kids.
func (f *keyFile) publish(kids ...string) {
	f.t.Helper()
	keys := []any{}
	for _, kid := range kids {
		if f.keys[kid] == nil {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(f.t, err)
			f.keys[kid] = key
		}
		point, err := f.keys[kid].PublicKey.Bytes()
		require.NoError(f.t, err)
		b64 := base64.RawURLEncoding.EncodeToString
		keys = append(keys, map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:])})
	}
	document, err := json.Marshal(map[string]any{"keys": keys})
	require.NoError(f.t, err)
	f.version++
	version := fmt.Sprintf("..%d", f.version)
	require.NoError(f.t, os.Mkdir(filepath.Join(f.dir, version), 0o755))
	require.NoError(f.t, os.WriteFile(filepath.Join(f.dir, version, "jwks.json"), document, 0o644))
	require.NoError(f.t, os.Symlink(version, filepath.Join(f.dir, "..new")))
	require.NoError(f.t, os.Rename(filepath.Join(f.dir, "..new"), filepath.Join(f.dir, "..data")))
}

func (f *keyFile) bearer(kid string) string {
	f.t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": fileIssuer, "aud": fileIssuer, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"function": map[string]any{"permissions": []string{"dev:env"}},
	})
	token.Header["kid"] = kid
	s, err := token.SignedString(f.keys[kid])
	require.NoError(f.t, err)
	return "Authorization: Bearer " + s
}

func (f *keyFile) env(more ...string) []string {
	return append([]string{"jwt_auth=true", "jwt_auth_jwks_file=" + f.path, "jwt_auth_issuer=" + fileIssuer,
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev"}, more...)
}

// A key withdrawn as compromised opens nothing once SIGHUP has been heard, not
// even with a verdict that was cached. In every way to run, and as process 1.
func TestHangupReloadsKeys(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, env ...string) *program{
		"fwatchdog": func(t *testing.T, env ...string) *program { return start(t, append(env, "fprocess=cat")...) },
		"Serve":     func(t *testing.T, env ...string) *program { return startInproc(t, "http", env...) },
		"ServeFast": func(t *testing.T, env ...string) *program { return startInproc(t, "fast", env...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newKeyFile(t)
			f.publish("stolen", "good")
			testHangup(t, f, begin(t, f.env()...), func(p *program) int { return p.cmd.Process.Pid })
		})
	}
}

func testHangup(t *testing.T, f *keyFile, p *program, pid func(*program) int) {
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	stolen, good := f.bearer("stolen"), f.bearer("good")
	for range 2 {
		require.Equal(t, 200, p.get("/hello", stolen).status)
		require.Equal(t, 200, p.get("/hello", good).status)
	}
	f.publish("good", "new")
	require.Equal(t, 200, p.get("/hello", stolen).status, "cached, and the refresh is minutes away")
	require.NoError(t, syscall.Kill(pid(p), syscall.SIGHUP))
	p.logged(`Reloaded the keys of issuer ` + fileIssuer)
	require.Equal(t, 401, p.get("/hello", stolen).status)
	require.Equal(t, 200, p.get("/hello", good).status)
	require.Equal(t, 200, p.get("/hello", f.bearer("new")).status)

	// A file that went wrong takes nothing away, and is told.
	require.NoError(t, os.WriteFile(f.path, []byte("{"), 0o644))
	require.NoError(t, syscall.Kill(pid(p), syscall.SIGHUP))
	p.logged(`Reload failed, the keys stay as they were: `)
	require.Equal(t, 200, p.get("/hello", good).status)
	require.Equal(t, 200, p.get("/_/ready").status)

	// Nor is it said that they stay when all have been withdrawn.
	f.publish()
	require.NoError(t, syscall.Kill(pid(p), syscall.SIGHUP))
	p.logged(`Reload brought no keys, and none are left: .*publishes no usable key`)
	require.Equal(t, 503, p.get("/hello", good).status)

	require.NoError(t, syscall.Kill(pid(p), syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
}

// The function is not told: what SIGHUP means to it, nobody here knows.
func TestHangupIsNotTheFunctions(t *testing.T) {
	t.Parallel()
	p := start(t, "mode=http", "upstream_url=http://127.0.0.1:"+freeport.Take(),
		script(`trap "echo heard" HUP; trap "echo ended; exit" TERM; echo started; while :; do sleep 0.01; done`))
	p.eventually(func() bool { return strings.Contains(p.stdout.String(), "started") }, "function's start")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Equal(t, 200, p.get("/_/health").status)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.Contains(t, p.stdout.String(), "ended")
	require.NotContains(t, p.stdout.String(), "heard")
}

// No network: keys from a file that may come late, and that is read again.
func TestKeysFromAFile(t *testing.T) {
	t.Parallel()
	f := newKeyFile(t)
	p := start(t, f.env("fprocess=cat", "jwt_auth_refresh=1s")...)
	p.logged(`cannot (fetch|read) the issuer's keys.*jwks\.json`)
	require.Equal(t, 503, p.get("/_/ready").status)
	require.Equal(t, 200, p.get("/_/health").status)
	require.Equal(t, 401, p.get("/").status)
	f.keys["a"], _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a := f.bearer("a")
	r := p.get("/", a)
	require.Equal(t, 503, r.status)
	require.Equal(t, "1", r.header.Get("Retry-After"))
	require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))

	f.publish("a")
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	require.Equal(t, 200, p.get("/", a).status)
	f.publish("b") // no signal: the refresh sees it
	p.eventually(func() bool { return p.get("/", a).status == 401 }, "the old key's end")
	require.Equal(t, 200, p.get("/", f.bearer("b")).status)

	// A token that names another issuer is none of that file's.
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": "https://other", "aud": "https://other",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "function": map[string]any{"permissions": []string{"*"}}})
	token.Header["kid"] = "b"
	foreign, err := token.SignedString(f.keys["b"])
	require.NoError(t, err)
	require.Equal(t, 401, p.get("/", "Authorization: Bearer "+foreign).status)
}

// The gateway is away when the function starts, comes, and goes again.
func TestOutage(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.down.Store(true)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "jwt_auth_issuer="+i.URL, "jwt_auth_refresh=1s",
		"jwt_auth_keep_keys=4s", "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
	bearer := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour)
	for range 3 {
		require.Equal(t, 503, p.get("/_/ready").status)
		r := p.get("/", bearer)
		require.Equal(t, 503, r.status)
		require.Equal(t, "1", r.header.Get("Retry-After"))
		require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
	}
	p.logged(`cannot fetch the issuer's keys`)
	i.down.Store(false)
	back := time.Now()
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	require.Less(t, time.Since(back), time.Second)
	require.Equal(t, 200, p.get("/", bearer).status)

	i.down.Store(true)
	p.logged(`those fetched before stay in use`)
	require.Equal(t, 200, p.get("/", bearer).status)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.logged(`Reload failed, the keys stay as they were: `)
	require.Equal(t, 200, p.get("/", bearer).status)
	require.Equal(t, 200, p.get("/_/ready").status)
	// But not for ever: nobody could withdraw a key.
	p.eventually(func() bool { return p.get("/", bearer).status == 503 }, "the keys' end")
	require.Equal(t, 503, p.get("/_/ready").status)
	i.down.Store(false)
	p.eventually(func() bool { return p.get("/", bearer).status == 200 }, "keys again")
}

// Discovery that names another issuer than the operator is not believed.
func TestPinnedIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "jwt_auth_issuer=https://gateway.example.com",
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
	p.logged(`expected exactly "https://gateway.example.com"`)
	require.Equal(t, 503, p.get("/", "Authorization: Bearer "+i.token(t, "dev:env", time.Hour)).status)
}

func TestLeeway(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	expired := "Authorization: Bearer " + i.token(t, "dev:env", -20*time.Second)
	for leeway, status := range map[string]int{"0": 401, "1s": 401, "60s": 200} {
		p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "jwt_auth_leeway="+leeway, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")
		p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
		require.Equal(t, status, p.get("/", expired).status, leeway)
	}
}
