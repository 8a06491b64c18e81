package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/gateway/basicauth"
)

// want is for whom a route opens, among grants of its action.
type want struct{ cluster, namespace, function bool }

var (
	whereFunction  = want{true, true, true}   // dev:env, or part of what is listed
	whereNamespace = want{true, true, false}  // the namespace dev as a whole
	whereCluster   = want{true, false, false} // in no namespace
)

// samples has a request about dev:env, or dev, for every route below /system/.
var samples = []struct {
	route, target, body string
	action              string
	want                want
}{
	{"GET /system/info", "/system/info", "", "System:Info", whereCluster},
	{"GET /system/functions", "/system/functions?namespace=dev", "", "Function:List", whereFunction},
	{"POST /system/functions", "/system/functions", `{"service":"env","namespace":"dev"}`, "Function:Create", whereFunction},
	{"PUT /system/functions", "/system/functions", `{"service":"env","namespace":"dev"}`, "Function:Update", whereFunction},
	{"DELETE /system/functions", "/system/functions", `{"functionName":"env","namespace":"dev"}`, "Function:Delete", whereFunction},
	{"GET /system/function/{}", "/system/function/env?namespace=dev", "", "Function:Get", whereFunction},
	{"POST /system/scale-function/{}", "/system/scale-function/env", `{"replicas":2,"namespace":"dev"}`, "Function:Scale", whereFunction},
	{"GET /system/logs", "/system/logs?name=env&namespace=dev", "", "Function:Logs", whereFunction},
	{"GET /system/secrets", "/system/secrets?namespace=dev", "", "Secret:List", whereFunction},
	{"POST /system/secrets", "/system/secrets", `{"name":"env","namespace":"dev","value":"v"}`, "Secret:Create", whereFunction},
	{"PUT /system/secrets", "/system/secrets", `{"name":"env","namespace":"dev","value":"v"}`, "Secret:Update", whereFunction},
	{"DELETE /system/secrets", "/system/secrets", `{"name":"env","namespace":"dev"}`, "Secret:Delete", whereFunction},
	{"GET /system/namespace/{}", "/system/namespace/dev", "", "Namespace:Get", whereNamespace},
	{"POST /system/namespace/{}", "/system/namespace/dev", `{}`, "Namespace:Create", whereNamespace},
	{"POST /system/namespace/", "/system/namespace/", `{"name":"dev"}`, "Namespace:Create", whereNamespace},
	{"PUT /system/namespace/{}", "/system/namespace/dev", `{}`, "Namespace:Update", whereNamespace},
	{"DELETE /system/namespace/{}", "/system/namespace/dev", `{}`, "Namespace:Delete", whereNamespace},
	{"POST /system/alert", "/system/alert", `{"alerts":[{"status":"firing","labels":{"function_name":"env.dev"}}]}`, "Function:Scale", whereFunction},

	// What is in no namespace, and lists of namespaces: see below.
	{"GET /system/namespaces", "/system/namespaces", "", "", want{}},
	{"POST /system/telemetry", "/system/telemetry", "", "", want{}},
}

// TestPermissionMatrix sends every route's request under every action on every
// scope. What is denied never reaches the provider.
func TestPermissionMatrix(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	var routes, sampled []string
	for _, r := range a.gateway.routes {
		require.Equal(t, strings.HasPrefix(r.path, "/system/"), r.read != nil, r.path)
		require.Equal(t, r.read == nil, r.answer != nil, r.path)
		if r.read != nil {
			routes = append(routes, r.method+" "+r.path)
		}
	}
	for _, s := range samples {
		sampled = append(sampled, s.route)
	}
	require.ElementsMatch(t, routes, sampled)

	token := a.token(t, nil)
	scopes := map[string]func(want) bool{
		"*":        func(w want) bool { return w.cluster },
		"dev:*":    func(w want) bool { return w.namespace },
		"dev:env":  func(w want) bool { return w.function },
		"prod:*":   func(want) bool { return false },
		"prod:env": func(want) bool { return false },
		"dev:en":   func(want) bool { return false },
	}
	for _, action := range iam.Actions() {
		for scope, opens := range scopes {
			a.grant(t, action, scope)
			for _, s := range samples {
				method, _, _ := strings.Cut(s.route, " ")
				status, answer, asked := a.do(t, method, s.target, "Bearer "+token, s.body)
				what := fmt.Sprintf("%s with %s on %s: %d %s; asked %s", s.route, action, scope, status, answer, asked)
				switch {
				case s.route == "POST /system/telemetry":
					require.Equal(t, 200, status, what)
				case s.route == "GET /system/namespaces" && action == "Namespace:List":
					visible := map[string]string{"*": `["dev","openfaas-fn","prod"]`, "dev:*": `["dev"]`, "prod:*": `["prod"]`}[scope]
					if visible == "" {
						visible = "[]"
					}
					require.Equal(t, 200, status, what)
					require.Equal(t, visible, answer, what)
				case action == s.action && opens(s.want):
					if s.route == "POST /system/functions" {
						// It is there: Create alone does not replace it.
						require.Equal(t, 403, status, what)
						require.Contains(t, answer, "want Function:Update on dev:env")
						require.Equal(t, "Status env.dev false", asked, what)
						continue
					}
					require.Less(t, status, 300, what)
					require.NotEmpty(t, asked, what)
					require.NotContains(t, asked, "prod", what)
				case action == s.action && scope == "dev:en" && strings.HasSuffix(action, ":List"):
					require.Equal(t, 200, status, what) // a part of dev, in which nothing is
					require.Equal(t, "[]", answer, what)
				default:
					require.Equal(t, 403, status, what)
					require.Empty(t, asked, what)
				}
			}
		}
	}
	for _, s := range samples {
		method, _, _ := strings.Cut(s.route, " ")
		status, answer, _ := a.do(t, method, s.target, asAdmin, s.body)
		require.Less(t, status, 300, "the administrator, %s: %s", s.route, answer)
	}
	metrics := httptest.NewRecorder()
	a.gateway.MetricsHandler().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, metrics.Body.String(), `gateway_authorization_total{action="Secret:Delete",result="allowed"} 4`) // *, dev:*, dev:env, admin
	require.Contains(t, metrics.Body.String(), `gateway_authorization_total{action="Secret:Delete",result="denied"}`)
	require.Contains(t, a.log.String(), `"subject":"alice","issuer":"http://idp.test","action":"Secret:Delete","resource":"secret env in dev","status":403,"message":"DELETE denied"`)
	require.NotContains(t, a.log.String(), token)
}

// TestReadmeRoutes: the README's table is the one that decides.
func TestReadmeRoutes(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	var documented, routes [][]string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /system/\\S*)` \\| (?:`(\\S+)`|–) \\|").FindAllStringSubmatch(string(readme), -1) {
		documented = append(documented, row[1:])
	}
	for _, r := range newAPI(t, nil).gateway.routes {
		if r.read != nil {
			routes = append(routes, []string{r.method + " " + r.path, r.action})
		}
	}
	require.ElementsMatch(t, routes, documented)
}

// do sends a request over a connection that is used again.
func (a *api) do(t *testing.T, method, target, authorization, body string) (status int, answer, asked string) {
	t.Helper()
	a.take()
	req, err := http.NewRequest(method, a.url+target, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", authorization)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(text), a.take()
}

// TestListsAreFiltered: whoever is granted a part of a namespace sees that part.
func TestListsAreFiltered(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	token := "Bearer " + a.token(t, nil)
	names := func(target string) []string {
		status, answer, _ := a.do(t, "GET", target, token, "")
		require.Equal(t, 200, status, answer)
		require.NotContains(t, answer, "leak")
		var all []struct{ Name string }
		require.NoError(t, json.Unmarshal([]byte(answer), &all))
		found := []string{}
		for _, one := range all {
			found = append(found, one.Name)
		}
		return found
	}
	for scope, visible := range map[string][]string{
		"*": {"cows", "env"}, "dev:*": {"cows", "env"}, "dev:env": {"env"}, "*:c*": {"cows"}, "dev:x*": {},
	} {
		a.grant(t, "Function:List", scope, "Secret:List", scope)
		require.Equal(t, visible, names("/system/functions?namespace=dev"), scope)
	}
	a.grant(t, "Secret:List", "openfaas-fn:env")
	require.Equal(t, []string{"env"}, names("/system/secrets"), "no namespace is the default one")
}

// TestDeployReplaces: POST on what is there is an update, too.
func TestDeployReplaces(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	token := "Bearer " + a.token(t, nil)
	post := func(name string) (int, string) {
		status, _, asked := a.do(t, "POST", "/system/functions", token, `{"service":"`+name+`","namespace":"dev"}`)
		return status, asked
	}
	a.grant(t, "Function:Create", "dev:*")
	status, asked := post("new")
	require.Equal(t, 202, status)
	require.Equal(t, "Deploy new.dev ", asked)
	status, asked = post("env")
	require.Equal(t, 403, status)
	require.Equal(t, "Status env.dev false", asked)
	a.grant(t, "Function:Create", "dev:*", "Function:Update", "dev:env")
	status, asked = post("env")
	require.Equal(t, 202, status)
	require.Equal(t, "Deploy env.dev ", asked)
}

// TestOtherTokens: what is no API token of ours opens nothing, on any route.
func TestOtherTokens(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.grant(t, "*", "*")
	strangerKey, err := issuer.Generate()
	require.NoError(t, err)
	stranger, err := issuer.New(idpURL, strangerKey)
	require.NoError(t, err)
	idToken, err := stranger.Sign(map[string]any{"iss": idpURL, "aud": "gw", "sub": "alice", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	require.NoError(t, err)
	forged, err := stranger.Sign(map[string]any{"iss": ownURL, "aud": ownURL, "sub": "fed:alice", "fed:iss": idpURL, "policy": []string{"p"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	require.NoError(t, err)
	good := a.token(t, nil)
	for name, authorization := range map[string]string{
		"nothing":                  "",
		"function token":           "Bearer " + a.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}, "policy": nil}),
		"function and policy":      "Bearer " + a.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}}),
		"function null":            "Bearer " + a.token(t, map[string]any{"function": json.RawMessage("null")}),
		"ID token":                 "Bearer " + idToken,
		"forged":                   "Bearer " + forged,
		"expired":                  "Bearer " + a.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"no policy":                "Bearer " + a.token(t, map[string]any{"policy": nil}),
		"no fed:iss":               "Bearer " + a.token(t, map[string]any{"fed:iss": nil}),
		"issuer no longer trusted": "Bearer " + a.token(t, map[string]any{"fed:iss": "http://gone.test"}),
		"sub without fed:":         "Bearer " + a.token(t, map[string]any{"sub": "alice"}),
		"other audience":           "Bearer " + a.token(t, map[string]any{"aud": "gw"}),
		"two spaces":               "Bearer  " + good,
		"cut short":                "Bearer " + good[:len(good)-2],
		"wrong scheme":             "Token " + good,
		"wrong password":           "Basic YWRtaW46cHg=",
		"empty password":           "Basic YWRtaW46",
		"twice":                    "Bearer " + good + "\r\nAuthorization: Bearer " + good,
		"password and token":       asAdmin + "\r\nauthorization: Bearer " + good,
	} {
		for _, s := range samples {
			method, _, _ := strings.Cut(s.route, " ")
			res, answer := a.sendRaw(t, method, s.target, authorization, s.body)
			require.Equal(t, 401, res.StatusCode, "%s, %s: %s", name, s.route, answer)
			require.Equal(t, []string{`Basic realm="Restricted"`, `Bearer realm="Restricted"`}, res.Header.Values("WWW-Authenticate"), name)
			require.NotContains(t, answer, "eyJ", name)
		}
		res, _ := a.sendRaw(t, "GET", "/system/nonsense", authorization, "")
		require.Equal(t, 401, res.StatusCode, "a stranger does not learn which routes exist")
	}
	require.Empty(t, a.take())
	require.NotContains(t, a.log.String(), "eyJ")

	a.grant(t)
	status, _ := a.send(t, "GET", "/system/nonsense", "Bearer "+good, "")
	require.Equal(t, 404, status)
	status, _ = a.send(t, "GET", "/system/functions", "bEARER "+good, "")
	require.Equal(t, 403, status)
}

// tricks are requests by which alice, who may do everything in dev, tries to get
// at prod, and some that only look so.
var tricks = []struct {
	method, target, body string
	status               int
	header               string
}{
	// Two namespaces in one request.
	{"GET", "/system/functions?namespace=dev&namespace=prod", "", 400, ""},
	{"GET", "/system/functions?namespace=dev&n%61mespace=prod", "", 400, ""},
	{"GET", "/system/functions?namespace=dev;namespace=prod", "", 400, ""},
	{"GET", "/system/functions?namespace=dev%00", "", 400, ""},
	{"GET", "/system/functions?namespace=dev,prod", "", 400, ""},
	{"GET", "/system/functions?namespace=DEV", "", 400, ""},
	{"GET", "/system/functions?namespace=%", "", 400, ""},
	{"POST", "/system/functions?namespace=dev", `{"service":"new","namespace":"prod"}`, 400, ""},
	{"DELETE", "/system/functions?namespace=dev", `{"functionName":"env","namespace":"prod"}`, 400, ""},
	{"POST", "/system/secrets?namespace=prod", `{"name":"s","namespace":"dev"}`, 400, ""},
	{"PUT", "/system/namespace/dev", `{"name":"prod"}`, 400, ""},
	{"DELETE", "/system/namespace/dev?namespace=prod", ``, 400, ""},
	{"POST", "/system/namespace/", `{"name":"prod"}`, 403, ""},
	{"GET", "/system/function/env.dev?namespace=prod", "", 400, ""},
	{"GET", "/system/function/env.prod?namespace=dev", "", 400, ""},
	{"GET", "/system/function/env.prod", "", 403, ""},
	{"POST", "/system/scale-function/env.dev", `{"replicas":1,"namespace":"prod"}`, 400, ""},
	{"POST", "/system/scale-function/env", `{"serviceName":"cows","replicas":1,"namespace":"dev"}`, 400, ""},
	{"POST", "/system/alert", `{"alerts":[{"status":"firing","labels":{"function_name":"env.dev"}},{"status":"firing","labels":{"function_name":"env.prod"}}]}`, 403, ""},
	// None is the default one, and that is not dev.
	{"POST", "/system/functions", `{"service":"new"}`, 403, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":""}`, 403, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":null}`, 403, ""},
	{"GET", "/system/secrets?Namespace=dev", "", 403, ""},

	// Bodies that two readers read differently.
	{"POST", "/system/functions", `{"service":"new","namespace":"prod","namespace":"dev"}`, 400, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":"dev","Namespace":"prod"}`, 400, ""},
	{"POST", "/system/functions", `{"service":"new","NAMESPACE":"dev","namespace":"prod"}`, 400, ""},
	{"POST", "/system/functions", `{"service":"new","name\u0073pace":"dev","namespace":"prod"}`, 400, ""},
	{"POST", "/system/functions", "{\"\u017fervice\":\"env\",\"service\":\"new\",\"namespace\":\"dev\"}", 400, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":"dev","envVars":{"a":"1","a":"2"}}`, 400, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":"dev"}{"namespace":"prod"}`, 400, ""},
	{"POST", "/system/functions", `[{"service":"new","namespace":"dev"}]`, 400, ""},
	{"POST", "/system/functions", "{\"service\":\"new\",\"namespace\":\"dev\",\"x\":\"\xff\"}", 400, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":"prod"}`, 403, ""},
	{"POST", "/system/functions", `{"service":"new","namespace":"dev:*"}`, 400, ""},
	{"POST", "/system/functions", `{"service":"../new","namespace":"dev"}`, 400, ""},
	{"POST", "/system/functions", `{"service":"*","namespace":"dev"}`, 400, ""},
	{"GET", "/system/function/*?namespace=dev", "", 400, ""},
	{"GET", "/system/namespace/*", "", 400, ""},
	{"POST", "/system/secrets", `{"name":"s","namespace":"dev","value":"` + strings.Repeat("x", maxBody) + `"}`, 413, ""},

	// The path as somebody behind us might read it.
	{"GET", "/system/function/env%2Eprod?namespace=dev", "", 400, ""},
	{"GET", "/system/function/env%2F..%2Fcows?namespace=dev", "", 400, ""},
	{"GET", "/system/function/env/../cows?namespace=dev", "", 404, ""},
	{"GET", "/system/namespace/dev%2f..%2fprod", "", 400, ""},
	{"GET", "/system/namespace/dev/../prod", "", 404, ""},
	{"GET", "//system/namespace/prod", "", 404, ""},
	{"GET", "/SYSTEM/namespace/prod", "", 404, ""},
	{"GET", "/%73ystem/namespace/prod", "", 404, ""},
	{"GET", "/system%2Fnamespace/prod", "", 404, ""},
	{"GET", "/./system/namespace/prod", "", 404, ""},
	{"GET", "/system/../system/namespace/prod", "", 404, ""},
	{"GET", "/system/namespace/prod/", "", 404, ""},
	{"GET", "/system/namespace/prod;x", "", 400, ""},
	{"GET", "/system/namespace/prod#/system/namespace/dev", "", 400, ""},
	{"GET", "/system/namespace/dev#", "", 400, ""},
	{"GET", "/system/functions?namespace=dev#&namespace=prod", "", 400, ""},
	{"GET", "/system/functions?#&namespace=dev", "", 400, ""},
	{"GET", "/system/namespace/d\u00e9v", "", 400, ""},
	{"GET", "http://gateway.test/system/namespace/prod", "", 403, ""},
	{"GET", "http://gateway.test/system/namespace/dev", "", 200, ""},
	{"GET", "http://evil/?/system/namespace/dev", "", 404, ""},
	{"HEAD", "/system/namespace/prod", "", 403, ""},
	{"HEAD", "/system/namespace/dev", "", 200, ""},

	// What a plugin, or somebody behind us, might read in another way.
	{"POST", "/system/functions", `{"service":"new","Namespace":"dev"}`, 400, ""},
	{"POST", "/system/functions", `{"Service":"new","namespace":"dev"}`, 400, ""},
	{"DELETE", "/system/functions", `{"functionname":"env","namespace":"dev"}`, 400, ""},
	{"DELETE", "/system/functions", "{\"functionName\":\"env\",\"name\u017fpace\":\"dev\"}", 400, ""},
	{"GET", "/system/logs?name=env&name=other&namespace=dev", "", 400, ""},
	{"GET", "/system/namespace/dev?a=1&a=1", "", 200, ""},

	// The method as somebody behind us might read it.
	{"GET", "/system/namespace/dev", "", 200, "X-HTTP-Method-Override: DELETE"},
	{"GET", "/system/namespace/dev?_method=DELETE", "", 200, ""},
	{"get", "/system/namespace/dev", "", 405, ""},
	{"OPTIONS", "/system/namespace/dev", "", 405, ""},
	{"TRACE", "/system/namespace/dev", "", 405, ""},
	{"GET", "/system/functions", `{"namespace":"dev"}`, 403, ""},
	{"GET", "/system/namespace/prod", "", 403, "X-Forwarded-Path: /system/namespace/dev"},
	{"GET", "/system/namespace/prod", "", 403, "X-Original-URL: /system/namespace/dev"},
}

// TestTricks: none of them gets anywhere.
func TestTricks(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.grant(t, "*", "dev:*")
	token := "Bearer " + a.token(t, nil)
	a.try(t, token, a.recorder)
}

// try sends the tricks to a, and looks at what is asked of the provider.
func (a *api) try(t *testing.T, token string, asked *recorder) {
	t.Helper()
	for _, c := range tricks {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		status, answer := a.send(t, c.method, c.target, token, c.body, headers...)
		require.Equal(t, c.status, status, "%s %s %.80s: %.200s", c.method, c.target, c.body, answer)
		wanted := asked.take()
		if c.status == 200 {
			require.Equal(t, "Namespace dev", wanted)
		} else {
			require.Empty(t, wanted, "%s %s %.80s", c.method, c.target, c.body)
		}
	}
}

func TestForeignPages(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for origin, status := range map[string]int{
		"http://gateway.test": 200, "https://gateway.test": 200, "http://evil.test": 403, "null": 403,
		"http://gateway.test.evil.test": 403, "http://gateway.test:81": 403, "": 403,
	} {
		got, _ := a.send(t, "GET", "/system/info", asAdmin, "", "origin: "+origin)
		require.Equal(t, status, got, origin)
	}
	a.grant(t, "*", "*")
	got, _ := a.send(t, "GET", "/system/info", "Bearer "+a.token(t, nil), "", "Origin: http://evil.test")
	require.Equal(t, 200, got, "no browser adds a token by itself")
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Open, c.Admin = true, basicauth.Credentials{} })
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{[]string{"Host: 127.0.0.1:8080"}, 200},
		{[]string{"Host: localhost"}, 200},
		{[]string{"Host: [::1]:8080"}, 200},
		{[]string{"Host: evil.test"}, 403},
		{[]string{"Host: 127.0.0.1.evil.test"}, 403},
		{[]string{"Host: localhost:8080", "Origin: http://localhost:8080"}, 200},
		{[]string{"Host: localhost:8080", "Origin: http://localhost:3000"}, 403},
		{[]string{"Host: localhost:8080", "Origin: null"}, 403},
		{[]string{"Host: localhost:8080", "x-forwarded-for: 192.0.2.1"}, 403},
		{[]string{"Host: localhost:8080", "Via: 1.1 proxy.test"}, 403},
	} {
		status, answer := a.send(t, "GET", "/system/info", "", "", c.headers...)
		require.Equal(t, c.status, status, "%v: %s", c.headers, answer)
	}
	status, _ := a.send(t, "POST", "/system/functions", "", `{"service":"new","namespace":"dev"}`, "Host: localhost")
	require.Equal(t, 202, status)
	require.Contains(t, a.log.String(), `"subject":"anybody"`)
}

// TestTokensAlone: without an administrator nobody is told of passwords.
func TestTokensAlone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Admin = basicauth.Credentials{} })
	a.grant(t, "System:Info", "*")
	for _, authorization := range []string{"", asAdmin, "Basic Og=="} {
		res, _ := a.sendRaw(t, "GET", "/system/info", authorization, "")
		require.Equal(t, 401, res.StatusCode)
		require.Equal(t, []string{`Bearer realm="Restricted"`}, res.Header.Values("WWW-Authenticate"))
	}
	status, _ := a.send(t, "GET", "/system/info", "Bearer "+a.token(t, nil), "")
	require.Equal(t, 200, status)
}

// TestObjectsNotLoaded: who cannot be judged yet is told to come again.
func TestObjectsNotLoaded(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) {
		e, err := exchange.New(exchange.Config{Issuer: c.Issuer, Objects: func() *iam.Set { return nil }})
		require.NoError(t, err)
		c.Exchange = e
	})
	res, answer := a.sendRaw(t, "GET", "/system/info", "Bearer "+a.token(t, nil), "")
	require.Equal(t, 503, res.StatusCode, answer)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	status, _ := a.send(t, "GET", "/system/info", asAdmin, "")
	require.Equal(t, 200, status)
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":{"b":[1,{"c":null}]}}`, `{"a":1,"A":2}`, `{"a":{"b":1,"b":2}}`, `[{}]`, `{} {}`, ``, ` `, "{\"\u212a\":1,\"k\":2}", `{"a":1e999}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkJSON(data) != nil {
			return
		}
		// What passes means the same with its names in any order.
		var m map[string]json.RawMessage
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var first, second struct{ Service, Namespace, Name string }
		errFirst := json.Unmarshal(data, &first)
		again, _ := json.Marshal(m) // sorted
		errSecond := json.Unmarshal(again, &second)
		if first != second || (errFirst == nil) != (errSecond == nil) {
			t.Fatalf("%q means %v, and sorted %v", data, first, second)
		}
	})
}
