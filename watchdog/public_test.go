package watchdog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// skipped are the paths that need no token in these tests.
const skipped = "jwt_auth_skip_paths=/public/*,/healthz,/"

// bypasses are request targets that some server could take for something that
// is not open. Every one needs a token.
var bypasses = []string{
	"/secret.txt", "/secret.txt?/public/x", "/secret.txt#/public/x", "/secret.txt;/public/x", "/secret.txt/public/x",
	"/public", "/public/", "/public?x", "/public/?x", "/publicx", "/public.txt", "/PUBLIC/x", "/Public/x", "/healthz/", "/healthz/x", "/healthzx", "/Healthz",
	"/public/../secret.txt", "/public/./../secret.txt", "/public/x/../../secret.txt", "/public/x/..", "/public/..", "/public/.", "/public/./x",
	"/./public/x", "/../public/x", "/x/../public/x", "/secret.txt/../public/x",
	"/public/.../secret.txt", "/public/..../x", "/public/...",
	"/public//x", "//public/x", "/public//../secret.txt", "/public/x//", "//secret.txt", "/public///secret.txt", "//", "//healthz", "/healthz//",
	"/public/..;/secret.txt", "/public/..;a=b/secret.txt", "/public;/../secret.txt", "/public/;/../secret.txt", "/public/x;y", "/;/public/x", "/healthz;x", "/public/.;/secret.txt",
	"/public/%2e%2e/secret.txt", "/public/%2E%2E/secret.txt", "/public/.%2e/secret.txt", "/public/%2e./secret.txt", "/public/%2e/x",
	"/public/..%2fsecret.txt", "/public/..%2Fsecret.txt", "/public/%2e%2e%2fsecret.txt", "/public%2f..%2fsecret.txt", "/public/x%2f..%2f..%2fsecret.txt",
	"/public/%252e%252e/secret.txt", "/public/%252e%252e%252fsecret.txt", "/public/%25252e%25252e/secret.txt", "/public/..%252fsecret.txt",
	"/public/..%5csecret.txt", `/public/..\secret.txt`, `/public\..\secret.txt`, `/public/x\..\..\secret.txt`, `\public\x`, "/public%5c..%5csecret.txt", "/public/%5c../secret.txt",
	"/public/%c0%ae%c0%ae/secret.txt", "/public/%e0%80%ae%e0%80%ae/secret.txt", "/public/%uff0e%uff0e/secret.txt", "/public/%u002e%u002e/secret.txt", "/public/\xc0\xae\xc0\xae/secret.txt", "/public/\xef\xbc\x8e\xef\xbc\x8e/secret.txt",
	"/public/%70ublic", "/%70ublic/x", "/public%2fx", "/public/x%00", "/public/%00/../secret.txt", "/public/..%00/secret.txt", "/public/%0a../secret.txt", "/public/%20", "/public/x%20", "/public/x%2e",
	"/public/#/../../secret.txt", "/public/x#/../../secret.txt", "/public/%23/../secret.txt", "/public/%3f/../../secret.txt", "/public/%3b/../secret.txt",
	"/public/\x00", "/public/x\x00/../../secret.txt", "/public/\t", "/public/x\ty", "/public/\x0b../secret.txt", "/public/\x7f", "/public/ x", "/public/x y",
	`/public/"`, "/public/<x>", "/public/{x}", "/public/[x]", "/public/x|y", "/public/^", "/public/`x`",
	"http://x/public/x", "http://x/secret.txt", "http://public/secret.txt", "http://x/public/../secret.txt", "http://x@y/public/x", "HTTP://x/public/x", "http:/public/x", "http:///public/x", "file:///public/x", "//x/public/x", "http://x", "http://x?/public/x",
	"public/x", "x:80", "*", "*/public/x", "?/public/x", "#/public/x", "./public/x", "../public/x", "~/public/x", "@/public/x", ":80/public/x", "/~/../public/x",
	"/public/" + strings.Repeat("x/../", 2000) + "../secret.txt", "/public/" + strings.Repeat("%2e", 4000),
	"/_/health/../public/x", "/public/../_/health", "/_/public/x",
}

// open are targets that need no token. What they lead to is below what is open,
// however they are read.
var open = []string{
	"/public/ok.txt", "/public/ok.txt?", "/public/ok.txt?/../../secret.txt", "/public/ok.txt?x=/secret.txt", "/public/ok.txt??#", "/public/x", "/public/x/", "/public/x/y.z", "/public/.x", "/public/x.", "/public/x..", "/public/..x",
	"/public/secret.txt", "/public/-_.~!$&'()*+,=:@", "/public/public/x", "/public/*", "/public/" + strings.Repeat("x", 8000), "/healthz", "/healthz?x", "/healthz?/../secret.txt", "/", "/?/secret.txt",
}

// lenient reads paths in every way that anybody ever did.
const lenient = `
const http = require("http"), path = require("path");
http.createServer((req, res) => {
  let p = req.url.replace(/^\w+:\/\/[^/]*/, "");
  for (const h of ["x-original-url", "x-rewrite-url", "x-forwarded-path", "destination"]) p = req.headers[h] || p;
  for (const h of ["script_name", "x-script-name", "x-forwarded-prefix"])
    if (req.headers[h] && p.startsWith(req.headers[h])) p = p.slice(req.headers[h].length);
  p = p.split(/[?#]/)[0];
  for (let i = 0; i < 3; i++) try { p = decodeURIComponent(p) } catch { p = unescape(p) }
  p = p.replace(/\\/g, "/").replace(/;[^/]*/g, "").replace(/\0.*/, "").replace(/[\t\x0b\n]/g, "").replace(/\.{3,}/g, "..");
  p = path.posix.normalize("/" + p).toLowerCase().replace(/\/$/, "") || "/";
  const open = p === "/" || p === "/healthz" || p.startsWith("/public/");
  res.end(open ? "open " + p : "SECRET " + p);
}).listen(process.argv[2].split(":")[1], "127.0.0.1")`

// servers starts functions that read paths leniently, and serve SECRET wherever
// nothing is open.
func servers(t *testing.T, test func(t *testing.T, p *program, token string), env ...string) {
	i := newIssuer(t)
	env = slices.Clip(append([]string{"jwt_auth=true", "jwt_auth_authority=" + i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev"}, env...))
	files := func(t *testing.T) string {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "public"), 0o755))
		for name, content := range map[string]string{"secret.txt": "SECRET", "index.html": "index", "public/ok.txt": "ok", "public.txt": "SECRET"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
		}
		return dir
	}
	for name, function := range map[string]func(t *testing.T) []string{
		"mux":    func(t *testing.T) []string { return httpEnv(t, 0) },
		"static": func(t *testing.T) []string { return []string{"mode=static", "static_path=" + files(t)} },
		"python": func(t *testing.T) []string {
			port := freeport.Take()
			return []string{"mode=http", "upstream_url=http://127.0.0.1:" + port,
				fmt.Sprintf("fprocess=python3 -m http.server --bind 127.0.0.1 --directory '%s' %s", files(t), port)}
		},
		"node": func(t *testing.T) []string {
			script := filepath.Join(t.TempDir(), "lenient.js")
			require.NoError(t, os.WriteFile(script, []byte(lenient), 0o644))
			address := "127.0.0.1:" + freeport.Take()
			return []string{"mode=http", "upstream_url=http://" + address, "fprocess=node '" + script + "' " + address}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "python" || name == "node" {
				if _, err := exec.LookPath(strings.Replace(name, "python", "python3", 1)); err != nil {
					t.Skipf("SKIPPED, %s is NOT tested: %s", name, err)
				}
			}
			p := start(t, append(env, function(t)...)...)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys and function")
			test(t, p, i.token(t, "*", time.Hour))
		})
	}
}

func (p *program) status(request string) (status int, answer string) {
	p.t.Helper()
	answer = p.raw(request)
	_, err := fmt.Sscanf(answer, "HTTP/1.1 %d", &status)
	require.NoError(p.t, err, "%q: %q", request, answer)
	return status, answer
}

// No target gets anything that is protected without a token.
func TestSkipPaths(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(bypasses), 100)
	servers(t, func(t *testing.T, p *program, token string) {
		const end = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
		secrets := 0
		for _, target := range bypasses {
			for _, method := range []string{"GET", "POST", "OPTIONS"} {
				status, answer := p.status(method + " " + target + end + "\r\n")
				require.Contains(t, []int{400, 401}, status, "%s %q: %q", method, target, answer)
				require.NotContains(t, answer, "SECRET")
			}
			if strings.Contains(p.raw("GET "+target+end+"Authorization: Bearer "+token+"\r\n\r\n"), "SECRET") {
				secrets++
			}
		}
		require.NotZero(t, secrets, "nothing here can tell a bypass")
		for _, target := range open {
			for _, authorization := range []string{"", "Authorization: Bearer nonsense\r\n"} {
				status, answer := p.status("GET " + target + end + authorization + "\r\n")
				require.NotContains(t, []int{400, 401, 503}, status, "%q: %q", target, answer)
				require.NotContains(t, answer, "SECRET", target)
			}
		}
		for _, target := range []string{"/public/x", "public/x", "x:80"} {
			status, _ := p.status("CONNECT " + target + end + "\r\n")
			require.NotEqual(t, 200, status)
		}
		// Headers that some server takes for another path, or for a tunnel.
		for _, header := range []string{
			"X-Original-URL: /secret.txt", "x-original-url: /secret.txt", "X_Original_URL: /secret.txt", "X-Original_Url: /secret.txt", "X.Original.Url: /secret.txt",
			"X-Rewrite-URL: /secret.txt", "X_Rewrite_URL: /secret.txt", "X-Original-URI: /secret.txt", "X-Forwarded-Prefix: /public", "X-FORWARDED-PREFIX: /public",
			"X-Forwarded-Path: /secret.txt", "X-Forwarded-Uri: /secret.txt", "SCRIPT_NAME: /public", "Script-Name: /public", "X-Script-Name: /public",
			"PATH_INFO: /secret.txt", "Destination: /secret.txt", "X-Envoy-Original-Path: /secret.txt", "X-Original-URL:", "X-Other: a\r\nX-Original-URL: /secret.txt",
			"Connection: X-Original-URL\r\nX-Original-URL: /secret.txt",
			"Connection: Upgrade\r\nUpgrade: websocket", "Upgrade: h2c", "upgrade: x",
		} {
			status, answer := p.status("GET /public/ok.txt" + end + header + "\r\n\r\n")
			require.Equal(t, 401, status, "%s: %s", header, answer)
		}
		// What follows on the connection is a request of its own.
		two := p.raw("GET /public/x HTTP/1.1\r\nHost: x\r\n\r\nGET /secret.txt" + end + "\r\n")
		require.Equal(t, 2, strings.Count(two, "HTTP/1.1 "), two)
		require.Contains(t, two, " 401 ")
		require.NotContains(t, two, "SECRET")
	}, skipped)
}

// A prefix of the upstream's own does not widen what is open, and a queue of
// invitations to send a body is as open as the path.
func TestSkipPathsExpectAndPrefix(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	env := httpEnv(t, 0, "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", skipped)
	env[2] += "/prefix"
	p := start(t, env...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	require.Contains(t, p.get("/public/x").body, "GET /prefix/public/x ")
	require.Equal(t, 401, p.get("/prefix/public/x").status)
	const body = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"
	require.Contains(t, p.raw("POST /public/x"+body), "body=4")
	require.Contains(t, p.raw("POST /public/../x"+body), " 401 ")

	// It is open also while there are no keys: it needs none.
	i.down.Store(true)
	q := start(t, httpEnv(t, 0, "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", skipped)...)
	require.Equal(t, 200, q.get("/public/x").status)
	require.Equal(t, 503, q.get("/x", "Authorization: Bearer "+i.token(t, "*", time.Hour)).status)
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	const origin, method = "Origin: https://a.example", "\r\nAccess-Control-Request-Method: PUT"
	cases := []struct {
		request string // without "HTTP/1.1" and Host
		status  int
	}{
		{"OPTIONS /x\r\n" + origin + method, 200},
		{"OPTIONS /x?a=%20\r\norigin: null\r\naccess-control-request-method: GET\r\nAccess-Control-Request-Headers: authorization", 200},
		{"OPTIONS /x\r\n" + origin + method + "\r\nContent-Length: 0", 200},
		{"OPTIONS /x\r\n" + origin + method + "\r\nAuthorization: Bearer nonsense", 200},
		{"GET /x\r\n" + origin + method, 401},
		{"POST /x\r\n" + origin + method, 401},
		{"options /x\r\n" + origin + method, 401},
		{"OPTIONSX /x\r\n" + origin + method, 401},
		{"OPTIONS /x\r\n" + origin, 401},
		{"OPTIONS /x" + method, 401},
		{"OPTIONS /x", 401},
		{"OPTIONS /x\r\n" + origin + "\r\n" + origin + method, 401},
		{"OPTIONS /x\r\n" + origin + "\r\norigin: b" + method, 401},
		{"OPTIONS /x\r\n" + origin + method + method, 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nAccess_Control_Request_Method: GET", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nContent-Length: 1\r\n\r\nx", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nTransfer-Encoding: chunked\r\n\r\n0", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nTransfer_Encoding: chunked", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nConnection: Upgrade\r\nUpgrade: websocket", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nUpgrade: websocket", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nX-HTTP-Method-Override: DELETE", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nx_http_method: DELETE", 401},
		{"OPTIONS /x\r\n" + origin + method + "\r\nX-Method-Override: DELETE", 401},
	}
	for _, on := range []bool{true, false} {
		env := []string{"jwt_auth=true", "jwt_auth_authority=" + i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", fmt.Sprintf("jwt_auth_cors_preflight=%t", on)}
		for _, p := range []*program{start(t, httpEnv(t, 0, env...)...), startInproc(t, "fast", env...)} {
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
			for _, c := range cases {
				line, rest, _ := strings.Cut(c.request, "\r\n")
				want := c.status
				if !on {
					want = 401
				}
				status, answer := p.status(line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + strings.TrimSuffix(rest, "\r\n") + "\r\n\r\n")
				require.Equal(t, want, status, "%q: %q", c.request, answer)
			}
		}
	}
}
