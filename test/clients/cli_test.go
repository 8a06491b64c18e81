package clients

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stack is what the gateway of these tests starts with.
const stack = `functions:
  shout: {image: shout, fprocess: tr a-z A-Z, environment: {mode: serializing}}
  guarded: {image: guarded, fprocess: cat, environment: {mode: serializing, jwt_auth: true}}
`

// admin is logged in with the administrator's password.
func (g *gateway) admin(t *testing.T) *user {
	t.Helper()
	u := g.user(t)
	shown, ok := u.run(t, g.password(t), "login", "--password-stdin")
	require.True(t, ok, shown)
	require.Contains(t, shown, "credentials saved for admin "+g.url)
	return u
}

func TestLogin(t *testing.T) {
	t.Parallel()
	g := startGateway(t, stack)
	u := g.user(t)
	u.fails(t, "list", `Unauthorized access, run "faas-cli login"`)
	shown, ok := u.run(t, "wrong", "login", "--password-stdin")
	require.False(t, ok)
	require.Contains(t, shown, "either username or password is incorrect")
	u.shows(t, "ready", "OpenFaaS gateway is ready")

	u = g.admin(t)
	u.shows(t, "version --warn-update=false", "Gateway", g.url, "orchestration:")
	u.shows(t, "logout", "credentials removed for "+g.url)
	u.fails(t, "list", "Unauthorized access")
}

// TestFunctions takes functions through their life.
func TestFunctions(t *testing.T) {
	t.Parallel()
	overEach(t, functionLife)
}

func functionLife(t *testing.T, g *gateway) {
	u := g.admin(t)
	require.Equal(t, "guarded\nshout\n", u.shows(t, "list -q"))

	// By flags, then changed.
	u.shows(t, "deploy --name echo --image ghcr.io/me/echo:1 --fprocess cat --env mode=serializing --label team=a "+
		"--annotation topic=cron --memory-limit 64Mi --cpu-limit 100m --memory-request 32Mi",
		"Deployed. 202 Accepted.", "URL: "+g.url+"/function/echo")
	u.shows(t, "ready echo --interval 20ms --attempts 500", "Function echo is ready")
	require.Equal(t, "moo", u.invoke(t, "moo", "echo"))
	require.Equal(t, "MOO", u.invoke(t, "moo", "shout"))
	u.shows(t, "describe echo", "Name: echo\n", "Status: Ready\n", "Replicas: 1\n",
		"Available Replicas: 1\n", "Invocations: 1\n", "Image: ghcr.io/me/echo:1\n",
		"Function Process: cat\n", "URL: "+g.url+"/function/echo\n", "team: a", "topic: cron",
		"mode: serializing", "CPU: 100m", "Memory: 64Mi", "Memory: 32Mi")
	u.shows(t, "describe echo -v", "Constraints:", "Secrets:")
	u.shows(t, "deploy --name echo --image ghcr.io/me/echo:2 --fprocess rev --env mode=serializing", "Deployed. 202 Accepted.")
	require.Equal(t, "oom\n", u.invoke(t, "moo\n", "echo"))
	u.fails(t, "deploy --name echo --image x --fprocess no-such-program", "422", "the new version does not start, so the one before it stays")
	u.shows(t, "describe echo", "Image: ghcr.io/me/echo:2\n", "Status: Ready\n")

	verbose := u.shows(t, "list -v --sort invocations", "Function", "Image", "Invocations", "Replicas", "CreatedAt")
	require.Regexp(t, `echo\s+ghcr.io/me/echo:2\s+2\s+1\s+20\d\d-`, verbose)
	require.Regexp(t, `shout\s+shout\s+1\s+1\s`, verbose)
	require.Regexp(t, `(?m)^shout\s+1\s+1\s*$`, u.shows(t, "list"))
	u.shows(t, "deploy --name echo --image x --fprocess cat --env mode=serializing --replace --update=false",
		"Removing old function.", "Deployed. 202 Accepted.")

	// From a file, into a namespace, where `up` builds and pushes nothing.
	u.templates(t)
	u.shows(t, "namespace create dev", "Namespace Created: dev")
	u.write(t, "dev.yml", `version: 1.0
provider: {name: openfaas}
functions:
  upper: {lang: dockerfile, handler: ., image: me/upper:1, namespace: dev, skip_build: true, fprocess: tr a-z A-Z, environment: {mode: serializing}}
  lower: {lang: dockerfile, handler: ., image: me/lower:1, namespace: dev, skip_build: true, fprocess: tr A-Z a-z, environment: {mode: serializing}, labels: {com.openfaas.scale.min: "2"}}
`)
	u.shows(t, "up -f dev.yml --skip-push", "Deploying: upper.", "Deploying: lower.", "URL: "+g.url+"/function/upper.dev")
	u.shows(t, "deploy -f dev.yml --filter upper --label again=yes", "Deployed. 202 Accepted.")
	u.shows(t, "ready lower -n dev --interval 20ms --attempts 500", "Waiting for function lower.dev")
	require.Equal(t, "moo", u.invoke(t, "MOO", "lower", "-n", "dev"))
	require.Equal(t, "MOO", u.invoke(t, "moo", "upper", "-f", "dev.yml"))
	require.Equal(t, "lower\nupper\n", u.shows(t, "list -q -n dev"))
	u.shows(t, "describe lower -n dev", "Replicas: 2\n", "/function/lower.dev")
	u.shows(t, "remove -f dev.yml", "Deleting: upper.dev", "Deleting: lower.dev")
	require.Empty(t, u.shows(t, "list -q -n dev"))

	// What is refused says why.
	u.fails(t, "deploy --name Bad_Name --image x", "Bad_Name")
	u.fails(t, "deploy --name lacks --image x --fprocess cat --secret nobody", "nobody")
	u.fails(t, "describe nobody", "No such function: nobody")
	u.fails(t, "invoke nobody", "404")
	u.fails(t, "invoke shout --async", "501 - async calls are not implemented")
	u.shows(t, "remove echo", "Removing old function.")
	u.fails(t, "remove echo", "No existing function to remove")
}

// templates puts ours where faas-cli looks for some, and else clones some.
func (u *user) templates(t *testing.T) {
	t.Helper()
	ours, err := filepath.Abs("../../template")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(ours, filepath.Join(u.home, "template")))
}

// invoke returns what a function answers.
func (u *user) invoke(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	shown, ok := u.run(t, stdin, append([]string{"invoke"}, args...)...)
	require.True(t, ok, shown)
	return shown
}

// TestTemplates makes a function from each of our templates, and runs one
// without an image: its folder is the one that faas-cli would have built.
func TestTemplates(t *testing.T) {
	t.Parallel()
	build := t.TempDir()
	g := startGateway(t, stack, "functions_dir="+build)
	u := g.admin(t)
	u.templates(t)
	require.NoError(t, os.Symlink(build, filepath.Join(u.home, "build")))
	templates, err := os.ReadDir("../../template")
	require.NoError(t, err)
	for _, template := range templates {
		name := "my-" + template.Name()
		u.shows(t, "new "+name+" --lang "+template.Name(), "Function created in folder: "+name, "Set jwt_auth: true")
		u.shows(t, "build --shrinkwrap -f "+name+".yml", name+" shrink-wrapped to ./build/"+name)
		require.FileExists(t, filepath.Join(build, name, "Dockerfile"))
		require.DirExists(t, filepath.Join(build, name, "function"))
		u.shows(t, "generate -f "+name+".yml", "kind: Function", "name: "+name)
	}
	u.shows(t, "deploy -f my-bash.yml --env mode=serializing", "Deployed. 202 Accepted.")
	u.shows(t, "describe my-bash", "Function Process: bash function/handler.sh")
	require.Equal(t, "Hello! You sent POST /\nmoo", u.invoke(t, "moo", "my-bash"))
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	overEach(t, namespaceLife)
}

func namespaceLife(t *testing.T, g *gateway) {
	u := g.admin(t)
	u.shows(t, "namespace create dev --label team=a --annotation note=b", "Namespace Created: dev")
	u.fails(t, "namespace create dev", "409", "dev")
	require.Equal(t, "Namespaces:\n - dev\n - openfaas-fn\n", u.shows(t, "namespace list"))
	u.shows(t, "namespaces", " - dev\n")
	u.shows(t, "namespace get dev", "dev", "team: a", "note: b")
	u.shows(t, "namespace update dev --label team=c", "Namespace Updated: dev")
	u.shows(t, "namespace get dev", "team: c")
	u.shows(t, "namespace remove dev", "Namespace Removed: dev")
	u.fails(t, "namespace get dev", "Namespace dev not found")
	u.fails(t, "namespace remove dev", "Namespace dev not found")
	require.Equal(t, "Namespaces:\n - openfaas-fn\n", u.shows(t, "namespace list"))
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	overEach(t, secretLife)
}

func secretLife(t *testing.T, g *gateway) {
	u := g.admin(t)
	u.shows(t, "secret create api-key --from-literal=hunter2", "Creating secret: api-key.", "Created: 202 Accepted")
	shown, ok := u.run(t, "from stdin\n", "secret", "create", "typed")
	require.True(t, ok, shown)
	u.write(t, "key", "from a file\n")
	u.shows(t, "secret create filed --from-file=key --trim=false", "Created: 202 Accepted")
	u.shows(t, "secret create api-key --from-literal=again", "already exists") // faas-cli exits with 0 here
	u.shows(t, "secret list", "NAME", "api-key", "typed", "filed")

	script := filepath.Join(u.home, "tell.sh")
	u.write(t, "tell.sh", `cat "$file"`)
	for name, value := range map[string]string{"api-key": "hunter2", "typed": "from stdin", "filed": "from a file\n"} {
		shown, ok := u.run(t, "", "deploy", "--name=tell-"+name, "--image=tell", "--env=mode=serializing", "--secret="+name,
			"--env=file=/var/openfaas/secrets/"+name, "--fprocess=sh "+script)
		require.True(t, ok, shown)
		require.Equal(t, value, u.invoke(t, "", "tell-"+name))
	}
	u.shows(t, "secret update api-key --from-literal=hunter3", "Updated: 202 Accepted")
	eventually(t, "the update is never seen", func() bool { return u.invoke(t, "", "tell-api-key") == "hunter3" })
	u.shows(t, "secret update nobody --from-literal=x", "unable to find secret: nobody")
	u.shows(t, "secret remove typed", "Removed")
	u.fails(t, "secret remove typed", "Unable to find secret: typed")
	require.NotContains(t, u.shows(t, "secret list"), "typed")
	require.NotContains(t, g.stderr.String(), "hunter2")
}

// TestLogs reads a function's log, and follows it.
func TestLogs(t *testing.T) {
	t.Parallel()
	overEach(t, readLogs)
}

func readLogs(t *testing.T, g *gateway) {
	u := g.admin(t)
	for range 3 {
		u.invoke(t, "moo", "shout")
	}
	line := regexp.MustCompile(`(?m)^\S+ .*POST / - 200 OK`)
	eventually(t, "the calls are never logged", func() bool {
		return len(line.FindAllString(u.shows(t, "logs shout --tail=false"), -1)) == 3
	})
	require.Len(t, strings.Split(strings.TrimSpace(u.shows(t, "logs shout --tail=false --lines 2")), "\n"), 2)
	u.shows(t, "logs shout --tail=false --since 10m --output json", `"name":"shout"`, `"namespace":"openfaas-fn"`)
	require.Empty(t, u.shows(t, "logs shout --tail=false --since-time 2100-01-01T00:00:00Z"))
	u.shows(t, "logs shout --tail=false --name --instance --lines 1", " shout (")
	u.fails(t, "logs nobody --tail=false", "404")

	followed := new(output)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := u.command(ctx, "", "logs", "shout", "--lines", "1")
	cmd.Stdout = followed
	require.NoError(t, cmd.Start())
	eventually(t, "it says nothing", func() bool { return followed.String() != "" })
	u.invoke(t, "moo", "shout")
	eventually(t, "the call is never seen", func() bool { return strings.Count(followed.String(), "\n") >= 2 })
	u.shows(t, "remove shout", "Removing old function.")
	require.NoError(t, cmd.Wait(), "it ends with the function")
}

// TestStore deploys from a store of functions.
func TestStore(t *testing.T) {
	t.Parallel()
	overEach(t, fromStore)
}

func fromStore(t *testing.T, g *gateway) {
	u := g.admin(t)
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"version":"0.2.0","functions":[{"title":"Echo","name":"echo","author":"me","description":"says it again",
			"fprocess":"cat","environment":{"mode":"serializing"},"labels":{"shelf":"1"},"repo_url":"https://example.test",
			"images":{"x86_64":"me/echo:1","arm64":"me/echo:1"}}]}`))
	}))
	t.Cleanup(store.Close)
	at := " --platform x86_64 --url " + store.URL
	u.shows(t, "store list"+at, "echo me Echo")
	u.shows(t, "store inspect echo"+at, "me/echo:1", "says it again")
	u.shows(t, "store deploy echo --label shelf=2"+at, "Deployed. 202 Accepted.")
	u.shows(t, "ready echo --interval 20ms --attempts 500", "ready")
	require.Equal(t, "moo", u.invoke(t, "moo", "echo"))
	u.shows(t, "store deploy echo --name other --env greeting=hi"+at, "/function/other")
	u.shows(t, "describe other", "greeting: hi", "shelf: 1")
}

// TestToken has somebody with an API token do what is granted, and no more.
func TestToken(t *testing.T) {
	t.Parallel()
	g := startGateway(t, stack)
	admin := g.admin(t)
	admin.shows(t, "namespace create dev", "dev")
	admin.shows(t, "namespace create prod", "prod")
	admin.shows(t, "secret create theirs --from-literal=x", "202")

	g.grant(t, "dora", []string{"Function:*", "Secret:*", "Namespace:List", "Namespace:Get"}, []string{"dev:*"})
	token := g.apiToken(t, "dora")
	require.Equal(t, "fed:dora", claims(t, token)["sub"])
	for name, u := range map[string]*user{"login": g.tokenUser(t, token), "flag": g.user(t)} {
		t.Run(name, func(t *testing.T) {
			flag := ""
			if name == "flag" {
				flag = " --token " + token
			}
			echo := "echo-" + name
			require.Regexp(t, `(?m)^Namespaces:\n - dev\n$`, u.shows(t, "namespace list"+flag))
			u.shows(t, "deploy -n dev --name "+echo+" --image x --fprocess cat --env mode=serializing"+flag, "Deployed. 202 Accepted.")
			u.shows(t, "list -n dev"+flag, echo)
			u.shows(t, "describe -n dev "+echo+flag, "Function Process: cat")
			u.shows(t, "secret create -n dev mine --from-literal=x"+flag, "202 Accepted")
			u.shows(t, "secret list -n dev"+flag, "mine")
			u.shows(t, "secret remove -n dev mine"+flag, "Removed")
			u.shows(t, "logs --tail=false -n dev "+echo+flag)

			forbidden := func(command, action, resource string) {
				t.Helper()
				shown, _ := u.run(t, "", strings.Fields(command+flag)...) // faas-cli does not always exit with 1
				require.Contains(t, shown, "403")
				require.Contains(t, shown, action)
				require.Contains(t, shown, resource)
			}
			forbidden("list", "Function:List", "openfaas-fn")
			forbidden("describe shout", "Function:Get", "openfaas-fn:shout")
			forbidden("logs --tail=false shout", "Function:Logs", "openfaas-fn:shout")
			forbidden("deploy --name shout --image x --fprocess cat", "Function:Update", "openfaas-fn:shout")
			forbidden("remove shout", "Function:Delete", "openfaas-fn:shout")
			forbidden("secret list", "Secret:List", "openfaas-fn")
			forbidden("secret create -n prod mine --from-literal=x", "Secret:Create", "prod:mine")
			forbidden("namespace get prod", "Namespace:Get", "prod")
			forbidden("namespace remove dev", "Namespace:Delete", "dev")
			u.shows(t, "remove -n dev "+echo+flag, "Removing old function.")
		})
	}
	admin.shows(t, "describe shout", "tr a-z A-Z")
}

// TestInvokeWithToken invokes a function that wants function tokens: faas-cli
// learns that from the realm, and exchanges the API token of its login.
func TestInvokeWithToken(t *testing.T) {
	t.Parallel()
	g := startGateway(t, stack)
	g.grant(t, "ida", []string{"Function:Invoke"}, []string{"openfaas-fn:guarded"})
	g.grant(t, "otto", []string{"Function:Invoke"}, []string{"openfaas-fn:shout"})

	ida := g.tokenUser(t, g.apiToken(t, "ida"))
	require.Equal(t, "moo", ida.invoke(t, "moo", "guarded"))
	require.Equal(t, "moo", ida.invoke(t, "moo", "guarded", "--auth"))

	otto := g.tokenUser(t, g.apiToken(t, "otto"))
	otto.fails(t, "invoke guarded", "audience 'openfaas-fn:guarded' is not covered by any Function:Invoke permission")
	g.admin(t).fails(t, "invoke guarded", "401", "Bearer must be present in Authorization header")
	g.user(t).fails(t, "invoke guarded", "401")
}
