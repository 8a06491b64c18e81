package gateway

import (
	"fmt"
	"io"
	"log"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/gateway/basicauth"
)

// quiet takes what test servers say of clients that break off.
var quiet = log.New(io.Discard, "", 0)

// newJudge is a gateway that decides on what others describe, and one that asks
// it.
func newJudge(t *testing.T) (judge, front *api) {
	t.Helper()
	judge = newAPI(t, func(c *Config) { c.ValidateForwarded = true })
	return judge, newFront(t, judge.url+"/validate", func(c *Config) { c.AuthPassBody = true })
}

// TestPermissionMatrixThroughPlugin has one gateway decide for another, on
// every route under every action. What is denied reaches neither's provider.
func TestPermissionMatrixThroughPlugin(t *testing.T) {
	t.Parallel()
	judge, front := newJudge(t)
	front.grant(t, "*", "*") // which plays no part
	token := "Bearer " + judge.token(t, nil)
	scopes := map[string]func(want) bool{
		"*":       func(w want) bool { return w.cluster },
		"dev:*":   func(w want) bool { return w.namespace },
		"dev:env": func(w want) bool { return w.function },
		"prod:*":  func(want) bool { return false },
		"*:env":   func(w want) bool { return w.function },
	}
	for _, action := range iam.Actions() {
		for scope, opens := range scopes {
			judge.grant(t, action, scope)
			for _, s := range samples {
				if action != s.action && s.action != "" && scope != "*" {
					continue // TestPermissionMatrix has them all
				}
				method, path, _ := strings.Cut(s.route, " ")
				status, answer, asked := front.do(t, method, s.target, token, s.body)
				what := fmt.Sprintf("%s with %s on %s: %d %s; asked %s", s.route, action, scope, status, answer, asked)
				granted := action == s.action && opens(s.want)
				switch {
				case path == "/system/telemetry":
					granted = true
				case path == "/system/namespaces":
					granted = action == "Namespace:List" && scope == "*"
				case strings.HasSuffix(s.action, ":List"): // nobody filters it
					granted = action == s.action && (scope == "*" || scope == "dev:*")
				case s.action == "Function:Create":
					granted = false // Update is wanted, too: see below
				}
				if granted {
					require.Less(t, status, 300, what)
				} else {
					require.Equal(t, 403, status, what)
					require.Contains(t, answer, "insufficient permissions: want ", what)
					require.Empty(t, asked, what)
				}
				require.Empty(t, judge.take(), what)
			}
		}
	}
	judge.grant(t, "Function:Create", "dev:*", "Function:Update", "dev:env")
	for name, want := range map[string]int{"env": 202, "new": 403} {
		status, answer, _ := front.do(t, "POST", "/system/functions", token, `{"service":"`+name+`","namespace":"dev"}`)
		require.Equal(t, want, status, answer)
	}
	for _, s := range samples {
		method, _, _ := strings.Cut(s.route, " ")
		status, answer, _ := front.do(t, method, s.target, asAdmin, s.body)
		require.Less(t, status, 300, "the administrator, %s: %s", s.route, answer)
	}
	require.Contains(t, judge.log.String(), `"subject":"alice","issuer":"http://idp.test","action":"Secret:Delete","resource":"secret env in dev","status":403,"message":"DELETE denied to another gateway"`)
	require.Contains(t, judge.log.String(), `"action":"Secret:Delete","resource":"secret env in dev","status":200,"message":"DELETE allowed to another gateway"`)
	require.Contains(t, front.log.String(), `"subject":"auth plugin","action":"Secret:Delete"`)

	for name, authorization := range map[string]string{
		"nothing":        "",
		"function token": "Bearer " + judge.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}, "policy": nil}),
		"front's token":  "Bearer " + front.token(t, nil),
		"wrong password": "Basic YWRtaW46cHg=",
	} {
		res, _ := front.sendRaw(t, "GET", "/system/info", authorization, "")
		require.Equal(t, 401, res.StatusCode, name)
		require.ElementsMatch(t, []string{`Basic realm="Restricted"`, `Bearer realm="Restricted"`}, res.Header.Values("WWW-Authenticate"), name)
	}
	require.NotContains(t, front.log.String()+judge.log.String(), "eyJ")
}

// TestTricksThroughPlugin: two readers of one request are one more chance.
func TestTricksThroughPlugin(t *testing.T) {
	t.Parallel()
	judge, front := newJudge(t)
	judge.grant(t, "*", "dev:*")
	front.try(t, "Bearer "+judge.token(t, nil), front.recorder)
	require.Empty(t, judge.take())
}

// TestForgedDescriptions has alice, who may do everything in dev, describe her
// request herself.
func TestForgedDescriptions(t *testing.T) {
	t.Parallel()
	judge, front := newJudge(t)
	judge.grant(t, "*", "dev:*")
	token := "Bearer " + judge.token(t, nil)
	for _, uri := range []string{"/system/namespace/dev", "http://gateway.test/system/namespace/dev", "/system/namespace/dev#", "/system/namespace/%64ev"} {
		for _, name := range []string{"X-Forwarded-Uri", "x-forwarded-uri", "X-FORWARDED-URI", "X_Forwarded_Uri", "x-forwarded_Uri"} {
			for _, method := range []string{"GET", "DELETE"} {
				status, answer := front.send(t, method, "/system/namespace/prod", token, "", name+": "+uri, name+": "+uri, "X-Forwarded-Method: GET", "Connection: "+name)
				require.Equal(t, 403, status, answer)
			}
		}
	}
	status, _ := front.send(t, "DELETE", "/system/namespace/dev", token, "", "X-Forwarded-Method: GET", "X-Forwarded-Uri: /system/namespace/prod")
	require.Equal(t, 202, status)
	require.Equal(t, "DeleteNamespace dev", front.take())

	// A gateway that does not describe requests itself, or not well.
	described := func(method, uri string, more ...string) []string {
		return append([]string{"X-Forwarded-Method: " + method, "X-Forwarded-Uri: " + uri, "X-Forwarded-Host: front.test"}, more...)
	}
	for name, c := range map[string]struct {
		status  int
		headers []string
	}{
		"good":                {200, described("GET", "/system/namespace/dev")},
		"of prod":             {403, described("GET", "/system/namespace/prod")},
		"other case":          {200, []string{"x-forwarded-method: GET", "X-FORWARDED-URI: /system/namespace/dev", "X-Forwarded-host: front.test"}},
		"none":                {400, nil},
		"no method":           {400, described("GET", "/system/namespace/dev")[1:]},
		"no host":             {400, described("GET", "/system/namespace/dev")[:2]},
		"no URI":              {400, []string{"X-Forwarded-Method: GET", "X-Forwarded-Host: h"}},
		"empty URI":           {400, described("GET", "")},
		"twice":               {400, described("GET", "/system/namespace/dev", "X-Forwarded-Uri: /system/namespace/dev")},
		"twice, other case":   {400, described("GET", "/system/namespace/dev", "x-forwarded-uri: /system/namespace/prod")},
		"twice for CGI":       {400, described("GET", "/system/namespace/dev", "X_FORWARDED_URI: /system/namespace/prod")},
		"two methods":         {400, described("GET", "/system/namespace/dev", "X-Forwarded-Method: DELETE")},
		"absolute":            {400, described("GET", "http://front.test/system/namespace/dev")},
		"fragment":            {400, described("GET", "/system/namespace/dev#")},
		"fragment in query":   {400, described("GET", "/system/namespace/dev?a#b")},
		"space":               {400, described("GET", "/system/namespace/dev x")},
		"tab":                 {400, described("GET", "/system/namespace/dev\tx")},
		"not ASCII":           {400, described("GET", "/system/namespace/d\xc3\xa9v")},
		"not below /system/":  {400, described("GET", "/function/env")},
		"not /system/ itself": {400, described("GET", "/system")},
		"encoded":             {400, described("GET", "/%73ystem/namespace/dev")},
		"encoded name":        {400, described("GET", "/system/namespace/%64ev")},
		"dots":                {404, described("GET", "/system/namespace/dev/../prod")},
		"unknown route":       {404, described("GET", "/system/nonsense")},
		"unknown method":      {405, described("PATCH", "/system/functions")},
		"other case method":   {405, described("get", "/system/namespace/dev")},
		"two namespaces":      {400, described("GET", "/system/functions?namespace=dev&namespace=prod")},
		"part of a list":      {403, described("GET", "/system/functions")},
		"whole list":          {200, described("GET", "/system/functions?namespace=dev")},
		"HEAD":                {200, described("HEAD", "/system/functions?namespace=dev")},
	} {
		for _, method := range []string{"GET", "POST"} {
			status, answer := judge.send(t, method, "/validate?namespace=dev", token, "", c.headers...)
			require.Equal(t, c.status, status, "%s: %s", name, answer)
		}
		status, _ := judge.send(t, "GET", "/validate", "", "", c.headers...)
		require.Equal(t, 401, status, "%s: a stranger learns nothing", name)
	}

	// A page of the gateway that asks, and another site's.
	for origin, want := range map[string]int{"http://front.test": 200, "http://evil.test": 403} {
		status, _ := judge.send(t, "GET", "/validate", asAdmin, "", described("GET", "/system/info", "Origin: "+origin)...)
		require.Equal(t, want, status, origin)
	}
	require.Empty(t, judge.take())
}

// TestValidateWithoutBody: what stands in a body that has not come is not taken
// for the default namespace, or for nothing.
func TestValidateWithoutBody(t *testing.T) {
	t.Parallel()
	judge := newAPI(t, func(c *Config) { c.ValidateForwarded = true })
	judge.grant(t, "*", "openfaas-fn:*", "*", "dev:*")
	front := newFront(t, judge.url+"/validate", nil) // which keeps bodies to itself
	token := "Bearer " + judge.token(t, nil)
	for _, s := range samples {
		method, path, _ := strings.Cut(s.route, " ")
		if s.body == "" {
			continue
		}
		for _, body := range []string{s.body, strings.ReplaceAll(strings.ReplaceAll(s.body, "dev", "prod"), `{}`, `{"name":"prod"}`)} {
			status, answer := front.send(t, method, s.target, token, body)
			what := fmt.Sprintf("%s with %s: %d %s", s.route, body, status, answer)
			asked := front.take()
			if (path == "/system/namespace/{}" && body == s.body) || path == "/system/telemetry" {
				require.Less(t, status, 300, what)
				continue
			}
			require.Equal(t, 400, status, what)
			require.Empty(t, asked, what)
			if path != "/system/namespace/{}" { // where the body disagrees with the path
				require.Contains(t, answer, "auth_pass_body=true", what)
			}
		}
	}
}

// TestValidateOnlyEverything: by default, what a request is about is unknown.
func TestValidateOnlyEverything(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	token := "Bearer " + a.token(t, nil)
	forged := []string{"X-Forwarded-Method: GET", "X-Forwarded-Uri: /system/namespace/dev", "X-Forwarded-Host: h"}
	ask := func(authorization string, headers ...string) (int, string) {
		return a.send(t, "POST", "/validate", authorization, `{"service":"env"}`, headers...)
	}
	for _, grants := range [][]string{
		{"*", "dev:*"}, {"*", "*:env"}, {"Namespace:*", "*"}, {"Function:*", "*", "Secret:*", "*", "Namespace:*", "*"}, {"System:Info", "*"}, {"Function:Read", "*"},
		{"*", "*:*e*"}, {"*", "*-*:*"},
	} {
		a.grant(t, grants...)
		status, answer := ask(token, forged...)
		require.Equal(t, 403, status, grants)
		require.Contains(t, answer, "want * on *")
		require.Contains(t, answer, "validate_forwarded=true")
	}
	for _, grants := range [][]string{{"*", "*"}, {"*", "*:*"}, {"Function:*", "*", "Secret:*", "*", "Namespace:*", "*", "System:*", "*"}} {
		a.grant(t, grants...)
		status, answer := ask(token)
		require.Equal(t, 200, status, answer)
		status, _ = ask("Bearer "+a.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}}), forged...)
		require.Equal(t, 401, status)
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		status, _ := a.send(t, method, "/validate", asAdmin, "")
		require.Equal(t, 200, status, method)
		res, _ := a.sendRaw(t, method, "/validate", "", "")
		require.Equal(t, 401, res.StatusCode, method)
		require.Equal(t, []string{`Basic realm="Restricted"`, `Bearer realm="Restricted"`}, res.Header.Values("WWW-Authenticate"))
	}
	status, _ := ask(asAdmin, "Origin: http://evil.test")
	require.Equal(t, 403, status)
	require.Empty(t, a.take())
	require.NotContains(t, a.log.String(), "eyJ")

	open := newAPI(t, func(c *Config) { c.Open, c.Admin = true, basicauth.Credentials{} })
	status, answer := open.send(t, "GET", "/validate", "", "", "Host: localhost")
	require.Equal(t, 403, status, answer)
}

// FuzzSplitForwarded: what we take a URI for is what net/url does.
func FuzzSplitForwarded(f *testing.F) {
	for _, s := range []string{"/system/info", "/system/functions?namespace=dev", "/system/a%2Fb?c=%20#d", "/system//x", "/system/?", "http://h/system/info", "/system/;a?b?c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		path, query, err := splitForwarded(uri)
		if err != nil {
			return
		}
		if path+query != uri {
			t.Fatalf("%q became %q and %q", uri, path, query)
		}
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || u.Path != decoded || u.RawQuery != strings.TrimPrefix(query, "?") || u.Host != "" {
			t.Fatalf("%q: %q and %q here, %q and %q to net/url", uri, path, query, u.Path, u.RawQuery)
		}
	})
}
