package watchdog

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestForkModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := start(t, "mode="+mode, "content_type=text/x-test", "exec_timeout=20s", script(`
				case $Http_Path in
				/echo) cat;;
				/env) env;;
				/empty) ;;
				/ignore) echo done;;
				/fail) echo complaint >&2; exit 3;;
				/late) echo begun; exit 4;;
				esac`))

			r := p.do("POST", "/echo", "hello")
			require.Equal(t, 200, r.status)
			require.Equal(t, "hello", r.body)
			require.Equal(t, []string{"text/x-test"}, r.header["Content-Type"])
			require.Regexp(t, `^\d+\.\d{6}$`, r.header.Get("X-Duration-Seconds"))
			require.Empty(t, r.header.Get("X-OpenFaaS-Internal"))

			require.Equal(t, reply{status: 200, body: ""}, reply{status: p.get("/empty").status})
			require.Equal(t, 200, p.do("HEAD", "/echo", "").status)
			require.Equal(t, "done\n", p.do("POST", "/ignore", strings.Repeat("x", 200_000)).body)

			r = p.get("/fail")
			require.Equal(t, 500, r.status)
			require.Empty(t, r.header.Get("X-OpenFaaS-Internal"))
			require.Contains(t, r.body, "exit status 3")
			p.logged(`stderr: complaint\n`)
			p.logged(`GET /fail - 500 Internal Server Error - ContentLength: \d+B`)

			r = p.get("/late")
			if mode == "streaming" {
				require.Equal(t, 200, r.status)
				require.ErrorIs(t, r.err, io.ErrUnexpectedEOF) // visibly cut off
				p.logged(`GET /late - 200 OK - ContentLength: 6B \(\d\.\d{4}s\) - cut off: function failed: exit status 4\n`)
			} else {
				require.Equal(t, 500, r.status)
				require.NotContains(t, r.body, "begun")
			}

			env := p.do("POST", "/env?a=1&b=%20", "x", "X-Call-Id: 7", "X_Call_Id: evil", "Method: evil", "Proxy: evil").body
			for _, want := range []string{"Http_Method=POST", "Http_Path=/env", "Http_Query=a=1&b=%20", "Http_X_Call_Id=7",
				"Http_Content_Length=1", "content_type=text/x-test"} {
				require.Contains(t, "\n"+env, "\n"+want+"\n")
			}
			require.NotContains(t, env, "evil")
			require.NotContains(t, env, "Http_Transfer_Encoding")
			require.Contains(t, p.raw("POST /env HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
				"Http_Transfer_Encoding=chunked\n")
			require.Contains(t, p.raw("GET http://other/env?z HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"), "Http_Path=/env\n")
			require.Equal(t, 400, p.get("/%00").status)
		})
	}
}

// Bytes flow while the process runs, in both directions at once.
func TestStreamingIsFullDuplex(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat")
	r, w := io.Pipe()
	res := make(chan *http.Response, 1)
	go func() {
		resp, err := client.Do(p.request("POST", "/", r))
		if err == nil {
			res <- resp
		}
		close(res)
	}()
	io.WriteString(w, "one\n")
	resp := <-res
	require.NotNil(t, resp)
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for _, next := range []string{"two\n", "three\n", ""} {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.NotEmpty(t, line)
		io.WriteString(w, next)
	}
	w.Close()
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// 300 MB go through cat whole, and not through memory.
func TestStreamingLargeBody(t *testing.T) {
	t.Parallel()
	p := start(t, "fprocess=cat")
	size, human := int64(300_000_000), "300MB"
	if raceEnabled {
		size, human = 100_000_000, "100MB"
	}
	chunk := make([]byte, 1<<20)
	rand.Read(chunk)
	sent, received := sha256.New(), sha256.New()
	body := io.TeeReader(io.LimitReader(repeat(chunk), size), sent)
	res, err := client.Do(p.request("POST", "/", body))
	require.NoError(t, err)
	defer res.Body.Close()
	n, err := io.Copy(received, res.Body)
	require.NoError(t, err)
	require.Equal(t, size, n)
	require.Equal(t, sent.Sum(nil), received.Sum(nil))
	require.Less(t, p.peakMemory(), 90_000) // the race detector takes most of it
	p.logged(`POST / - 200 OK - ContentLength: ` + human + ` \(`)
}

// peakMemory returns the most memory that p ever had in use, in kB; 0 where
// that is not to be had.
func (p *program) peakMemory() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kB, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(p.t, err)
	return kB
}

type repeat []byte

func (r repeat) Read(p []byte) (int, error) { return copy(p, r), nil }

func TestExecTimeout(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := start(t, "mode="+mode, "exec_timeout=1s",
				script(`case $Http_Path in
				/grandchild) sleep 300 & echo $! > pid; wait;;
				/deaf) trap "" TERM; sleep 300 & echo $! > pid; wait;;
				/sleep) sleep 300;;
				/ok) echo ok;;
				esac`))
			for _, path := range []string{"/grandchild", "/deaf"} {
				began := time.Now()
				r := p.get(path)
				require.Equal(t, 504, r.status, path)
				require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
				require.Less(t, time.Since(began), 5*time.Second)
				b, err := os.ReadFile(filepath.Join(p.dir, "pid"))
				require.NoError(t, err)
				pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
				require.NoError(t, err)
				p.eventually(func() bool { return dead(pid) }, "grandchild's end")
			}
			require.Equal(t, "ok\n", p.get("/ok", "X-Timeout: 1h").body)
			for _, header := range []string{"1h", "0s", "-1s", "nonsense"} { // never longer
				require.Equal(t, 504, p.get("/sleep", "X-Timeout: "+header).status, header)
			}
		})
	}
	t.Run("X-Timeout shortens", func(t *testing.T) {
		t.Parallel()
		for _, limit := range []string{"1m", "0"} {
			p := start(t, "exec_timeout="+limit, "fprocess=sleep 300")
			require.Equal(t, 504, p.get("/", "x-timeout: 100ms").status)
		}
	})
}

// dead reports whether pid has ended: gone, or waiting for someone to notice.
func dead(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestClientGoneEndsTheProcess(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		for _, path := range []string{"/silent", "/talking"} {
			p := start(t, "mode="+mode, "exec_timeout=1m", script(`echo $$ > pid.new; mv pid.new pid
				case $Http_Path in
				/silent) exec sleep 300;;
				/talking) exec yes;;
				esac`))
			if mode == "serializing" && path == "/talking" {
				continue // would fill memory: that is the mode
			}
			ctx, cancel := context.WithCancel(context.Background())
			go client.Do(p.request("POST", path, strings.NewReader("x")).WithContext(ctx))
			var pid int
			p.eventually(func() bool {
				b, _ := os.ReadFile(filepath.Join(p.dir, "pid"))
				pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
				return pid != 0
			}, "function's start")
			require.False(t, dead(pid))
			cancel()
			p.eventually(func() bool { return dead(pid) }, "function's end")
		}
	}
}

// Half an upload is not given to the function as if it were whole.
func TestTruncatedUpload(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"streaming", "serializing"} {
		p := start(t, "mode="+mode, script(`cat > body; touch complete`))
		for _, framing := range []string{
			"Content-Length: 100000\r\n\r\n",
			"Transfer-Encoding: chunked\r\n\r\nffff\r\n", // in a chunk
			"Transfer-Encoding: chunked\r\n\r\n4e20\r\n", // and between two
		} {
			ending := ""
			if strings.Contains(framing, "4e20") {
				ending = "\r\n"
			}
			got := p.halfClosed("POST / HTTP/1.1\r\nHost: x\r\n" + framing + strings.Repeat("x", 20_000) + ending)
			require.NotContains(t, got, "200 OK")
		}
		p.logged(`(?s)(499: client closed the connection while it sent the body.*){3}`)
		require.Contains(t, p.raw("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\nno size\r\n"), " 400 Bad Request\r\n")
		require.NoFileExists(t, filepath.Join(p.dir, "complete"))
	}
}

// A client that sends a small body slowly has no longer than any call, and what
// comes after that is no request.
func TestSlowSmallBody(t *testing.T) {
	t.Parallel()
	for _, limits := range [][]string{
		{"exec_timeout=300ms", "read_timeout=1h"},
		{"exec_timeout=1h", "read_timeout=300ms"},
	} {
		p := start(t, append(limits, script(`touch called; cat`))...)
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
		require.NoError(t, err)
		want := " 504 Gateway Timeout\r\n"
		if limits[1] == "read_timeout=300ms" {
			want = " 400 Bad Request\r\n"
		}
		got, _ := io.ReadAll(conn)
		require.Contains(t, string(got), want)
		_, err = io.WriteString(conn, strings.Repeat("x", 97)+"GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n")
		if err == nil {
			more, _ := io.ReadAll(conn)
			require.Empty(t, string(more))
		}
		require.NoFileExists(t, filepath.Join(p.dir, "called"))
	}
}

func TestMaxInflight(t *testing.T) {
	t.Parallel()
	p := start(t, "max_inflight=1", "fprocess=cat")
	for range 20 { // a slot is free by the time its answer has arrived
		require.Equal(t, 200, p.do("POST", "/", "x").status)
	}
	r, w := io.Pipe()
	go io.WriteString(w, "x")
	res, err := client.Do(p.request("POST", "/", r))
	require.NoError(t, err)
	_, err = io.ReadFull(res.Body, make([]byte, 1))
	require.NoError(t, err)

	// The response has begun, so its handler has returned: the slot stays.
	over := p.get("/")
	require.Equal(t, 429, over.status)
	require.Equal(t, "Concurrent request limit exceeded. Max concurrent requests: 1\n", over.body)
	require.Equal(t, "text/plain", over.header.Get("Content-Type"))
	require.Equal(t, "faas-middleware", over.header.Get("X-Openfaas-Internal"))
	require.Equal(t, "1", over.header.Get("Retry-After"))
	require.Equal(t, 429, p.get("/_/ready").status)
	require.Equal(t, 200, p.get("/_/health").status)

	w.Close()
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "a free slot")
	require.Equal(t, 200, p.get("/").status)
}

// TestSerializingBodyLimit: a body without an end must not fill the memory.
func TestSerializingBodyLimit(t *testing.T) {
	t.Parallel()
	p := start(t, "mode=serializing", "fprocess=cat")
	res, err := client.Do(p.request("POST", "/", io.LimitReader(zeros{}, 80<<20)))
	if err == nil { // else the connection was closed on us while sending
		res.Body.Close()
		require.Equal(t, 413, res.StatusCode)
	}
	p.logged("POST / - 413 Request Entity Too Large")
	require.Equal(t, "small", p.do("POST", "/", "small").body)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
