package federated

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tricks are targets that must not pass, whoever asks.
var tricks = []struct {
	target string
	status int
}{
	{"/", 404},
	{"/ui/", 404},
	{"/metrics", 404},
	{"/oauth/token", 404},
	{"/.well-known/openid-configuration", 404},
	{"/system", 404},
	{"/system/", 404},
	{"/system?x=/system/functions", 404},
	{"/systemfunctions", 404},
	{"/System/functions", 404},
	{"/SYSTEM/functions", 404},
	{"/%73ystem/functions", 404},
	{"/system%2ffunctions", 404},
	{"//system/functions", 404},
	{"///system/functions", 404},
	{"/./system/functions", 404},
	{"/x/../system/functions", 404},
	{"/system//functions", 404},
	{"/system/functions//", 404},
	{"/system/../function/echo", 404},
	{"/system/..", 404},
	{"/system/.", 404},
	{"/system/./functions", 404},
	{"/system/functions/../../function/echo", 404},
	{"/system/%2e%2e/function/echo", 404},
	{"/system/%2E./function/echo", 404},
	{"/system/..%2ffunction/echo", 404},
	{"/system/..%5cfunction/echo", 404},
	{`/system/..\function/echo`, 404},
	{`/system\functions`, 404},
	{"/system/%252e%252e/function/echo", 404},
	{"/system/..;/function/echo", 404},
	{"/system/..;x=y/function/echo", 404},
	{"/system/functions;x=y", 404},
	{"/system;x/functions", 404},
	{"/system/functions%00", 404},
	{"/system/functions%0d%0aX:y", 404},
	{"/system/functions%3fx", 404},
	{"/system/%c0%ae%c0%ae/function/echo", 404},
	{"/system/functions%20", 404},
	{"/system/functions*", 404},
	{"/system/func\xc3\xbctions", 400},
	{"/system/functions#/../../function/echo", 400},
	{"/system/functions?x#y", 400},
	{"/system/functions\x7f", 400},
	{"http://gateway/system/functions", 400},
	{"http://gateway:8080/system/functions?x=y", 400},
	{"https://gateway/system/functions", 400},
	{"HTTP://gateway/system/functions", 400},
	{"gateway:80/system/functions", 400},
	{"system/functions", 400},
	{"?/system/functions", 400},
	{"*", 400},

	{"/function", 404},
	{"/function/", 404},
	{"/function//system/functions", 404},
	{"/function/..", 404},
	{"/function/../system/functions", 404},
	{"/function/..;/system/functions", 404},
	{"/function/%2e%2e/system/functions", 404},
	{"/function/echo%2f..%2f..%2fsystem", 404},
	{"/function/echo;x/y", 404},
	{"/function/ec%68o", 404},
	{`/function/echo\..\..\system\functions`, 404},
	{"/Function/echo", 404},
	{"//function/echo", 404},
	{"/async-function/../system/functions", 404},
	{"/async-function/", 404},
}

// tricksWithCalls are targets that must not pass where calls to functions do;
// they are a 404 where those do not.
var tricksWithCalls = []string{
	"/function/echo/..",
	"/function/echo/.",
	"/function/echo/./x",
	"/function/echo/../../system/functions",
	"/function/echo/x/../../../system/functions",
	"/function/echo/%2e%2e/%2e%2e/system/functions",
	"/function/echo/..%2f..%2fsystem/functions",
	"/function/echo/..%2F..%2Fsystem%2Ffunctions",
	"/function/echo/%2e%2e%5c..%5csystem",
	`/function/echo/..\..\system\functions`,
	"/function/echo/%252e%252e/%252e%252e/system/functions",
	"/function/echo/%25252e%25252e/system/functions",
	"/function/echo/%2525252525252e./system/functions",
	"/function/echo/%252e%252e/%25/system/functions",
	"/function/echo/..;/..;/system/functions",
	"/function/echo/..;x=y/..;/system/functions",
	"/function/echo/..%3b/..%3b/system/functions",
	"/function/echo/%c0%ae%c0%ae/system/functions",
	"/function/echo/%u002e%u002e/system/functions",
	"/function/echo/%2",
	"/function/echo/%zz",
	"/function/echo/%00",
	"/function/echo/a%0d%0aHost:%20x",
	"/function/echo/%e9",
	"/async-function/echo/../../system/functions",
}

var passing = []string{
	"/system/info", "/system/functions", "/system/functions?namespace=dev&x=..%2f..%2f", "/system/function/env.dev", "/system/scale-function/env",
	"/system/logs?name=env&follow=1", "/system/namespace/", "/system/namespace/dev", "/system/namespaces", "/system/secrets", "/system/alert",
}

var passingCalls = []string{
	"/function/echo", "/function/echo/", "/function/echo.dev", "/function/echo.dev/a/b?c=d", "/function/echo//a", "/function/echo/...",
	"/function/echo/a%2Fb", "/function/echo/100%25", "/function/echo/100%2525", "/function/echo/%C3%BC", "/function/echo/a;b=c", "/function/echo/a%20b",
	"/function/echo/..a/a..", "/function/echo?x=/../../system/functions", "/async-function/echo", "/async-function/echo.dev/x",
	"/async-function/7e57d004-2b97-0e7a-b45f-5387367791cd",
}

// TestTricks sends each target with a good token to a server, with and without
// allow_invoke: not even a connection to the local gateway is made.
func TestTricks(t *testing.T) {
	t.Parallel()
	for _, invoke := range []bool{false, true} {
		f := newFed(t, nil, func(c *Config) { c.AllowInvoke = invoke })
		bearer := f.bearer(t)
		refuse := func(target string, status int) {
			t.Helper()
			res, _ := f.send(t, "GET "+target, bearer)
			require.Equal(t, status, res.StatusCode, target)
		}
		for _, trick := range tricks {
			refuse(trick.target, trick.status)
		}
		for _, target := range tricksWithCalls {
			if invoke {
				refuse(target, http.StatusBadRequest)
			} else {
				refuse(target, http.StatusNotFound)
			}
		}
		for _, target := range passingCalls {
			if !invoke {
				refuse(target, http.StatusNotFound)
			}
		}
		for _, method := range []string{"TRACE", "TRACK", "CONNECT", "PROPFIND", "get", "GET\x00"} {
			conns := f.local.conns.Load()
			res, body := f.send(t, method+" /system/info", bearer)
			require.Contains(t, []int{400, 405, 501}, res.StatusCode, "%q: %s", method, body)
			require.Equal(t, conns, f.local.conns.Load())
		}
		require.Zero(t, f.local.conns.Load(), "nothing has touched the local gateway")

		targets := passing
		if invoke {
			targets = append(targets, passingCalls...)
		}
		for _, target := range targets {
			res, _ := f.send(t, "GET "+target, bearer)
			require.Equal(t, http.StatusOK, res.StatusCode, target)
			require.Equal(t, target, f.local.last(t).RequestURI, "as it came")
			for _, token := range []string{"X: y", "Authorization: Bearer x.y.z"} {
				before := f.local.count()
				res, _ = f.send(t, "GET "+target, token)
				require.Equal(t, http.StatusUnauthorized, res.StatusCode, target)
				require.Equal(t, before, f.local.count())
			}
		}
	}
}

// readings are the paths that servers may make of a path: decoded up to five
// times, backslashes and parameters taken for what they are elsewhere, dots
// resolved and slashes merged.
func readings(p string) []string {
	var all []string
	for range 5 {
		for _, variant := range []string{p, strings.ReplaceAll(p, `\`, "/"), withoutParameters(p), withoutParameters(strings.ReplaceAll(p, `\`, "/"))} {
			all = append(all, path.Clean("/"+variant))
			if u, err := url.Parse("http://gateway/"); err == nil {
				all = append(all, u.ResolveReference(&url.URL{Path: variant}).Path)
			}
			// As Go's own server sees it, which redirects to the clean path.
			w := httptest.NewRecorder()
			http.NewServeMux().ServeHTTP(w, &http.Request{Method: "GET", Host: "gateway", URL: &url.URL{Path: variant}})
			if to, err := url.Parse(w.Header().Get("Location")); err == nil && to.Path != "" {
				all = append(all, to.Path)
			}
		}
		// Segment by segment, so that one bad encoding does not hide the others.
		parts := strings.Split(p, "%")
		for i := range parts {
			if i > 0 && len(parts[i]) >= 2 {
				if d, err := url.PathUnescape("%" + parts[i][:2]); err == nil {
					parts[i] = d + parts[i][2:]
					continue
				}
			}
			if i > 0 {
				parts[i] = "%" + parts[i]
			}
		}
		p = strings.Join(parts, "")
	}
	return all
}

func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// FuzzJudge: what passes as a route is that route, however it is read.
func FuzzJudge(f *testing.F) {
	for _, trick := range tricks {
		f.Add(trick.target)
	}
	for _, list := range [][]string{tricksWithCalls, passing, passingCalls} {
		for _, target := range list {
			f.Add(target)
		}
	}
	f.Fuzz(func(t *testing.T, target string) {
		for _, invoke := range []bool{false, true} {
			c := &call{}
			status, problem := c.judge([]byte(target), invoke)
			if status != 0 {
				require.NotEmpty(t, problem)
				require.Equal(t, nowhere, c.route)
				continue
			}
			require.True(t, invoke || c.route == system)
			raw, _, _ := strings.Cut(target, "?")
			prefix := "/" + string(c.route) + "/"
			if c.route != system {
				name, _, _ := strings.Cut(strings.TrimPrefix(raw, prefix), "/")
				prefix += name
			}
			for _, read := range readings(raw) {
				require.True(t, read == prefix || strings.HasPrefix(read, strings.TrimSuffix(prefix, "/")+"/"), "%q may be read as %q", target, read)
			}
		}
	})
}
