package watchdog

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// site makes a folder to serve, beside a file that must not be reachable.
func site(t *testing.T) string {
	dir := t.TempDir()
	root := filepath.Join(dir, "public")
	for name, content := range map[string]string{
		"../secret.txt": "geheim", "index.html": "<h1>home</h1>", "style.css": "a{}", "sub/index.html": "sub",
		"list/a b.txt": "spaces", ".dot": "dotfile", "big.bin": strings.Repeat("0123456789", 100_000), `back\slash`: "literal",
	} {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	require.NoError(t, os.Symlink("../secret.txt", filepath.Join(root, "escape.txt")))
	require.NoError(t, os.Symlink(dir, filepath.Join(root, "up")))
	require.NoError(t, os.Symlink("style.css", filepath.Join(root, "inside.css")))
	return root
}

// Whatever net/http's file server says, so does static mode.
func TestStaticMode(t *testing.T) {
	t.Parallel()
	root := site(t)
	p := start(t, "mode=static", "static_path="+root)
	reference := httptest.NewServer(http.FileServer(http.Dir(root)))
	defer reference.Close()
	original := *p
	original.url = reference.URL

	modified := p.get("/style.css").header.Get("Last-Modified")
	require.NotEmpty(t, modified)
	for _, c := range []struct {
		method, target string
		header         string
		status         int
	}{
		{"GET", "/", "", 200},
		{"GET", "/index.html", "", 301},
		{"GET", "/style.css", "", 200},
		{"HEAD", "/style.css", "", 200},
		{"POST", "/style.css", "", 200},
		{"GET", "/style.css", "If-Modified-Since: " + modified, 304},
		{"GET", "/style.css", "If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT", 412},
		{"GET", "/big.bin", "Range: bytes=10-19", 206},
		{"GET", "/big.bin", "Range: bytes=-5", 206},
		{"GET", "/big.bin", "Range: bytes=9999999-", 416},
		{"GET", "/big.bin", "", 200},
		{"HEAD", "/big.bin", "", 200},
		{"GET", "/sub", "", 301},
		{"GET", "/sub/", "", 200},
		{"GET", "/sub?q=1", "", 301},
		{"GET", "/list/", "", 200}, // a listing, as upstream
		{"GET", "/list/a%20b.txt", "", 200},
		{"GET", "/.dot", "", 200},
		{"GET", "/inside.css", "", 200},
		{"GET", "/back%5Cslash", "", 200},
		{"GET", "/style.css/x", "", 404},
		{"GET", "/missing", "", 404},
		{"GET", "//sub", "", 301},
		{"GET", "/sub/../style.css", "", 200},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		name := c.method + " " + c.target + " " + c.header
		got, want := p.do(c.method, c.target, "", headers...), original.do(c.method, c.target, "", headers...)
		require.Equal(t, c.status, got.status, name)
		require.Equal(t, want.status, got.status, name)
		require.Equal(t, want.body, got.body, name)
		require.NoError(t, got.err, name)
		for field := range want.header {
			if field != "Date" {
				require.Equal(t, want.header[field], got.header[field], "%s: %s", name, field)
			}
		}
	}
	for _, target := range []string{
		"/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/sub/..%2f..%2fsecret.txt", "/..%5csecret.txt",
		`/..\secret.txt`, "/escape.txt", "/up/secret.txt", "/up/", "/%00", "/style.css%00.html", "/" + strings.Repeat("x", 5000),
		"/....//secret.txt", "/.%2e/secret.txt",
	} {
		answer := p.raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		require.NotContains(t, answer, "geheim", target)
		require.Regexp(t, `^HTTP/1.1 (404|301|400) `, answer, target)
	}
	p.logged(`GET /style.css - 200 OK - ContentLength: 3B \(`)
	require.Equal(t, 200, p.get("/_/ready").status)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())

	missing := launch(t, "mode=static", "static_path="+root+"/nowhere")
	require.Equal(t, 1, missing.exit())
	require.Contains(t, missing.stderr.String(), "static_path: want a folder to serve: open "+root+"/nowhere: no such file or directory")
	require.Equal(t, 1, launch(t, "mode=static", "static_path="+root+"/style.css").exit())
}

// A large file goes to many clients, one of which leaves.
func TestStaticClientGone(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "huge"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<30))
	f.Close()
	p := start(t, "mode=static", "static_path="+root)
	res, err := client.Do(p.request("GET", "/huge", nil))
	require.NoError(t, err)
	res.Body.Close()
	p.logged(`GET /huge - 200 OK - ContentLength: \S+ \(\d+\.\d{4}s\) - cut off: client closed the connection\n`)
}
