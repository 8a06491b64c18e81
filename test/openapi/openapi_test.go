// Package openapi has software that others wrote check the gateway's OpenAPI
// description, and what a running gateway answers against it.
package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait: much longer than anything takes.
const patience = 60 * time.Second

// output collects what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// gateway is `gateway up`, with its description.
type gateway struct {
	t        *testing.T
	binary   string
	dir, url string
	document *openapi3.T
	router   routers.Router
	answered map[string]bool // "operation status"
}

func start(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, dir: t.TempDir(), answered: map[string]bool{}}
	g.binary = filepath.Join(g.dir, "gateway")
	build := exec.Command("go", "build", "-o", g.binary, "./gateway/cmd/gateway")
	build.Dir = "../.." // the module whose program it is
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	stderr := new(output)
	cmd := exec.Command(g.binary, "up")
	cmd.Dir, cmd.Stderr = g.dir, stderr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "port=0", "metrics_port=0"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		if t.Failed() {
			t.Logf("the gateway printed\n%s", stderr)
		}
	})
	listening := regexp.MustCompile(`listening on (http://\S+),`)
	require.Eventually(t, func() bool {
		match := listening.FindStringSubmatch(stderr.String())
		if match != nil {
			g.url = match[1]
		}
		return match != nil
	}, patience, 10*time.Millisecond, "never listened")
	require.Eventually(t, func() bool {
		res, err := http.Get(g.url + "/function/env")
		require.NoError(t, err)
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond, "never ready")
	return g
}

// load loads the description that the gateway serves. Objects in it may have no
// fields but those described from then on, so that none is forgotten.
func (g *gateway) load() {
	g.t.Helper()
	res, err := http.Get(g.url + "/openapi.json")
	require.NoError(g.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(g.t, err)
	g.document, err = openapi3.NewLoader().LoadFromData(text)
	require.NoError(g.t, err)
	require.NoError(g.t, g.document.Validate(g.t.Context()))
	for _, schema := range g.document.Components.Schemas {
		closeObjects(schema.Value)
	}
	g.document.Servers = openapi3.Servers{{URL: g.url}}
	g.router, err = gorillamux.NewRouter(g.document)
	require.NoError(g.t, err)
}

func closeObjects(s *openapi3.Schema) {
	if s.Type.Is("object") && len(s.Properties) > 0 {
		closed := false
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: &closed}
	}
	for _, p := range s.Properties {
		if p.Ref == "" {
			closeObjects(p.Value)
		}
	}
	if s.Items != nil && s.Items.Ref == "" {
		closeObjects(s.Items.Value)
	}
}

// call is one request and the status that it must get.
type call struct {
	method, path  string
	authorization string
	contentType   string // "" = JSON, if there is a body
	body          string
	status        int
}

// do sends c, has the request and its answer checked against the description,
// and returns the answer's body. A request that is to be a 400 or 413 is not
// checked: it may be what the description forbids.
func (g *gateway) do(c call) string {
	g.t.Helper()
	what := fmt.Sprintf("%s %s → %d", c.method, c.path, c.status)
	newRequest := func() *http.Request {
		req, err := http.NewRequestWithContext(g.t.Context(), c.method, g.url+c.path, strings.NewReader(c.body))
		require.NoError(g.t, err)
		if c.authorization != "" {
			req.Header.Set("Authorization", c.authorization)
		}
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		} else if c.body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		return req
	}
	req := newRequest()
	route, parameters, err := g.router.FindRoute(req)
	require.NoError(g.t, err, what)
	options := &openapi3filter.Options{
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true,
	}
	input := &openapi3filter.RequestValidationInput{Request: req, PathParams: parameters, Route: route, Options: options}
	if c.status != http.StatusBadRequest && c.status != http.StatusRequestEntityTooLarge {
		require.NoError(g.t, openapi3filter.ValidateRequest(g.t.Context(), input), what)
	}
	res, err := http.DefaultClient.Do(newRequest())
	require.NoError(g.t, err, what)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(g.t, err, what)
	require.Equal(g.t, c.status, res.StatusCode, "%s: %s", what, body)
	require.NoError(g.t, openapi3filter.ValidateResponse(g.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: res.StatusCode, Header: res.Header,
		Body: io.NopCloser(bytes.NewReader(body)), Options: options,
	}), "%s: %s", what, body)
	g.answered[fmt.Sprintf("%s %s %d", c.method, route.Path, c.status)] = true
	return string(body)
}

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", openapi3filter.PlainBodyDecoder)
	os.Exit(m.Run())
}

// TestDescription drives a gateway through every operation of its description.
func TestDescription(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.load()
	password, err := os.ReadFile(filepath.Join(g.dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	req := &http.Request{Header: http.Header{}}
	req.SetBasicAuth("admin", strings.TrimSpace(string(password)))
	admin := req.Header.Get("Authorization")

	for _, path := range []string{"/healthz", "/openapi.json", "/openapi.yaml", "/.well-known/openid-configuration", "/.well-known/jwks.json"} {
		g.do(call{method: "GET", path: path, status: 200})
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		g.do(call{method: method, path: "/validate", authorization: admin, status: 200})
		g.do(call{method: method, path: "/validate", status: 401})
	}
	alice := "Bearer " + g.exchanges()

	deployment := `{"service":"f","image":"x","namespace":"dev","envProcess":"sh -c 'echo $greeting; echo printed >&2'",
		"envVars":{"mode":"serializing","greeting":"hello"},"secrets":["s"],"labels":{"a":"b"},"annotations":{"c":"d"},
		"limits":{"memory":"64Mi","cpu":"1"},"requests":{"memory":"1Mi"},"readOnlyRootFilesystem":false,"constraints":["x"]}`
	for _, c := range []call{
		{method: "GET", path: "/system/info", status: 200},
		{method: "POST", path: "/system/namespace/", body: `{"name":"dev","labels":{"a":"b"}}`, status: 202},
		{method: "POST", path: "/system/namespace/dev", body: `{"name":"dev"}`, status: 409},
		{method: "POST", path: "/system/namespace/prod", body: `{"annotations":{"a":"b"}}`, status: 202},
		{method: "POST", path: "/system/namespace/prod", body: `{"name":"dev"}`, status: 400},
		{method: "PUT", path: "/system/namespace/prod", body: `{"name":"prod","labels":{"a":"b"}}`, status: 202},
		{method: "PUT", path: "/system/namespace/nope", body: `{}`, status: 404},
		{method: "GET", path: "/system/namespace/dev", status: 200},
		{method: "GET", path: "/system/namespace/nope", status: 404},
		{method: "GET", path: "/system/namespaces", status: 200},
		{method: "DELETE", path: "/system/namespace/prod", body: `{"name":"prod"}`, status: 202},

		{method: "POST", path: "/system/secrets", body: `{"name":"s","namespace":"dev","value":"v"}`, status: 202},
		{method: "POST", path: "/system/secrets?namespace=dev", body: `{"name":"s","value":"v"}`, status: 409},
		{method: "POST", path: "/system/secrets", body: `{"name":"s","namespace":"dev"}`, status: 400},
		{method: "PUT", path: "/system/secrets", body: `{"name":"s","namespace":"dev","rawValue":"AAE="}`, status: 202},
		{method: "GET", path: "/system/secrets?namespace=dev", status: 200},

		{method: "POST", path: "/system/functions", body: deployment, status: 202},
		{method: "POST", path: "/system/functions", body: `{"service":"F"}`, status: 400},
		{method: "POST", path: "/system/functions", body: `{"service":"f","envProcess":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413},
		{method: "PUT", path: "/system/functions?namespace=dev", body: `{"service":"nope","image":"x"}`, status: 404},
		{method: "GET", path: "/function/f.dev", status: 200},
		{method: "PUT", path: "/system/functions", body: strings.Replace(deployment, "echo $greeting", "echo again", 1), status: 202},
		{method: "PUT", path: "/system/functions", body: `{"service":"f","namespace":"dev","image":"x","envProcess":"false","envVars":{"mode":"http"}}`, status: 422},
		{method: "POST", path: "/function/f.dev/a", contentType: "text/plain", body: "x", status: 200},
		{method: "GET", path: "/system/functions?namespace=dev", status: 200},
		{method: "GET", path: "/system/functions", status: 200},
		{method: "GET", path: "/system/function/f.dev?usage=1", status: 200},
		{method: "GET", path: "/system/function/f?namespace=dev", status: 200},
		{method: "GET", path: "/system/function/nope", status: 404},
		{method: "POST", path: "/system/scale-function/f.dev", body: `{"replicas":2,"serviceName":"f"}`, status: 202},
		{method: "POST", path: "/system/scale-function/f", body: `{"namespace":"dev"}`, status: 400},
		{method: "POST", path: "/system/scale-function/nope", body: `{"replicas":2}`, status: 404},
		{method: "POST", path: "/system/alert", body: `{"alerts":[{"status":"resolved","labels":{"function_name":"f.dev"}}]}`, status: 200},
		{method: "POST", path: "/system/alert", body: `{"alerts":[{"status":"maybe","labels":{"function_name":"f.dev"}}]}`, status: 400},
		{method: "POST", path: "/system/telemetry", body: `{"any":"thing"}`, status: 200},
		{method: "GET", path: "/system/logs?name=f&namespace=dev&tail=x", status: 400},
		{method: "GET", path: "/system/logs?name=nope", status: 404},
		{method: "DELETE", path: "/system/namespace/dev", status: 409},

		{method: "GET", path: "/function/nope", status: 404},
		{method: "GET", path: "/function/hello", status: 401},
		{method: "POST", path: "/async-function/f.dev", contentType: "text/plain", body: "x", status: 501},
		{method: "POST", path: "/async-function/f.dev/a", contentType: "text/plain", body: "x", status: 501},
		{method: "DELETE", path: "/async-function/0b9f5c7e-35b4-4a0f-9d0c-1f6f3b1f1c55", status: 501},
	} {
		c.authorization = admin
		g.do(c)
	}
	message := g.document.Components.Schemas["LogMessage"].Value
	printed := g.do(call{method: "GET", path: "/system/logs?name=f&namespace=dev&tail=5&since=2026-01-02T03:04:05Z&follow=false", authorization: admin, status: 200})
	require.NotEmpty(t, printed)
	for line := range strings.Lines(printed) {
		var m any
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		require.NoError(t, message.VisitJSON(m), line)
	}
	for _, c := range []call{
		{method: "DELETE", path: "/system/functions", body: `{"functionName":"f","namespace":"dev"}`, status: 202},
		{method: "DELETE", path: "/system/functions?namespace=dev", body: `{"functionName":"f"}`, status: 404},
		{method: "DELETE", path: "/system/secrets", body: `{"name":"s","namespace":"dev"}`, status: 202},
		{method: "DELETE", path: "/system/secrets", body: `{"name":"s","namespace":"dev"}`, status: 404},
	} {
		c.authorization = admin
		g.do(c)
	}
	for _, c := range []call{ // what the sample's policies do not grant
		{method: "GET", path: "/system/info", status: 403},
		{method: "GET", path: "/system/functions", status: 403},
		{method: "DELETE", path: "/system/secrets", body: `{"name":"s"}`, status: 403},
	} {
		c.authorization = alice
		g.do(c)
	}

	for path, item := range g.document.Paths.Map() {
		for method, operation := range item.Operations() {
			if strings.HasPrefix(path, "/system/") {
				address := strings.NewReplacer("{name}", "f", "{namespace}", "dev").Replace(path)
				req, err := http.NewRequestWithContext(t.Context(), method, g.url+address, http.NoBody)
				require.NoError(t, err)
				res, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				res.Body.Close()
				require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s %s", method, path)
			}
			if strings.HasPrefix(path, "/function/") {
				continue // a function's answers are its own
			}
			succeeded := false
			for _, status := range []int{200, 202, 501} {
				succeeded = succeeded || g.answered[fmt.Sprintf("%s %s %d", method, path, status)]
			}
			require.True(t, succeeded, "%s %s (%s) is described and never succeeded here: add a call", method, path, operation.OperationID)
		}
	}
}

// exchanges goes through the token endpoint, and returns an API token.
func (g *gateway) exchanges() string {
	g.t.Helper()
	idToken := exec.Command(g.binary, "id-token", "--sub", "alice")
	idToken.Dir, idToken.Env = g.dir, []string{"PATH=" + os.Getenv("PATH")}
	id, err := idToken.Output()
	require.NoError(g.t, err)
	ask := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {strings.TrimSpace(string(id))},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
	}
	exchange := func(query, body url.Values, status int) string {
		c := call{method: "POST", path: "/oauth/token?" + query.Encode(), status: status}
		if body != nil {
			c.contentType, c.body = "application/x-www-form-urlencoded", body.Encode()
		}
		return g.do(c)
	}
	exchange(nil, ask, 200)
	exchange(nil, url.Values{"grant_type": {"password"}}, 400)
	exchange(nil, nil, 400)
	forFunctions := url.Values{"scope": {"function"}, "audience": {"openfaas-fn:hello", "openfaas-fn:upper"}}
	require.Contains(g.t, exchange(forFunctions, ask, 200), `"scope":"function"`, "in two places")
	for name, values := range forFunctions {
		ask[name] = values
	}
	function := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(exchange(nil, ask, 200))[1]
	g.do(call{method: "GET", path: "/function/hello", authorization: "Bearer " + function, status: 200})
	delete(ask, "scope")
	delete(ask, "audience")
	return regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(exchange(ask, nil, 200))[1]
}
