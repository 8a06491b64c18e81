package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestQuickstart follows the README from an empty folder: it pastes what the
// gateway prints into a shell.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	printed := g.stdout.find(t, g.program, `(?s)Try it in a second terminal, in this folder:\n\n(.*Bearer \$TOKEN")\n`)[1]

	script := exec.Command("bash", "-eu")
	script.Dir = g.dir
	script.Stdin = strings.NewReader(printed + "\nprintf '\\n%s\\n%s\\n' \"$ID_TOKEN\" \"$TOKEN\"\n")
	out, err := script.Output()
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(out), "HTTP/1.1 401 Unauthorized"), "%s", out)
	require.Equal(t, 1, strings.Count(string(out), "HTTP/1.1 200 OK"), "%s", out)
	require.Contains(t, string(out), "Hello! You sent GET /\n")
	tail := lines(string(out))
	for _, token := range tail[len(tail)-2:] {
		require.Regexp(t, `^[\w-]+\.[\w-]+\.[\w-]+$`, token)
	}

	dashboard := g.stdout.find(t, g.program, `\n  dashboard +(\S+)\n`)[1]
	require.Equal(t, g.url+"/ui/", dashboard)
	require.Equal(t, http.StatusOK, get(t, dashboard+"login").status)

	require.Equal(t, "OK\n", get(t, g.url+"/healthz").body)
	require.Contains(t, get(t, g.url+"/function/env/some/path?q=1").body, "Http_Path=/some/path\n")
	upper := do(t, http.MethodPost, g.url+"/function/upper.openfaas-fn", "shout", "Authorization: bearer "+g.functionToken(t))
	require.Equal(t, answer{http.StatusOK, upper.header, "SHOUT"}, upper)
}

// TestStateAndStop checks what is in data_dir, that a second start reuses it,
// and that Ctrl-C leaves nothing behind.
func TestStateAndStop(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", []string{"port=" + freeport.Take()})
	state := func(name string) string {
		path := filepath.Join(g.dir, ".gatehound", name)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is readable by others: %s", name, info.Mode())
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(data)
	}
	names := []string{"keys/first.pem", "dev-idp.key", "secrets/basic-auth-user", "secrets/basic-auth-password", "iam/sample.yaml"}
	before := make(map[string]string)
	for _, name := range names {
		before[name] = state(name)
	}
	token := g.functionToken(t)
	runDir, err := os.Readlink(filepath.Join(g.dir, ".gatehound", "run"))
	require.NoError(t, err)
	require.NotEmpty(t, relatives(t, runDir))

	require.Equal(t, "*\n", state(".gitignore"))

	require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, g.wait(t))
	require.Empty(t, relatives(t, runDir))
	require.NoDirExists(t, runDir)

	again := startUp(t, g.dir, []string{"port=" + strings.TrimPrefix(g.url, "http://127.0.0.1:")})
	for _, name := range names {
		require.Equal(t, before[name], state(name), name)
	}
	require.Equal(t, g.url, again.url)
	hello := get(t, again.url+"/function/hello", "Authorization: Bearer "+token)
	require.Equal(t, http.StatusOK, hello.status, "a token of the first run opens functions of the second: %s", hello.body)

	second := start(t, g.dir, freePorts, "gateway", "up")
	require.Equal(t, 1, second.wait(t))
	require.Contains(t, second.stderr.String(), "is in use by another gateway")
}

// TestCtrlCDuringACall stops the gateway while a function is at work: the call
// gets its answer. A second Ctrl-C does not wait for it. Neither leaves a
// process behind.
func TestCtrlCDuringACall(t *testing.T) {
	t.Parallel()
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprintf("patient=%t", patient), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// It works until there is a file named go.
			require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(`
functions:
  busy:
    fprocess: sh -c 'echo at work >&2; while ! [ -e go ]; do sleep 0.05; done; echo done'
    environment: {mode: serializing}
`), 0o600))
			g := startUp(t, dir, nil, "-f", "stack.yml")
			runDir, err := os.Readlink(filepath.Join(dir, ".gatehound", "run"))
			require.NoError(t, err)
			body := make(chan string, 1)
			go func() {
				res, err := http.Get(g.url + "/function/busy")
				if err != nil {
					body <- err.Error()
					return
				}
				defer res.Body.Close()
				read, _ := io.ReadAll(res.Body)
				body <- string(read)
			}()
			g.stderr.find(t, g.program, `stderr: at work`)
			require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
			g.stderr.find(t, g.program, `a second Ctrl-C stops at once`)
			if patient {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
				require.Equal(t, "done\n", <-body)
				require.Zero(t, g.wait(t))
				require.Empty(t, relatives(t, runDir))
				return
			}
			t.Cleanup(func() { os.RemoveAll(runDir) }) // or the next start's business
			require.NoError(t, g.cmd.Process.Signal(os.Interrupt))
			require.NotZero(t, g.wait(t))
			require.NotEqual(t, "done\n", <-body)
			eventually(t, func() bool { return len(relatives(t, runDir)) == 0 }, "processes are left")
		})
	}
}

// TestKilled kills the gateway outright: the functions go too, and the next
// start works and tidies up.
func TestKilled(t *testing.T) {
	t.Parallel()
	g := startUp(t, "", nil)
	runDir, err := os.Readlink(filepath.Join(g.dir, ".gatehound", "run"))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(g.cmd.Process.Pid, syscall.SIGKILL))
	g.wait(t)
	eventually(t, func() bool { return len(relatives(t, runDir)) == 0 }, "processes are left")

	again := startUp(t, g.dir, nil)
	require.NoDirExists(t, runDir)
	require.Equal(t, http.StatusOK, get(t, again.url+"/function/hello", "Authorization: Bearer "+again.functionToken(t)).status)
}

// TestOwnStack runs functions of a stack.yml of the user's.
func TestOwnStack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "extra.yml"), []byte("environment:\n  greeting: hi there\n  mode: streaming\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(`
provider: {name: openfaas, gateway: http://127.0.0.1:8080}
functions:
  greet:
    lang: dockerfile
    handler: ./greet
    image: example/greet:latest
    namespace: dev
    fprocess: bash -c 'echo "$greeting, $0"' world
    environment_file: [extra.yml]
    environment: {mode: serializing}
    labels: {team: blue}
  beside: {fprocess: sh ./beside.sh, environment: {mode: serializing}}
  locked: {namespace: prod, fprocess: cat, environment: {jwt_auth: true}}
`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "beside.sh"), []byte("echo I am beside the stack\n"), 0o600))
	g := startUp(t, dir, []string{"function_namespace=dev"}, "-f", "stack.yml")
	for _, line := range []string{
		`greet +for everybody +` + g.url + `/function/greet`,
		`locked.prod +with a function token +` + g.url + `/function/locked.prod`,
	} {
		require.Regexp(t, `(?m)^  `+line+`$`, g.stdout.String())
	}
	require.Contains(t, g.stdout.String(), "audience=prod:locked |")
	require.Equal(t, "hi there, world\n", get(t, g.url+"/function/greet").body)
	require.Equal(t, "hi there, world\n", get(t, g.url+"/function/greet.dev").body)
	require.Equal(t, "I am beside the stack\n", get(t, g.url+"/function/beside").body)
	require.Equal(t, http.StatusNotFound, get(t, g.url+"/function/greet.prod").status)

	password, err := os.ReadFile(filepath.Join(dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	basic := basicAuth("admin", strings.TrimSpace(string(password)))
	var functions []map[string]any
	require.NoError(t, json.Unmarshal([]byte(get(t, g.url+"/system/functions?namespace=dev", basic).body), &functions))
	require.Len(t, functions, 2)
	require.Equal(t, "greet", functions[1]["name"])
	require.Equal(t, "dev", functions[1]["namespace"])
	require.EqualValues(t, 1, functions[1]["availableReplicas"])
	require.Equal(t, map[string]any{"team": "blue"}, functions[1]["labels"])
	require.Equal(t, get(t, g.url+"/system/functions?namespace=dev", basic).body, get(t, g.url+"/system/functions", basic).body)
}
