package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}

const theirs = `# mine, by hand
auths:
  # the staging one
  - gateway: http://127.0.0.1:8080
    auth: basic # the password
    token: YWRtaW46YWRtaW4=
    options: []
    note: {keep: me} # not faas-cli's
  - gateway: https://gw.example.com
    auth: oauth2
    token: old
    options:
      - name: a
        value: b
future: [1, two]
`

func TestEntries(t *testing.T) {
	t.Parallel()
	e, err := parseEntries([]byte(theirs), "auths")
	require.NoError(t, err)
	require.NoError(t, e.put("https://gw.example.com", credential{"https://gw.example.com", "oauth2", "new"}))
	half, err := e.bytes("https://gw.example.com")
	require.NoError(t, err)
	e, err = parseEntries(half, "auths")
	require.NoError(t, err)
	require.NoError(t, e.put("https://third", credential{"https://third", "oauth2", "its"}))
	out, err := e.bytes("https://third")
	require.NoError(t, err)
	want := strings.Replace(theirs, "token: old", "token: new", 1)
	want = strings.Replace(want, "future:", "  - gateway: https://third\n    auth: oauth2\n    token: its\nfuture:", 1)
	require.Equal(t, want, string(out))

	e, err = parseEntries([]byte(theirs), "auths")
	require.NoError(t, err)
	require.NoError(t, e.put("http://127.0.0.1:8080", credential{"http://127.0.0.1:8080", "oauth2", "api"}))
	require.True(t, e.remove("https://gw.example.com"))
	require.False(t, e.remove("https://gw.example.com"))
	out, err = e.bytes("https://gw.example.com")
	require.NoError(t, err)
	require.Contains(t, string(out), "  # the staging one\n  - gateway: http://127.0.0.1:8080\n    auth: oauth2 # the password\n    token: api\n    options: []\n    note: {keep: me} # not faas-cli's\n")
	require.NotContains(t, string(out), "gw.example.com")

	for _, text := range []string{"", "# nothing\n", "auths:\n", "auths: []\n", "null\n", "other: 1\n"} {
		e, err := parseEntries([]byte(text), "auths")
		require.NoError(t, err, text)
		require.NoError(t, e.put("g", credential{"g", "oauth2", "t"}))
		out, err := e.bytes("g")
		require.NoError(t, err)
		require.Contains(t, string(out), "auths:\n  - gateway: g\n    auth: oauth2\n    token: t\n", text)
		var c credential
		again, err := parseEntries(out, "auths")
		require.NoError(t, err)
		found, err := again.get("g", &c)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, credential{"g", "oauth2", "t"}, c)
	}
	for _, text := range []string{"- a\n", "auths: 1\n", "auths: {}\n", "a: [\n", "a: 1\n---\nb: 2\n", "text"} {
		_, err := parseEntries([]byte(text), "auths")
		require.Error(t, err, text)
	}
}

// TestOthersRead: what is written is what faas-cli reads, which takes the first
// entry of a gateway, aliases followed.
func TestOthersRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"auths: [{gateway: g, token: a}, {gateway: g, token: b}]":    "",
		"auths: [{gateway: g/, token: a}, null]":                     "",
		"auths: [{gateway: h, token: a}]\nx: &x {gateway: g}\ny: *x": "",
		"x: &x {gateway: g, token: a}\nauths: [*x]":                  "the entry of g has aliases",
		"x: &x {gateway: g, token: a}\nauths:\n- <<: *x":             "the entry of g has aliases",
		"x: &x g\nauths:\n- {gateway: *x, token: a}":                 "the entry of g has aliases",
		"auths: [{gateway: g, token: a, gateway: g}]":                `mapping key "gateway" already defined`,
		"auths: [3]": "faas-cli could not read it",
		"auths:\n- gateway: g\n  token: &x a\n- gateway: h\n  token: *x\n": "line 3: token has an anchor",
	} {
		dir := t.TempDir()
		s := &store{dir}
		path := filepath.Join(dir, "config.yml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		err := s.saveCredential(credential{"g", "oauth2", "new"})
		data, _ := os.ReadFile(path)
		if want != "" {
			require.ErrorContains(t, err, want, text)
			require.Equal(t, text, string(data))
			continue
		}
		require.NoError(t, err, text)
		var read struct{ Auths []credential }
		require.NoError(t, yaml.Unmarshal(data, &read))
		i := slices.IndexFunc(read.Auths, func(c credential) bool { return c.Gateway == "g" })
		require.Equal(t, credential{"g", "oauth2", "new"}, read.Auths[i], text)
		require.NoError(t, s.removeCredential("g"))
		data, err = os.ReadFile(path)
		require.NoError(t, err)
		read.Auths = nil
		require.NoError(t, yaml.Unmarshal(data, &read))
		require.False(t, slices.ContainsFunc(read.Auths, func(c credential) bool { return c.Gateway == "g" }), "none comes to light from behind: %s", data)
	}
}

// FuzzEntries: what was in the file is still there, and so is what was put.
func FuzzEntries(f *testing.F) {
	for _, text := range []string{theirs, "", "auths:\n- gateway: g\n  token: &a x\nb: *a\n", "auths: [*x]", "auths: [{gateway: g}]", "a: !!binary x", "0: [{0}]", "a: {b, c: }", "? [a]\n: b",
		"auths:\n- gateway: https://mine\n", "auths: [&x {gateway: https://mine}, *x]", "x: &x {gateway: https://mine}\nauths: [<<: *x, {gateway: *x}]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEntries([]byte(text), "auths")
		if err != nil {
			return
		}
		var before map[string]any
		if yaml.Unmarshal([]byte(text), &before) != nil {
			return
		}
		if e.put("https://mine", credential{"https://mine", "oauth2", "t"}) != nil {
			return
		}
		out, err := e.bytes("https://mine")
		if err != nil {
			return // it is refused, and the file stays
		}
		var after map[string]any
		require.NoError(t, yaml.Unmarshal(out, &after), "%s", out)
		for key, value := range before {
			if key != "auths" {
				require.Equal(t, fmt.Sprint(value), fmt.Sprint(after[key]))
			}
		}
		again, err := parseEntries(out, "auths")
		require.NoError(t, err)
		var c credential
		found, err := again.get("https://mine", &c)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, "t", c.Token)
		var read struct {
			Auths []struct{ Gateway, Token yaml.Node }
		} // as faas-cli, but for others' entries
		require.NoError(t, yaml.Unmarshal(out, &read))
		i := slices.IndexFunc(read.Auths, func(c struct{ Gateway, Token yaml.Node }) bool {
			var text string
			return c.Gateway.Decode(&text) == nil && text == "https://mine"
		})
		require.Equal(t, "t", read.Auths[i].Token.Value, "%s", out)
	})
}

func TestOpenStore(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ config, ci, want string }{
		{"", "", "/home/me/.openfaas"},
		{"", "true", ".openfaas"},
		{"", "1", ".openfaas"},
		{"", "false", "/home/me/.openfaas"},
		{"/etc/faas", "true", "/etc/faas"},
		{"~/faas", "", "/home/me/faas"},
		{"~other", "", "~other"},
	} {
		env := map[string]string{"HOME": "/home/me", "OPENFAAS_CONFIG": tc.config, "CI": tc.ci}
		s, err := openStore(func(name string) string { return env[name] })
		require.NoError(t, err)
		require.Equal(t, tc.want, s.dir)
	}
	_, err := openStore(func(string) string { return "" })
	require.ErrorContains(t, err, "HOME is not set")
}

// TestSymlink: dotfiles kept elsewhere stay there.
func TestSymlink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &store{filepath.Join(dir, "openfaas")}
	require.NoError(t, os.Mkdir(s.dir, 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dotfiles"), 0o700))
	target := filepath.Join(dir, "dotfiles", "faas.yml")
	require.NoError(t, os.WriteFile(target, []byte(theirs), 0o644))
	link := filepath.Join(s.dir, "config.yml")
	require.NoError(t, os.Symlink("../dotfiles/faas.yml", link))
	require.NoError(t, s.saveCredential(credential{"https://gw.example.com", "oauth2", "new"}))
	to, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, "../dotfiles/faas.yml", to)
	data, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, strings.Replace(theirs, "token: old", "token: new", 1), string(data))
	info, err := os.Stat(target)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

// TestSymlinks: where a link leads is said from where it is, be its folder a link, too.
func TestSymlinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "openfaas"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "home"), 0o700))
	require.NoError(t, os.Symlink("../data/openfaas", filepath.Join(dir, "home", ".openfaas")))
	link := filepath.Join(dir, "data", "openfaas", "config.yml")
	require.NoError(t, os.Symlink("../faas.yml", link))
	s := &store{filepath.Join(dir, "home", ".openfaas")}
	for range 2 { // it makes the file, then it changes it
		require.NoError(t, s.saveCredential(credential{"https://gw.example.com", "oauth2", "new"}))
		data, err := os.ReadFile(filepath.Join(dir, "data", "faas.yml"))
		require.NoError(t, err)
		require.Contains(t, string(data), "token: new")
		_, err = os.Readlink(link)
		require.NoError(t, err)
	}
}

// TestDamaged: a file that cannot be read is not written either.
func TestDamaged(t *testing.T) {
	t.Parallel()
	g := newGateway(t, gives("api"))
	u := newUser(t)
	require.NoError(t, os.Mkdir(filepath.Join(u.home, ".openfaas"), 0o700))
	path := filepath.Join(u.home, ".openfaas", "config.yml")
	require.NoError(t, os.WriteFile(path, []byte("auths: [\n"), 0o600))
	code, _, stderr := u.run(t, "", "auth", "-g", g.URL, "--token", "t")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, path+": yaml: line")
	require.Equal(t, "auths: [\n", u.config(t))
}

// asProgram starts this binary as the program.
func (u *user) asProgram(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{"PRO_TEST_IS_PROGRAM=1", "HOME=" + u.home}
	return cmd
}

// TestConcurrent: runs at the same time lose nobody's login.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	g := newGateway(t, gives("api"))
	u := newUser(t)
	const runs = 12
	var all sync.WaitGroup
	errs := make(chan error, runs)
	for i := range runs {
		all.Go(func() {
			out, err := u.asProgram("auth", "-g", fmt.Sprintf("%s/%d", g.URL, i), "--token", "t").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			errs <- err
		})
	}
	all.Wait()
	for range runs {
		require.NoError(t, <-errs)
	}
	for i := range runs {
		require.Contains(t, u.config(t), fmt.Sprintf("gateway: %s/%d\n", g.URL, i))
	}
	require.Equal(t, runs, strings.Count(u.config(t), "token: api\n"))
}

// TestKilled: whoever is killed, the file is the old or the new one.
func TestKilled(t *testing.T) {
	t.Parallel()
	g := newGateway(t, gives("api"))
	u := newUser(t)
	require.NoError(t, os.Mkdir(filepath.Join(u.home, ".openfaas"), 0o700))
	long := theirs + "# " + strings.Repeat("long ", 200_000) + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(u.home, ".openfaas", "config.yml"), []byte(long), 0o600))
	for i := range 15 {
		cmd := u.asProgram("auth", "-g", g.URL, "--token", "t")
		require.NoError(t, cmd.Start())
		killer := time.AfterFunc(time.Duration(i*8)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		killer.Stop()
		text := u.config(t)
		require.Contains(t, text, "token: YWRtaW46YWRtaW4=\n")
		require.True(t, strings.HasSuffix(text, "long \n"), "%d bytes", len(text))
	}
	code, _, stderr := u.run(t, "", "auth", "-g", g.URL, "--token", "t")
	require.Equal(t, 0, code, "the lock of who was killed is nobody's: %s", stderr)
	left, err := os.ReadDir(filepath.Join(u.home, ".openfaas"))
	require.NoError(t, err)
	require.Len(t, left, 3, "config.yml, pro.yml, pro.lock")
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	s := &store{t.TempDir()}
	unlock, err := s.lock(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.lock(ctx)
	require.ErrorContains(t, err, "cannot lock "+s.dir)
	unlock()
	unlock, err = s.lock(t.Context())
	require.NoError(t, err)
	unlock()
}
