package idp

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// person is somebody at a terminal.
type person struct{ home string }

// terminal is `pro`, running in one.
type terminal struct {
	cmd   *exec.Cmd
	shown *output
	pty   *os.File
	ended chan struct{}
}

func (p *person) types(t *testing.T, args ...string) *terminal {
	t.Helper()
	return start(t, p.command(args...))
}

func start(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	term := &terminal{cmd: cmd, shown: new(output), ended: make(chan struct{})}
	var err error
	term.pty, err = pty.Start(term.cmd)
	require.NoError(t, err)
	go func() {
		_, _ = io.Copy(term.shown, term.pty) // it ends with an error on Linux
		_ = term.cmd.Wait()
		close(term.ended)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		<-term.ended
		term.pty.Close()
	})
	return term
}

func (p *person) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(filepath.Dir(binary), "pro"), args...)
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + p.home} // no browser there
	return cmd
}

// waits until the terminal shows something, and returns what the pattern's
// first group found.
func (term *terminal) waits(t *testing.T, pattern string) string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = regexp.MustCompile(pattern).FindStringSubmatch(term.shown.String())
		return found != nil
	}, patience, 10*time.Millisecond, "%s is never shown", pattern)
	return found[len(found)-1]
}

// enters what a person would.
func (term *terminal) enters(t *testing.T, keys string) {
	t.Helper()
	_, err := term.pty.WriteString(keys)
	require.NoError(t, err)
}

// exits with this code, having shown that.
func (term *terminal) exits(t *testing.T, code int, shows ...string) {
	t.Helper()
	select {
	case <-term.ended:
	case <-time.After(patience):
		t.Fatalf("it does not end:\n%s", term.shown)
	}
	shown := strings.ReplaceAll(term.shown.String(), "\r\n", "\n")
	for _, s := range shows {
		require.Contains(t, shown, s)
	}
	require.Equal(t, code, term.cmd.ProcessState.ExitCode(), shown)
	require.NotContains(t, shown, "eyJ", "no token")
}

var pageShown = `(?s)\n\s+(http://\S+/auth\?\S+)\s`

// browse logs in at zitadel's form and follows it back to where `pro` waits, as
// a browser would, fragments included. It returns the last page.
func browse(t *testing.T, page string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	read := func(res *http.Response, err error) (*url.URL, string) {
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.Request.URL, string(body)
	}
	at, form := read(browser.Get(page))
	id := hidden.FindStringSubmatch(form)
	require.NotNil(t, id, form)
	target, err := at.Parse("/login/username")
	require.NoError(t, err)
	at, text := read(browser.PostForm(target.String(), url.Values{"id": {id[1]}, "username": {"test-user2"}, "password": {"verysecure"}}))
	if at.Fragment != "" { // what the page's script does
		fragment := at.EscapedFragment()
		at.Fragment, at.RawFragment = "", ""
		_, text = read(browser.PostForm(at.String(), url.Values{"fragment": {fragment}}))
	}
	return text
}

// TestPro logs a person in at a real provider's form, and calls a function with
// what comes of it.
func TestPro(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient}, []string{user}))
	someone := &person{t.TempDir()}
	term := someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer, "--client-id", nativeClient,
		"--scope", "openid email offline_access", "--listen-port", proPort)
	page := term.waits(t, pageShown)
	require.Contains(t, browse(t, page), "You are logged in")
	term.exits(t, 0, "cannot open a browser: ", "Logged in as "+user+": saved the gateway's token for "+g.url+", good until ", "(30m0s)")

	// A function token, by itself on stdout.
	token, err := someone.command("token", "--gateway", g.url, "--function", "openfaas-fn:shout").Output()
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, g.shout(t, strings.TrimSpace(string(token))))
	require.Equal(t, http.StatusForbidden, g.call(t, "env", strings.TrimSpace(string(token))))

	// The second time: the gateway alone, and nobody is asked.
	remembered := someone.file(t, "pro.yml")
	someone.types(t, "auth", "--gateway", g.url).exits(t, 0, "Logged in as "+user)
	require.NotEqual(t, remembered, someone.file(t, "pro.yml"), "the refresh token is another")

	// An API token that has ended is renewed by the way.
	config := someone.file(t, "config.yml")
	ended := regexp.MustCompile(`token: \S+`).ReplaceAllString(config, "token: e30.eyJleHAiOjF9.e30")
	require.NoError(t, os.WriteFile(filepath.Join(someone.home, ".openfaas", "config.yml"), []byte(ended), 0o600))
	// By one of them, where several find that: a refresh token is good once.
	tokens := make(chan string)
	for range 4 {
		go func() {
			token, _ := someone.command("token", "--gateway", g.url, "--function", "*").Output()
			tokens <- strings.TrimSpace(string(token))
		}()
	}
	for range 4 {
		require.Equal(t, http.StatusOK, g.shout(t, <-tokens))
	}
	require.NotContains(t, someone.file(t, "config.yml"), "eyJleHAiOjF9")

	// A refresh token that is no more has the person log in again.
	spent := regexp.MustCompile(`refresh_token: \S+`).ReplaceAllString(someone.file(t, "pro.yml"), "refresh_token: spent")
	require.NoError(t, os.WriteFile(filepath.Join(someone.home, ".openfaas", "pro.yml"), []byte(spent), 0o600))
	term = someone.types(t, "auth", "--gateway", g.url)
	require.Contains(t, browse(t, term.waits(t, pageShown)), "You are logged in")
	term.exits(t, 0, "the last login has ended (", "; log in again", "Logged in as "+user)

	// Another person's token for it is refused, and the login has ended.
	saved := someone.file(t, "config.yml")
	others := strings.Replace(someone.file(t, "pro.yml"), "subject: "+user, "subject: id1", 1)
	require.NotEqual(t, someone.file(t, "pro.yml"), others)
	require.NoError(t, os.WriteFile(filepath.Join(someone.home, ".openfaas", "pro.yml"), []byte(others), 0o600))
	someone.types(t, "auth", "--gateway", g.url).exits(t, 1, "pro: the provider's new ID token is not for the login that it renews: "+
		`its sub is "`+user+`", and was "id1"`, "Log in again: faas-cli pro auth --gateway "+g.url)
	require.Equal(t, saved, someone.file(t, "config.yml"))
	require.Contains(t, someone.file(t, "pro.yml"), `refresh_token: ""`)
	term = someone.types(t, "auth", "--gateway", g.url)
	require.Contains(t, browse(t, term.waits(t, pageShown)), "You are logged in")
	term.exits(t, 0, "Logged in as "+user)

	// What is in the tokens.
	decoded, err := someone.command("auth", "--gateway", g.url, "--pretty").Output()
	require.NoError(t, err)
	require.Contains(t, string(decoded), `"sub": "fed:`+user+`"`)
	require.Contains(t, string(decoded), `"policy": [`)

	// Logged out, its refresh token is good for nothing.
	refresh := regexp.MustCompile(`refresh_token: (\S+)`).FindStringSubmatch(someone.file(t, "pro.yml"))[1]
	someone.types(t, "logout", "--gateway", g.url).exits(t, 0, "Forgot the login at "+g.url)
	require.NotContains(t, someone.file(t, "pro.yml"), refresh)
	res, err := http.PostForm(p.discovered.Endpoint().TokenURL, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {nativeClient}})
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	someone.types(t, "auth", "--gateway", g.url).exits(t, 2, "--authority is missing")
}

func (p *person) file(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.home, ".openfaas", name))
	require.NoError(t, err)
	return string(data)
}

// TestProGrants are the other ways to log in, and the older form of the command.
func TestProGrants(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient, webClient, serviceClient, deviceClient}, []string{user, serviceClient}))
	opens := func(t *testing.T, someone *person) {
		t.Helper()
		token, err := someone.command("token", "--gateway", g.url, "--function", "openfaas-fn:shout").Output()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, g.shout(t, strings.TrimSpace(string(token))))
	}
	secret := func(t *testing.T, someone *person, text string) string {
		t.Helper()
		file := filepath.Join(someone.home, "secret")
		require.NoError(t, os.WriteFile(file, []byte(text+"\n"), 0o600))
		return file
	}
	t.Run("implicit-id", func(t *testing.T) {
		t.Parallel()
		someone := &person{t.TempDir()}
		term := someone.types(t, "auth", "-g", g.url, "--authority", p.issuer, "--client-id", webClient, "--grant", "implicit-id",
			"--no-browser", "--redirect-host", "http://localhost", "--listen-port", implicitPort)
		require.Contains(t, browse(t, term.waits(t, pageShown)), "You are logged in")
		term.exits(t, 0, "Logged in as "+user)
		opens(t, someone)
	})
	t.Run("client_credentials", func(t *testing.T) {
		t.Parallel()
		someone := &person{t.TempDir()}
		file := secret(t, someone, "verysecret")
		someone.types(t, "auth", "-g", g.url, "--authority", p.issuer, "--client-id", serviceClient, "--grant", "client_credentials",
			"--client-secret-file", file).exits(t, 0, "Logged in as "+serviceClient)
		opens(t, someone)
		someone.types(t, "auth", "-g", g.url).exits(t, 0, "Logged in as "+serviceClient)
		require.NotContains(t, someone.file(t, "pro.yml"), "verysecret")
		secret(t, someone, "another")
		someone.types(t, "auth", "-g", g.url).exits(t, 1, "the provider refuses: invalid_client")
	})
	t.Run("older", func(t *testing.T) {
		t.Parallel()
		someone := &person{t.TempDir()}
		require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(binary), "pro"), filepath.Join(someone.home, "auth")))
		older := someone.command("--auth-url", p.discovered.Endpoint().TokenURL, "--client-id", serviceClient, "--client-secret", "verysecret",
			"--grant", "client_credentials", "--audience", "x", "--gateway", g.url, "--eula")
		older.Path, older.Args[0] = filepath.Join(someone.home, "auth"), filepath.Join(someone.home, "auth")
		out, err := older.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "warning: secrets given as flags can be seen")
		opens(t, someone)
	})
	t.Run("device", func(t *testing.T) {
		t.Parallel()
		someone := &person{t.TempDir()}
		term := someone.types(t, "auth", "-g", g.url, "--authority", p.issuer, "--client-id", deviceClient, "--grant", "device",
			"--client-secret-file", secret(t, someone, "secret"))
		page := term.waits(t, `(?s)or open\s+(http://\S+)\s`)
		code := term.waits(t, `(?s)type the code\s+(\S+)\s`)
		require.Contains(t, page, code)
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		phone := &http.Client{Jar: jar}
		for _, step := range []struct {
			path   string
			fields url.Values
		}{
			{"/device/login", url.Values{"user_code": {code}, "username": {"test-user2"}, "password": {"verysecure"}}},
			{"/device/confirm", url.Values{"action": {"allowed"}}},
		} {
			res, err := phone.PostForm(p.issuer+step.path, step.fields)
			require.NoError(t, err)
			res.Body.Close()
			require.Equal(t, http.StatusOK, res.StatusCode)
		}
		term.exits(t, 0, "Logged in as "+user)
		opens(t, someone)
	})
	t.Run("no-exchange", func(t *testing.T) {
		t.Parallel()
		someone := &person{t.TempDir()}
		file := secret(t, someone, "verysecret")
		out, err := someone.command("auth", "-g", g.url, "--authority", p.issuer, "--client-id", serviceClient, "--grant", "client_credentials",
			"--client-secret-file", file, "--no-exchange", "--pretty").Output()
		require.NoError(t, err)
		require.Contains(t, string(out), `"iss": "`+p.issuer+`"`)
		require.NoFileExists(t, filepath.Join(someone.home, ".openfaas", "config.yml"))
	})
}

// TestProRefused: nobody is let in, and it is said why.
func TestProRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{nativeClient}, []string{"somebody else"}))
	someone := &person{t.TempDir()}
	term := someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer, "--client-id", nativeClient, "--listen-port", refusedPort)
	text := browse(t, term.waits(t, pageShown))
	require.Contains(t, text, "The login failed")
	require.Contains(t, text, "No policies found for subject: "+user)
	term.exits(t, 1, "No policies found for subject: "+user, `sub: "`+user+`"`, `principal: {"jwt:sub": ["`+user+`"]}`)
	require.NoFileExists(t, filepath.Join(someone.home, ".openfaas", "config.yml"))

	// The port is another's; then Ctrl-C.
	first := someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer, "--client-id", nativeClient, "--listen-port", refusedPort)
	first.waits(t, pageShown)
	someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer, "--client-id", nativeClient, "--listen-port", refusedPort).
		exits(t, 1, "address already in use; is another login under way?")
	first.enters(t, "\x03")
	first.exits(t, 1, "pro: interrupted")

	// A provider that is asked for another's client.
	nobody := someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer+"/realms/x", "--client-id", nativeClient)
	nobody.exits(t, 1, "is "+p.issuer+"/realms/x the provider's issuer URL?")
	gone := someone.types(t, "auth", "--gateway", g.url, "--authority", p.issuer, "--client-id", nativeClient, "--timeout", "50ms", "--listen-port", refusedPort)
	gone.exits(t, 1, "nobody logged in within 50ms")
}

// TestProTyped: what is typed at the terminal is not shown, however long it is, and
// the terminal is as it was afterwards.
func TestProTyped(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	g := startGateway(t, objects(p.issuer, []string{serviceClient}, []string{serviceClient}))
	// In a shell that goes on, as people's do.
	inShell := func(t *testing.T, someone *person, args ...string) *terminal {
		t.Helper()
		cmd := someone.command(args...)
		script := append([]string{"-c", `"$@"; code=$?; /bin/stty -a; exit $code`, "sh"}, cmd.Args...)
		shell := exec.Command("/bin/sh", script...)
		shell.Env = cmd.Env
		return start(t, shell)
	}
	restored := func(t *testing.T, term *terminal) {
		t.Helper()
		require.Regexp(t, `(?s) opost .* isig icanon .* echo `, strings.ReplaceAll(term.shown.String(), "\r\n", " "))
	}
	machine := []string{"auth", "-g", g.url, "--authority", p.issuer, "--client-id", serviceClient, "--grant", "client_credentials", "--client-secret-file"}
	for _, file := range []string{"-", "/dev/tty"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			term := inShell(t, &person{t.TempDir()}, append(machine, file)...)
			term.waits(t, `Client secret \(it is not shown\): `)
			term.enters(t, "verysecrex\x7ft\r")
			term.exits(t, 0, "Logged in as "+serviceClient)
			restored(t, term)
			require.NotContains(t, term.shown.String(), "verysec")
		})
	}
	t.Run("a long token", func(t *testing.T) {
		t.Parallel()
		term := inShell(t, &person{t.TempDir()}, "auth", "-g", g.url, "--token-file", "-")
		term.waits(t, `Token \(it is not shown\): `)
		// Longer than what a terminal's own lines take, and all of it comes.
		claims := base64.RawURLEncoding.EncodeToString([]byte(`{"groups":"` + strings.Repeat("long ", 1000) + `","iss":"https://idp.example","sub":"alice"}`))
		term.enters(t, "eyJhbGciOiJFUzI1NiJ9."+claims+".c2lnbmF0dXJl\r")
		term.exits(t, 1, "issuer https://idp.example is not a registered JwtIssuer", `sub: "alice"`)
		restored(t, term)
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		term := inShell(t, &person{t.TempDir()}, append(machine, "-")...)
		term.waits(t, `Client secret \(it is not shown\): `)
		term.enters(t, "verysecret\x03")
		term.exits(t, 1, "pro: interrupted")
		restored(t, term)
		require.NotContains(t, term.shown.String(), "verysec")
	})
}
