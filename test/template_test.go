package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/gatehound/gatehound/test/freeport"
)

var templates = []string{"bash", "go-http", "go-inproc", "node-http", "python-http", "static"}

// toolchains are what the templates' handlers need to run.
var toolchains = map[string]string{"bash": "bash", "node-http": "node", "python-http": "python3"}

// templateContext returns a folder as faas-cli makes it for the image of a new
// function, after the build commands of its Dockerfile as far as they can run
// here.
func templateContext(t *testing.T, name string) string {
	t.Helper()
	if tool := toolchains[name]; tool != "" {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("THE TEMPLATE %s WAS NOT TRIED: %s is not installed", name, tool)
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("../template", name))))
	switch name {
	case "go-http":
		run(t, dir, "go", "build", "-trimpath", "-o", "handler", ".")
	case "go-inproc":
		repository, err := filepath.Abs("..")
		require.NoError(t, err)
		module := filepath.Join(dir, "function")
		// The requirements of the release that is this working copy.
		sums, err := os.ReadFile("../go.sum")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(module, "go.sum"), sums, 0o600))
		run(t, module, "go", "mod", "edit", "-require=github.com/gatehound/gatehound@v0.0.0", "-replace=github.com/gatehound/gatehound="+repository)
		run(t, module, "go", "build", "-mod=mod", "-trimpath", "-o", "../fwatchdog", ".")
	}
	return dir
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), out)
}

// startTemplate runs what the image's CMD would run, with the image's
// environment but for addresses and folders, and env.
func startTemplate(t *testing.T, name, dir string, env ...string) (p *program, url string) {
	t.Helper()
	environment := readDockerfile(t, filepath.Join(dir, "Dockerfile")).stage(t, "").environment()
	environment = slices.DeleteFunc(environment, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	environment = append(environment,
		"listen=127.0.0.1:0", "metrics_port=0", "healthcheck_interval=0s", "TMPDIR="+t.TempDir(),
		"upstream_url=http://127.0.0.1:"+freeport.Take(), "static_path="+filepath.Join(dir, "function"))
	program := "fwatchdog"
	if name == "go-inproc" {
		program = filepath.Join(dir, "fwatchdog")
	}
	p = start(t, dir, append(environment, env...), program)
	url = "http://" + p.stderr.find(t, p, `Serving mode \S+ on (127\.0\.0\.1:\d+)`)[1]
	return p, url
}

// TestTemplateHandlers runs every template's skeleton behind the watchdog, as
// in its image.
func TestTemplateHandlers(t *testing.T) {
	t.Parallel()
	for _, name := range templates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := templateContext(t, name)
			mark := "THIS_RUN=" + dir
			p, url := startTemplate(t, name, dir, mark)
			eventually(t, func() bool { return get(t, url+"/_/ready").status == http.StatusOK }, "never ready")
			require.Equal(t, "OK", strings.TrimSpace(get(t, url+"/_/health").body))
			checkSkeleton(t, name, url)

			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			require.Zero(t, p.wait(t))
			require.Empty(t, relatives(t, mark))
			require.NotContains(t, p.stderr.String(), "signal:", "the function ends by itself when it is told to")
		})
	}
}

// checkSkeleton calls the function that `faas-cli new` makes.
func checkSkeleton(t *testing.T, name, url string, headers ...string) {
	t.Helper()
	if name == "static" {
		page := get(t, url+"/", headers...)
		require.Equal(t, http.StatusOK, page.status)
		require.Contains(t, page.body, "<h1>Hello!</h1>")
		require.Equal(t, "text/html; charset=utf-8", page.header.Get("Content-Type"))
		require.Contains(t, get(t, url+"/style.css", headers...).header.Get("Content-Type"), "text/css")
		require.Equal(t, http.StatusNotFound, get(t, url+"/nope", headers...).status)
		return
	}
	page := get(t, url+"/a/b", headers...)
	require.Equal(t, answer{http.StatusOK, page.header, "Hello! You sent GET /a/b\n"}, page)
	require.Equal(t, "text/plain; charset=utf-8", page.header.Get("Content-Type"))
	for _, size := range []int{1, 5000, 1 << 20} {
		body := strings.Repeat("x", size)
		require.Equal(t, "Hello! You sent POST /\n"+body, do(t, http.MethodPost, url+"/", body, headers...).body)
	}
	require.Equal(t, "Hello! You sent PUT /\nin chunks", putChunked(t, url+"/", "in chunks", headers...))
	head := do(t, http.MethodHead, url+"/", "", headers...)
	require.Equal(t, answer{http.StatusOK, head.header, ""}, head)
	require.Equal(t, http.StatusOK, get(t, url+"/", headers...).status, "the connection is in step after HEAD")
}

// putChunked sends a body whose length is not said beforehand.
func putChunked(t *testing.T, target, body string, headers ...string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, target, io.MultiReader(strings.NewReader(body)))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(read)
}

// TestTemplateExamples runs every example's stack.yml: a function token opens
// what it says, and nothing else does. What an image adds to the file, its
// environment and its folder, is put in first.
func TestTemplateExamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	functions := make(map[string]any)
	tried := make(map[string]string) // template by function
	for _, name := range templates {
		t.Run("build "+name, func(t *testing.T) {
			var stack map[string]any
			decodeFile(t, filepath.Join("../template", name, "example", "stack.yml"), &stack)
			if name == "go-inproc" {
				return // it has its own watchdog: below
			}
			context := templateContext(t, name)
			// Cleaned up with this subtest, so it is kept elsewhere.
			kept := filepath.Join(dir, name)
			require.NoError(t, os.Rename(context, kept))
			for function, f := range stack["functions"].(map[string]any) {
				f := f.(map[string]any)
				environment := f["environment"].(map[string]any)
				for _, v := range readDockerfile(t, filepath.Join(kept, "Dockerfile")).stage(t, "").environment() {
					switch variable, value, _ := strings.Cut(v, "="); variable {
					case "PATH", "upstream_url":
					case "fprocess":
						f["fprocess"] = fmt.Sprintf("sh -c 'cd %s && exec %s'", kept, value)
					case "static_path":
						environment[variable] = filepath.Join(kept, "function")
					default:
						environment[variable] = value
					}
				}
				functions[function] = f
				tried[function] = name
			}
		})
	}
	stack, err := yaml.Marshal(map[string]any{"functions": functions})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stack.yml"), stack, 0o600))
	g := startUp(t, dir, nil, "-f", "stack.yml")

	check := func(t *testing.T, function, name, url string) {
		t.Parallel()
		require.Equal(t, http.StatusUnauthorized, get(t, url+"/").status)
		require.Equal(t, http.StatusForbidden, get(t, url+"/", "Authorization: Bearer "+g.functionToken(t, "openfaas-fn:another")).status)
		checkSkeleton(t, name, url, "Authorization: Bearer "+g.functionToken(t, "openfaas-fn:"+function))
	}
	t.Run("call", func(t *testing.T) {
		for function, name := range tried {
			t.Run(name, func(t *testing.T) { check(t, function, name, g.url+"/function/"+function) })
		}
		t.Run("go-inproc", func(t *testing.T) {
			_, url := startTemplate(t, "go-inproc", templateContext(t, "go-inproc"),
				"jwt_auth=true", "jwt_auth_authority="+g.url, "OPENFAAS_NAME=hello-go-inproc", "OPENFAAS_NAMESPACE=openfaas-fn")
			eventually(t, func() bool { return get(t, url+"/_/ready").status == http.StatusOK }, "never ready")
			check(t, "hello-go-inproc", "go-inproc", url)
		})
	})
}
