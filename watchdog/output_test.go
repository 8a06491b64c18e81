package watchdog

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCGIHeaders(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := start(t, "mode="+mode, "cgi_headers=true", "content_type=text/x-test", script(`
				case $Http_Path in
				/status) printf "Status: 404 No Such Cat\r\nContent-Type: a/b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-OpenFaaS-Internal: x\r\nx-duration-seconds: x\r\nContent-Length: 1\r\n\r\nno cat";;
				/redirect) printf "Location: /elsewhere\n\n";;
				/none) printf "\nbody";;
				/empty) printf "Status: 204\n\nnot to be seen";;
				/headonly) printf "Status: 503\nRetry-After: 1\n\n";;
				/bad) echo no header at all;;
				/big) printf "X-A: "; head -c 70000 /dev/zero | tr "\\0" x; printf "\n\nx";;
				/fail) printf "Status: 200\n"; exit 3;;
				/failbody) printf "Status: 204\n\n"; exit 3;;
				/event) printf "Content-Type: text/event-stream\n\n"; read x; echo $x;;
				esac`))
			r := p.get("/status")
			require.Equal(t, 404, r.status)
			require.Equal(t, "no cat", r.body)
			require.Equal(t, []string{"a/b"}, r.header["Content-Type"])
			require.Equal(t, []string{"a=1", "b=2"}, r.header["Set-Cookie"])
			require.Len(t, r.header.Values("X-Duration-Seconds"), 1)
			require.Regexp(t, `^\d+\.\d{6}$`, r.header.Get("X-Duration-Seconds"))
			require.Empty(t, r.header.Values("X-Openfaas-Internal"))
			require.Contains(t, p.raw("GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "HTTP/1.1 404 No Such Cat\r\n")
			p.logged(`GET /status - 404 Not Found - ContentLength: 6B`)

			r = p.do("HEAD", "/status", "")
			require.Equal(t, 404, r.status)
			require.Equal(t, []string{"a=1", "b=2"}, r.header["Set-Cookie"])

			r = p.get("/redirect")
			require.Equal(t, 302, r.status)
			require.Equal(t, "/elsewhere", r.header.Get("Location"))
			require.Equal(t, "text/x-test", r.header.Get("Content-Type"))

			r = p.get("/none")
			require.Equal(t, 200, r.status)
			require.Equal(t, "body", r.body)
			r = p.get("/empty")
			require.Equal(t, 204, r.status)
			require.Empty(t, r.body)
			require.Equal(t, 503, p.get("/headonly").status)

			for path, want := range map[string]string{
				"/bad": "function failed: bad CGI header: line 1 has no colon\n",
				"/big": "function failed: bad CGI header: it exceeds 65536 bytes\n",
			} {
				r = p.get(path)
				require.Equal(t, 502, r.status, path)
				require.Equal(t, want, r.body)
				require.Empty(t, r.header.Get("X-OpenFaaS-Internal"))
			}
			for _, path := range []string{"/fail", "/failbody"} {
				r = p.get(path)
				require.Equal(t, 500, r.status, path)
				require.Contains(t, r.body, "exit status 3")
			}
			if mode == "serializing" {
				return
			}

			// The header is there before the first byte of the body.
			in, w := io.Pipe()
			res, err := client.Do(p.request("POST", "/event", in))
			require.NoError(t, err)
			defer res.Body.Close()
			require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
			io.WriteString(w, "ping\n")
			w.Close()
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, "ping\n", string(b))
		})
	}
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		p := start(t, script(`printf "Status: 404\n\nx"`))
		r := p.get("/")
		require.Equal(t, 200, r.status)
		require.Equal(t, "Status: 404\n\nx", r.body)
	})
}

// HTTP/1.0 knows no chunks.
func TestStreamingToHTTP10(t *testing.T) {
	t.Parallel()
	p := start(t, "max_inflight=1", "content_type=a/b", script(`
		case $Http_Path in
		/late) echo begun; sleep 0.1; exit 3;;
		/slow) echo begun; exec sleep 300;;
		*) echo $Http_Path; cat;;
		esac`))
	require.Regexp(t, `^HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n(Date: [^\r]+\r\n|X-Duration-Seconds: [\d.]+\r\n){2}Connection: close\r\n\r\n/x\nabc$`,
		p.raw("POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"))
	p.logged(`POST /x - 200 OK - ContentLength: 6B`)

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	io.WriteString(conn, "GET /late HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(conn)
	require.Error(t, err, "%q", b) // reset: not the end of a whole response
	p.logged(`GET /late - 200 OK - ContentLength: 6B .* - cut off: function failed: exit status 3`)

	conn, err = net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	io.WriteString(conn, "GET /slow HTTP/1.0\r\n\r\n")
	_, err = bufio.NewReader(conn).ReadString('b')
	require.NoError(t, err)
	require.Equal(t, 429, p.get("/x").status)
	conn.Close()
	p.logged(`GET /slow - 200 OK - ContentLength: 6B .* - cut off: client closed the connection`)
	p.eventually(func() bool { return p.get("/x").status == 200 }, "a free slot")
}

// An answer that comes while the client still sends arrives, and the client may
// finish its sentence: a reset could destroy the answer on its way.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=echo done")
	for _, framing := range []string{"Content-Length: 200000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n30d40\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+framing+strings.Repeat("x", 20_000))
		answer := bufio.NewReader(conn)
		res, err := http.ReadResponse(answer, nil)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "done\n", string(b))
		for range 18 {
			_, err = io.WriteString(conn, strings.Repeat("x", 10_000))
			require.NoError(t, err)
		}
		_, err = answer.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	}
}

func TestCombineOutput(t *testing.T) {
	t.Parallel()
	const both = `fprocess=sh -c 'echo one; echo two >&2; echo three'`
	for _, mode := range []string{"streaming", "serializing"} {
		p := start(t, "mode="+mode, "combine_output=true", both)
		require.Equal(t, "one\ntwo\nthree\n", p.get("/").body)
		require.NotContains(t, p.stderr.String(), "stderr: two")

		p = start(t, "mode="+mode, both)
		require.Equal(t, "one\nthree\n", p.get("/").body)
		p.logged("stderr: two\n")
	}
}

func TestDebugBodies(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		p := start(t, "mode="+mode, "read_debug=true", "write_debug=true", "cgi_headers=true", script(`
			printf "Set-Cookie: $Http_Authorization\n\n"; cat`))
		r := p.do("POST", "/", "in\nstderr: forged", "Authorization: Bearer hidden-token")
		require.Equal(t, "in\nstderr: forged", r.body)
		require.Equal(t, "Bearer hidden-token", r.header.Get("Set-Cookie"))
		p.logged(`Request body: 17 bytes, "in\\nstderr: forged"\n`)
		p.logged(`Response body: 17 bytes, "in\\nstderr: forged"\n`)

		p.do("POST", "/", strings.Repeat("x", 4096)+strings.Repeat("y", 100_000))
		p.logged(`Request body: 104096 bytes, "` + strings.Repeat("x", 4096) + `" and 100000 more\n`)
		p.logged(`Response body: 104096 bytes, "` + strings.Repeat("x", 4096) + `" and 100000 more\n`)
		require.NotContains(t, p.stderr.String(), "hidden")
		require.NotContains(t, p.stderr.String(), "yy")

		p = start(t, "mode="+mode, "fprocess=cat")
		require.Equal(t, "quiet", p.do("POST", "/", "quiet").body)
		p.logged(`POST / - 200`)
		require.NotContains(t, p.stderr.String(), "quiet")
	}
}

func TestRepeatedHeaders(t *testing.T) {
	t.Parallel()
	p := start(t, "mode=serializing", "fprocess=env")
	env := p.get("/", "X-A: 1", "X-A: 2", "x-a: 3", "Cookie: a=1", "cookie: b=2").body
	require.Regexp(t, `(?m)^Http_X_A=(1, 2, 3|3, 1, 2)$`, env) // the client sorts names
	require.Regexp(t, `(?m)^Http_Cookie=(a=1; b=2|b=2; a=1)$`, env)
}

// Secrets such as PEM keys have many lines.
func TestEnvironmentWithNewlines(t *testing.T) {
	t.Parallel()
	const secret = "-----BEGIN KEY-----\n'\"$x\\\n\n-----END KEY-----\n"
	for _, mode := range []string{"streaming", "serializing"} {
		p := start(t, "mode="+mode, "SECRET="+secret, `fprocess=printenv SECRET`)
		require.Equal(t, secret+"\n", p.get("/").body)
	}
	p := start(t, httpEnv(t, 0, "SECRET="+secret)...)
	require.Equal(t, secret, p.get("/env?SECRET").body)
}

func TestProcessQuoting(t *testing.T) {
	t.Parallel()
	p := start(t, "mode=serializing", `fprocess=printf "%s|" 'a  b' "c\"d" e\ f "" 'it''s' "$HOME;"`)
	require.Equal(t, `a  b|c"d|e f||its|$HOME;|`, p.get("/").body)
}

// What runs on after a call, nobody counts or limits; so it does not. Who
// leaves the group in time is let go.
func TestLeftoversAreKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("setsid is Linux'")
	}
	for _, mode := range []string{"streaming", "serializing"} {
		p := start(t, "mode="+mode, script(`
			sleep 300 >/dev/null 2>&1 & left=$!
			setsid sleep 300 >/dev/null 2>&1 & echo $left $!`))
		var left, free int
		_, err := fmt.Sscan(p.get("/").body, &left, &free)
		require.NoError(t, err)
		p.eventually(func() bool { return dead(left) }, "the group's end")
		require.False(t, dead(free))
		daemon, err := os.FindProcess(free)
		require.NoError(t, err)
		require.NoError(t, daemon.Kill())
	}
}

// A client that leaves ends the process and its children, gives its slot back
// and is named in the log.
func TestClientGoneFreesAll(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		for _, body := range []string{"none", "whole", "half"} {
			if mode == "serializing" && body == "half" {
				continue // nothing runs before the body is there: see TestTruncatedUpload
			}
			t.Run(mode+" "+body, func(t *testing.T) {
				t.Parallel()
				p := start(t, "mode="+mode, "exec_timeout=1m", "max_inflight=1", script(`
					test $Http_Path = /ok && exit; sleep 300 & echo $$ $! > pid.new; mv pid.new pid; wait`))
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var in io.Reader = http.NoBody
				switch body {
				case "whole":
					in = strings.NewReader("x")
				case "half":
					r, w := io.Pipe()
					go io.WriteString(w, "x")
					in = r
				}
				go client.Do(p.request("POST", "/", in).WithContext(ctx))
				var parent, child int
				p.eventually(func() bool {
					b, _ := os.ReadFile(filepath.Join(p.dir, "pid"))
					n, _ := fmt.Sscan(string(b), &parent, &child)
					return n == 2
				}, "function's start")
				require.Equal(t, 429, p.get("/ok").status)
				cancel()
				p.eventually(func() bool { return dead(parent) && dead(child) }, "the group's end")
				p.eventually(func() bool { return p.get("/ok").status == 200 }, "a free slot")
				p.logged(`Call failed with 499: client closed the connection`)
				p.logged(`POST / - 499 `)
				require.NotContains(t, p.stderr.String(), " 504")
				require.NotContains(t, p.stderr.String(), " 400")
			})
		}
	}
	t.Run("in the midst of a response", func(t *testing.T) {
		t.Parallel()
		p := start(t, "max_inflight=1", script(`test $Http_Path = /ok && exit; echo begun; exec sleep 300`))
		res, err := client.Do(p.request("GET", "/", nil))
		require.NoError(t, err)
		res.Body.Close()
		p.logged(`GET / - 200 OK - ContentLength: 6B .* - cut off: client closed the connection\n`)
		p.eventually(func() bool { return p.get("/ok").status == 200 }, "a free slot")
	})
}

// 2 GiB go up and down through cat, at the same time and not through memory.
func TestStreamingTwoGiB(t *testing.T) {
	if os.Getenv("GATEHOUND_LONG_TESTS") == "" || raceEnabled {
		t.Skip("takes 10 seconds; GATEHOUND_LONG_TESTS=1 runs it, without the race detector")
	}
	const mebibytes = 2 << 10
	p := start(t, "fprocess=cat", "exec_timeout=5m")
	chunk := make([]byte, 1<<20)
	rand.Read(chunk)
	readers := make([]io.Reader, mebibytes)
	for i := range readers {
		readers[i] = bytes.NewReader(chunk)
	}
	body := io.MultiReader(readers...)
	req, err := http.NewRequest("POST", p.url, body)
	require.NoError(t, err)
	began := time.Now()
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	// Each whole MiB is the one that was sent; hashing all would take longer
	// than sending it.
	back, buf := bufio.NewReaderSize(res.Body, 1<<20), make([]byte, len(chunk))
	for n := range mebibytes {
		_, err := io.ReadFull(back, buf)
		require.NoError(t, err, "after %d MiB", n)
		require.True(t, bytes.Equal(chunk, buf), "after %d MiB", n)
	}
	_, err = back.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	t.Logf("2 GiB up and down in %s", time.Since(began))
	if kB := p.peakMemory(); kB > 0 {
		t.Logf("peak RSS %d kB", kB)
		require.Less(t, kB, 64<<10)
	}
}
