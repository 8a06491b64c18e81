package local

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

func TestRefusedDeployments(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	for name, c := range map[string]struct {
		change func(*types.FunctionDeployment)
		says   string
	}{
		"environment":     {func(d *types.FunctionDeployment) { d.EnvVars["jwt_auth"] = "on" }, `jwt_auth="on"`},
		"no command":      {func(d *types.FunctionDeployment) { d.EnvProcess = "" }, "fprocess"},
		"variable":        {func(d *types.FunctionDeployment) { d.EnvVars["a=b"] = "c" }, `"a=b"`},
		"NUL":             {func(d *types.FunctionDeployment) { d.EnvVars["a"] = "\x00" }, `"a"`},
		"NUL in command":  {func(d *types.FunctionDeployment) { d.EnvProcess = "a\x00" }, "NUL"},
		"name":            {func(d *types.FunctionDeployment) { d.Service = "../f" }, "DNS label"},
		"namespace":       {func(d *types.FunctionDeployment) { d.Namespace = "nowhere" }, "faas-cli namespace create nowhere"},
		"secret":          {func(d *types.FunctionDeployment) { d.Secrets = []string{"key"} }, "faas-cli secret create key --namespace openfaas-fn"},
		"secret's name":   {func(d *types.FunctionDeployment) { d.Secrets = []string{"../../x"} }, `secret "../../x"`},
		"memory":          {func(d *types.FunctionDeployment) { d.Limits = &types.FunctionResources{Memory: "lots"} }, `limits.memory="lots"`},
		"negative memory": {func(d *types.FunctionDeployment) { d.Limits = &types.FunctionResources{Memory: "-1Gi"} }, `limits.memory="-1Gi"`},
		"thousandths":     {func(d *types.FunctionDeployment) { d.Limits = &types.FunctionResources{Memory: "128m"} }, "at least 1Mi"},
		"endless memory":  {func(d *types.FunctionDeployment) { d.Limits = &types.FunctionResources{Memory: "1e-999999999"} }, `limits.memory="1e-999999999"`},
		"long memory": {func(d *types.FunctionDeployment) {
			d.Limits = &types.FunctionResources{Memory: strings.Repeat("9", 40)}
		}, "want a quantity"},
		"cpu":              {func(d *types.FunctionDeployment) { d.Requests = &types.FunctionResources{CPU: "1 core"} }, `requests.cpu="1 core"`},
		"too many":         {func(d *types.FunctionDeployment) { d.Labels = &map[string]string{minScaleLabel: "1000"} }, minScaleLabel},
		"one port for two": {twoOnOnePort, "2 replicas cannot all listen"},
	} {
		d := shell("f", "echo x")
		c.change(&d)
		status, message := refusal(t, m.Deploy(t.Context(), d))
		require.Equal(t, http.StatusBadRequest, status, name)
		require.Contains(t, message, c.says, name)
		_, err := m.Status(t.Context(), fn("f"), false)
		require.ErrorIs(t, err, provider.ErrNotFound, name)
	}
	m.empty()
	status, _ := refusal(t, m.Scale(t.Context(), fn("f"), maxReplicas+1))
	require.Equal(t, http.StatusBadRequest, status)
}

func TestQuantities(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"64Mi": 64 << 20, "1.5Gi": 3 << 29, "64M": 64e6, "1e9": 1e9, "2E6": 2e6, "+3Mi": 3 << 20, "134217728": 128 << 20, "2097152000m": 2097152,
	} {
		memory, err := parseResources("limits", &types.FunctionResources{Memory: text, CPU: "100m"})
		require.NoError(t, err)
		require.Equal(t, want, memory, text)
	}
}

func twoOnOnePort(d *types.FunctionDeployment) {
	d.EnvVars["mode"], d.EnvVars["upstream_url"] = "http", "http://127.0.0.1:3000"
	d.Labels = &map[string]string{minScaleLabel: "2"}
}

func TestMinimumOfReplicas(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	d := shell("f", "echo x")
	d.Labels = &map[string]string{minScaleLabel: "2"}
	require.NoError(t, m.Deploy(t.Context(), d))
	m.waitReplicas("f", 2)
	require.NoError(t, m.Scale(t.Context(), fn("f"), 0))
	status, _ := m.call("f")
	require.Equal(t, http.StatusOK, status)
	m.waitReplicas("f", 2)
}

// TestSecrets checks who gets which secret, and that an update gets through.
func TestSecrets(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	ctx := t.Context()
	secret := func(name, value string) types.Secret {
		return types.Secret{Namespace: "openfaas-fn", Name: name, Value: value}
	}
	require.NoError(t, m.CreateSecret(ctx, secret("mine", "one")))
	require.NoError(t, m.CreateSecret(ctx, secret("others", "x")))
	d := shell("f", "cat $key_file; ls $OPENFAAS_SECRETS; ls -ld $OPENFAAS_SECRETS $key_file | cut -c1-10")
	d.EnvVars["key_file"] = "/var/openfaas/secrets/mine"
	d.Secrets = []string{"mine"}
	require.NoError(t, m.Deploy(ctx, d))
	_, body := m.call("f")
	require.Equal(t, "onemine\ndrwx------\n-rw-------\n", body)

	// However updates and starts fall together, the last value comes last.
	var updating sync.WaitGroup
	updating.Go(func() {
		for i := range 20 {
			if err := m.UpdateSecret(ctx, secret("mine", fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 4 {
		require.NoError(t, m.Scale(ctx, fn("f"), uint64(i%2)))
		require.NoError(t, m.Update(ctx, d))
	}
	updating.Wait()
	require.NoError(t, m.Scale(ctx, fn("f"), 1))
	m.waitReplicas("f", 1)
	_, body = m.call("f")
	require.True(t, strings.HasPrefix(body, "19mine"), body)

	require.NoError(t, m.UpdateSecret(ctx, secret("mine", "two")))
	_, body = m.call("f")
	require.True(t, strings.HasPrefix(body, "two"), body)

	info, err := os.Stat(m.secretPath("openfaas-fn", "mine"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(m.state, "secrets"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	// One that is deleted stays with who runs, and who starts says what is missing.
	require.NoError(t, m.DeleteSecret(ctx, "openfaas-fn", "mine"))
	status, _ := m.call("f")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, m.Scale(ctx, fn("f"), 0))
	status, body = m.call("f")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "function f.openfaas-fn does not start: its logs say why", body)
	require.Contains(t, m.log.String(), "faas-cli secret create mine")
	var printed strings.Builder
	require.NoError(t, m.Logs(ctx, logs.Request{Name: "f", Namespace: "openfaas-fn"}, func(l logs.Message) error {
		printed.WriteString(l.Text + "\n")
		return nil
	}))
	require.Contains(t, printed.String(), "faas-cli secret create mine")

	for name, s := range map[string]types.Secret{
		"empty":         secret("a", ""),
		"name":          secret("../a", "v"),
		"dots":          secret("..", "v"),
		"too large":     secret("a", strings.Repeat("x", maxSecret+1)),
		"no namespace":  {Namespace: "nowhere", Name: "a", Value: "v"},
		"bad namespace": {Namespace: "..", Name: "a", Value: "v"},
	} {
		status, message := refusal(t, m.CreateSecret(ctx, s))
		require.Equal(t, http.StatusBadRequest, status, name)
		require.NotContains(t, message, "xxx", name)
	}
	require.ErrorIs(t, m.DeleteSecret(ctx, "openfaas-fn", "../namespaces"), provider.ErrNotFound)
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	ctx := t.Context()
	require.NoError(t, m.CreateNamespace(ctx, types.FunctionNamespace{Name: "dev"}))
	require.NoError(t, m.CreateSecret(ctx, types.Secret{Namespace: "dev", Name: "key", Value: "v"}))
	d := shell("f", "echo x")
	d.Namespace = "dev"
	require.NoError(t, m.Deploy(ctx, d))
	status, message := refusal(t, m.DeleteNamespace(ctx, "dev"))
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, message, "has functions")
	require.NoError(t, m.Delete(ctx, provider.Function{Namespace: "dev", Name: "f"}))
	require.NoError(t, m.DeleteNamespace(ctx, "dev"))
	require.NoDirExists(t, m.secretPath("dev", ""))
	status, _ = refusal(t, m.DeleteNamespace(ctx, "openfaas-fn"))
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = refusal(t, m.CreateNamespace(ctx, types.FunctionNamespace{Name: "../x"}))
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = refusal(t, m.Deploy(ctx, d))
	require.Equal(t, http.StatusBadRequest, status, "deployed to a namespace that is gone")
	all, err := m.Namespaces(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"openfaas-fn"}, all)
}

// TestWorkDir: an image's folder is the working directory, and nothing outside
// of functions_dir is.
func TestWorkDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{FunctionsDir: filepath.Join(dir, "functions"), WorkDir: "/work"}
	_, err := workDir(c, "x")
	require.ErrorContains(t, err, "functions_dir")
	require.NoError(t, os.MkdirAll(filepath.Join(c.FunctionsDir, "team", "hello"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "outside"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(dir, "outside"), filepath.Join(c.FunctionsDir, "link")))
	require.NoError(t, os.Symlink("team/hello", filepath.Join(c.FunctionsDir, "inside")))
	require.NoError(t, os.WriteFile(filepath.Join(c.FunctionsDir, "file"), nil, 0o600))
	hello := filepath.Join(c.FunctionsDir, "team", "hello")
	for image, want := range map[string]string{
		"team/hello":            hello,
		"team/hello:1.2":        hello,
		"team/hello@sha256:abc": hello,
		"team/hello:1@sha256:a": hello,
		"inside":                filepath.Join(c.FunctionsDir, "inside"),
		"host:5000/team/hello":  "/work",
		"../outside":            "/work",
		"team/../../outside":    "/work",
		dir + "/outside":        "/work",
		"/etc":                  "/work",
		"link":                  "/work",
		"file":                  "/work",
		"nothing":               "/work",
		".":                     "/work",
		"team/..":               "/work",
		"":                      "/work",
		":1":                    "/work",
	} {
		got, err := workDir(c, image)
		require.NoError(t, err)
		require.Equal(t, want, got, image)
	}

	m := newMachine(t, "", func(config *Config) { config.FunctionsDir = c.FunctionsDir })
	d := shell("f", "pwd")
	d.Image = "team/hello:latest"
	require.NoError(t, m.Deploy(t.Context(), d))
	_, body := m.call("f")
	require.Equal(t, hello+"\n", body)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	d := shell("f", "echo x")
	d.EnvVars["mode"], d.EnvVars["upstream_url"] = "http", "http://127.0.0.1:1"
	d.EnvProcess = `sh -c "while :; do :; done"`
	require.NoError(t, m.Deploy(t.Context(), d))
	eventually(t, func() bool {
		s, err := m.Status(t.Context(), fn("f"), true)
		require.NoError(t, err)
		// Resident: a watchdog and a shell. The loop is a child of the watchdog.
		return s.Usage != nil && s.Usage.TotalMemoryBytes > 2<<20 && s.Usage.CPU > 50
	}, "a busy loop is not seen")
	require.Nil(t, m.status("f").Usage)
}

// TestFollowStack edits a stack file while it is followed.
func TestFollowStack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "stack.yml")
	write := func(functions string) {
		t.Helper()
		require.NoError(t, os.WriteFile(path, []byte("functions:\n"+functions), 0o600))
	}
	const speaks = "  %: {fprocess: \"sh -c 'echo # says it'\", environment: {mode: serializing}}\n"
	function := func(name, word string) string {
		return strings.NewReplacer("%", name, "#", word).Replace(speaks)
	}
	write(function("a", "one") + function("b", "b") + function("c", "c"))
	m := newMachine(t, "")
	deployments, err := ReadStack(path, "openfaas-fn")
	require.NoError(t, err)
	require.NoError(t, m.ApplyStack(t.Context(), deployments))
	require.NoError(t, m.Deploy(t.Context(), shell("by-hand", "echo x")))
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(ended); m.FollowStack(ctx, path, deployments) }()
	defer func() { cancel(); <-ended }()
	said := func(name, want string) func() bool {
		return func() bool { _, body := m.call(name); return body == want+" says it\n" }
	}
	eventually(t, said("a", "one"), "a")
	eventually(t, said("b", "b"), "b")
	before := m.function(fn("b"))

	write(function("a", "two") + function("b", "b") + "  d: {namespace: new, fprocess: cat, secrets: [later]}\n")
	eventually(t, said("a", "two"), "what has changed is not in force")
	eventually(t, func() bool { return m.function(fn("c")) == nil }, "what was taken out is still there")
	require.Same(t, before, m.function(fn("b")), "what has not changed is left alone")
	require.NotNil(t, m.function(fn("by-hand")))
	eventually(t, func() bool { return strings.Contains(m.log.String(), "faas-cli secret create later") }, "the missing secret is not named")
	require.NoError(t, m.CreateSecret(t.Context(), types.Secret{Namespace: "new", Name: "later", Value: "v"}))
	eventually(t, func() bool {
		s, err := m.Status(t.Context(), provider.Function{Namespace: "new", Name: "d"}, false)
		return err == nil && s.AvailableReplicas == 1
	}, "it does not start when its secret is there")

	write("  a: [broken\n")
	eventually(t, func() bool { return strings.Contains(m.log.String(), "stack.yml: line") }, "the fault is not told")
	require.True(t, said("a", "two")())
	write(function("a", "three"))
	eventually(t, said("a", "three"), "not mended")
}

// TestUsageInACircle: a process is not counted as its own descendant for ever.
func TestUsageInACircle(t *testing.T) {
	t.Parallel()
	p := processes{own: map[int]consumption{2: {memory: 1}, 3: {memory: 10}}, children: map[int][]int{2: {3}, 3: {2}}}
	require.EqualValues(t, 11, p.tree(2).memory)
}

// TestMemoryIsKnown: an endpoint says how much memory its function may have.
func TestMemoryIsKnown(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "")
	d := shell("f", "cat")
	d.Limits = &types.FunctionResources{Memory: "64Mi"}
	require.NoError(t, m.Deploy(t.Context(), d))
	m.waitReplicas("f", 1)
	e, err := m.Endpoint(t.Context(), provider.Function{Namespace: "openfaas-fn", Name: "f"})
	require.NoError(t, err)
	require.Equal(t, int64(64<<20), e.Memory)
}
