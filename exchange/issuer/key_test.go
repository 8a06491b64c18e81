package issuer

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/stretchr/testify/require"
)

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

func TestLoad(t *testing.T) {
	t.Parallel()
	p256 := ecKey(t, elliptic.P256())
	sec1DER, err := x509.MarshalECPrivateKey(p256)
	require.NoError(t, err)
	sec1 := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1DER})
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(&p256.PublicKey)
	require.NoError(t, err)

	join := func(parts ...[]byte) []byte {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, c := range map[string]struct {
		data []byte
		want string // part of the error; "" = loads p256
	}{
		"PKCS#8":             {pkcs8(t, p256), ""},
		"SEC1":               {sec1, ""},
		"SEC1 of openssl":    {join(parameters, sec1), ""},
		"text around it":     {join([]byte("# our key\n"), sec1, []byte("end\n")), ""},
		"empty":              {nil, "holds no PEM block"},
		"garbage":            {[]byte("hunter2"), "holds no PEM block"},
		"DER":                {sec1DER, "holds no PEM block"},
		"P-224":              {pkcs8(t, ecKey(t, elliptic.P224())), "on P-224"},
		"P-521":              {pkcs8(t, ecKey(t, elliptic.P521())), "on P-521"},
		"X25519":             {pkcs8(t, x25519), "neither EC nor Ed25519"},
		"RSA":                {pkcs8(t, rsaKey), "neither EC nor Ed25519"},
		"public key":         {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), "something other than"},
		"two keys":           {join(sec1, pkcs8(t, p256)), "several private keys"},
		"encrypted PKCS#8":   {pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: sec1DER}), "is encrypted"},
		"encrypted SEC1":     {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED"}, Bytes: sec1DER}), "is encrypted"},
		"broken":             {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sec1DER[:20]}), "cannot be read"},
		"too large":          {join(sec1, make([]byte, maxKeyFile)), "larger than"},
		"certificate bundle": {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "something other than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key.pem")
			require.NoError(t, os.WriteFile(path, c.data, 0o600))
			k, err := load(path, false)
			if c.want == "" {
				require.NoError(t, err)
				require.True(t, p256.Equal(*k.private))
				return
			}
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, path)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// TestLoadMounted reads a key the way Kubernetes mounts secrets: through
// symbolic links, readable by a group. One that everybody reads is refused.
func TestLoadMounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "..data"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "..data", "issuer.key"), pkcs8(t, ecKey(t, elliptic.P256())), 0o440))
	require.NoError(t, os.Symlink("..data/issuer.key", filepath.Join(dir, "issuer.key")))
	_, err := load(filepath.Join(dir, "issuer.key"), false)
	require.NoError(t, err)

	require.NoError(t, os.Chmod(filepath.Join(dir, "..data", "issuer.key"), 0o444))
	_, err = load(filepath.Join(dir, "issuer.key"), false)
	require.ErrorContains(t, err, "mode 0444")
	require.ErrorContains(t, err, "chmod o=")
}

func TestLoadOrCreate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "issuer.pem")
	created, err := LoadOrCreate(path)
	require.NoError(t, err)
	again, err := LoadOrCreate(path)
	require.NoError(t, err)
	require.True(t, (*created.private).(*ecdsa.PrivateKey).Equal(*again.private))

	file, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), file.Mode().Perm())
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), dir.Mode().Perm())
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "a temporary file was left behind")
}

func TestLoadOrCreateRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	require.NoError(t, os.WriteFile(good, pkcs8(t, ecKey(t, elliptic.P256())), 0o600))
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o660, 0o644, 0o666} {
		path := filepath.Join(dir, fmt.Sprintf("%o", mode))
		data, err := os.ReadFile(good)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		require.NoError(t, os.Chmod(path, mode))
		_, err = LoadOrCreate(path)
		require.EqualError(t, err, fmt.Sprintf("signing key %s: mode %04o lets group or others in: run chmod 600 %s", path, mode, path))
	}

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(good, link))
	_, err := LoadOrCreate(link)
	require.ErrorContains(t, err, "is a symbolic link")

	dangling, target := filepath.Join(dir, "dangling"), filepath.Join(dir, "elsewhere")
	require.NoError(t, os.Symlink(target, dangling))
	_, err = LoadOrCreate(dangling)
	require.ErrorContains(t, err, "is a symbolic link")
	require.NoFileExists(t, target)

	_, err = LoadOrCreate(dir)
	require.ErrorContains(t, err, "is a folder")

	broken := filepath.Join(dir, "broken")
	require.NoError(t, os.WriteFile(broken, nil, 0o600))
	_, err = LoadOrCreate(broken)
	require.ErrorContains(t, err, "holds no PEM block", "a key file must never be replaced silently")
}

// TestLoadOrCreateRace starts processes that all find no key: the test binary
// itself, which runs TestHelperCreate only.
func TestLoadOrCreateRace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "issuer.pem")
	const processes = 6
	ids := make([]string, processes)
	var wg sync.WaitGroup
	for n := range processes {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelperCreate$", "-test.v")
			cmd.Env = append(os.Environ(), "ISSUER_TEST_KEY="+path)
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("process %d: %v: %s", n, err, out)
			}
			_, rest, _ := strings.Cut(string(out), "kid=")
			ids[n], _, _ = strings.Cut(rest, "\n")
		})
	}
	wg.Wait()
	k, err := LoadOrCreate(path)
	require.NoError(t, err)
	for _, id := range ids {
		require.Equal(t, k.ID(), id)
	}
}

func TestHelperCreate(t *testing.T) {
	path := os.Getenv("ISSUER_TEST_KEY")
	if path == "" {
		t.Skip("runs in processes of TestLoadOrCreateRace only")
	}
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for n := range ids {
		wg.Go(func() {
			k, err := LoadOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = k.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	fmt.Printf("kid=%s\n", ids[0])
}

// TestKeyID compares with jwx' RFC 7638 thumbprint.
func TestKeyID(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{ES256, ES384, EdDSA} {
		for range 20 {
			k, err := generate(algorithm)
			require.NoError(t, err)
			other, err := jwk.FromRaw((*k.private).Public())
			require.NoError(t, err)
			sum, err := other.Thumbprint(crypto.SHA256)
			require.NoError(t, err)
			require.Equal(t, base64.RawURLEncoding.EncodeToString(sum), k.ID())
		}
	}
	_, err := generate("HS256")
	require.ErrorContains(t, err, `"HS256"`)
}

// TestLoadKinds: each kind of key that is made is stored and read again.
func TestLoadKinds(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{ES256, ES384, EdDSA} {
		k, err := generate(algorithm)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "key.pem")
		require.NoError(t, k.store(path))
		again, err := LoadOrCreate(path)
		require.NoError(t, err)
		require.Equal(t, k, again)
	}
}

// FuzzParse: whatever is in a key file, parse neither panics nor takes a key
// that does not sign, nor are its errors of the file's making.
func FuzzParse(f *testing.F) {
	for _, algorithm := range []string{ES256, ES384, EdDSA} {
		k, err := generate(algorithm)
		require.NoError(f, err)
		der, err := x509.MarshalPKCS8PrivateKey(*k.private)
		require.NoError(f, err)
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if private, ok := (*k.private).(*ecdsa.PrivateKey); ok {
			der, err = x509.MarshalECPrivateKey(private)
			require.NoError(f, err)
			f.Add(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
		}
	}
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parse(data)
		if err != nil {
			require.Less(t, len(err.Error()), 100)
			return
		}
		i, err := New("http://gw", k)
		require.NoError(t, err)
		token, err := i.Sign(map[string]any{"sub": "x"})
		require.NoError(t, err)
		set, err := jwk.Parse(i.JWKS())
		require.NoError(t, err)
		_, err = jws.Verify([]byte(token), jws.WithKeySet(set))
		require.NoError(t, err)
	})
}

func TestKeyPrintsNothingPrivate(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{ES256, ES384, EdDSA} {
		k, err := generate(algorithm)
		require.NoError(t, err)
		i, err := New("http://gw", k)
		require.NoError(t, err)
		var secret []byte
		switch private := (*k.private).(type) {
		case *ecdsa.PrivateKey:
			secret, err = private.Bytes()
			require.NoError(t, err)
		case ed25519.PrivateKey:
			secret = private.Seed()
		}
		forms := []string{
			fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprint(secret), fmt.Sprintf("%q", secret),
			strings.Trim(fmt.Sprint(secret), "[]"),
			new(big.Int).SetBytes(secret).String(), // what a %v of the raw key prints
			base64.StdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
		}
		type holder struct {
			Exported   Key
			unexported Key
			Pointer    *Key
			Issuer     *Issuer
		}
		listed := Listed{Key: k}
		for _, v := range []any{
			k, *k, i, []*Key{k}, map[string]Key{"k": *k}, holder{*k, *k, k, i}, &holder{*k, *k, k, i},
			listed, &listed, entry{"", time.Time{}, k}, schedule{{key: k}}, &follower{keys: map[string]*Key{"k": k}, signing: k},
		} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
				printed := fmt.Sprintf(verb, v)
				for _, form := range forms {
					require.NotContains(t, printed, form)
				}
			}
			text, err := json.Marshal(v)
			if err == nil {
				require.NotContains(t, string(text), forms[len(forms)-1])
			}
		}
		require.Equal(t, "issuer.Key("+k.ID()+")", fmt.Sprintf("%+v", k))
	}
}
