package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// runKeys runs `gateway keys …` in the environment of the test.
func runKeys(args ...string) (output string, err error) {
	var out bytes.Buffer
	c := root()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"keys"}, args...))
	err = c.Execute()
	return out.String(), err
}

// TestKeys goes through a key's life with the commands.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("data_dir", dir)
	_, err := runKeys("rotate")
	require.ErrorContains(t, err, "start the gateway once")

	folder := filepath.Join(dir, "keys")
	_, err = issuer.Open(issuer.Config{URL: "http://gw", Path: folder, Ours: true})
	require.NoError(t, err)
	out, err := runKeys("rotate")
	require.NoError(t, err)
	require.Contains(t, out, "signs      from 2")
	require.Contains(t, out, "first.pem: signing, published until 2")
	require.NotContains(t, out, "is short")
	out, err = runKeys("rotate", "--type", "ed25519", "--after", "30s")
	require.NoError(t, err)
	require.Contains(t, out, "(EdDSA)")
	require.Contains(t, out, "is short")
	for flag, says := range map[string]string{"--type=rsa": "want es256, es384 or ed25519", "--after=-1s": "must not be negative"} {
		_, err = runKeys("rotate", flag)
		require.ErrorContains(t, err, says)
	}

	var old []string
	for _, age := range []time.Duration{50 * time.Hour, 49 * time.Hour, 30 * time.Hour} {
		k, err := issuer.Add(folder, issuer.ES256, time.Now().Add(-age))
		require.NoError(t, err)
		old = append(old, k.Name)
	}
	out, err = runKeys("list")
	require.NoError(t, err)
	var states []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
		states = append(states, strings.Fields(line)[0]+" "+strings.Fields(line)[2])
	}
	require.Equal(t, []string{"expired ES256", "expired ES256", "expired ES256", "signing ES256", "next EdDSA", "next ES256"}, states)

	// Someone may still have a token of 40 hours.
	iam := filepath.Join(dir, "iam")
	require.NoError(t, os.Mkdir(iam, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(iam, "idp.yaml"), []byte(`
apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata: {name: idp, namespace: openfaas}
spec: {iss: https://idp.example.com, aud: [x], tokenExpiry: 40h}
`), 0o600))
	out, err = runKeys("prune")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "deleted "))
	require.NoFileExists(t, filepath.Join(folder, "first.pem"))
	require.NoFileExists(t, filepath.Join(folder, old[0]))
	require.FileExists(t, filepath.Join(folder, old[1]))
	require.NoError(t, os.Remove(filepath.Join(iam, "idp.yaml")))
	out, err = runKeys("prune", "--token-life", "40h")
	require.NoError(t, err)
	require.Equal(t, "no key has expired\n", out)
	out, err = runKeys("prune", "--folder", folder)
	require.NoError(t, err)
	require.Contains(t, out, old[1])

	_, err = runKeys("rotat")
	require.ErrorContains(t, err, `unknown command "rotat" for "gateway keys"`)

	// A bad file is named, and does not hide the others.
	require.NoError(t, os.WriteFile(filepath.Join(folder, "bad.pem"), nil, 0o600))
	out, err = runKeys("list")
	require.ErrorContains(t, err, "bad.pem")
	require.Contains(t, out, "signing")
}

// TestSingleKeyFile: a data_dir with but one key in a file keeps it, and rotating
// that says what to do.
func TestSingleKeyFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("data_dir", dir)
	single := filepath.Join(dir, "issuer.key")
	_, err := issuer.LoadOrCreate(single)
	require.NoError(t, err)
	settings, err := config.ParseGateway([]string{"data_dir=" + dir})
	require.NoError(t, err)
	require.Equal(t, single, keyPath(settings))
	_, err = runKeys("rotate")
	require.ErrorContains(t, err, "mkdir -m 700 "+dir+"/keys && mv "+single+" "+dir+"/keys/first.pem, then start the gateway again")

	t.Setenv("issuer_key_path", single)
	_, err = runKeys("list")
	require.ErrorContains(t, err, "with issuer_key_path="+dir+"/keys")

	require.NoError(t, os.Mkdir(filepath.Join(dir, "keys"), 0o700))
	require.Equal(t, filepath.Join(dir, "keys"), keyPath(settings))
}

// TestTooManyKeys: fwatchdogs take 100 keys, and one more must not be the one
// that signs.
func TestTooManyKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for n := range issuer.MaxKeys {
		_, err := issuer.Add(dir, issuer.EdDSA, time.Now().Add(time.Duration(-n-1)*time.Minute))
		require.NoError(t, err)
	}
	_, err := runKeys("rotate", "--folder", dir)
	require.ErrorContains(t, err, "100 keys are published, and fwatchdogs take no more")

	// By hand there can be more.
	for n := range 20 {
		_, err := issuer.Add(dir, issuer.EdDSA, time.Now().Add(time.Duration(-n-1)*time.Minute-30*time.Second))
		require.NoError(t, err)
	}
	system, err := issuer.Open(issuer.Config{URL: "http://gw", Path: dir, Ours: true})
	require.NoError(t, err)
	token, err := system.Sign(map[string]any{})
	require.NoError(t, err)
	header, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	keys, skipped, err := jwks.Parse(system.JWKS())
	require.NoError(t, err)
	require.Len(t, keys, issuer.MaxKeys)
	require.Len(t, skipped, 1)
	require.Contains(t, string(header), keys[0].ID())
}
