package watchdog

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
)

// inprocVariable makes the test binary a function in Go: "http" or "fast".
const inprocVariable = "WATCHDOG_TEST_INPROC"

func inprocFunction(kind string) {
	var err error
	if kind == "http" {
		err = Serve(inprocHandler())
	} else {
		err = ServeFast(inprocFastHandler)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "function:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "function: clean end")
}

func inprocHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/request", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %s remote=%s\n", r.Method, r.RequestURI, r.Host, r.Header.Get("x-test"), r.RemoteAddr)
		r.Header.Write(w)
	})
	mux.HandleFunc("/headers", printHeaders)
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) {
		fmt.Fprintln(os.Stderr, "panicking")
		panic("out of\ncheese")
	})
	mux.HandleFunc("/panic-late", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		panic("late")
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		fmt.Fprintln(os.Stderr, "events over:", r.Context().Err())
	})
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "waiting")
		<-r.Context().Done()
		fmt.Fprintln(os.Stderr, "wait over:", r.Context().Err())
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "slow call began")
		time.Sleep(300 * time.Millisecond)
		io.WriteString(w, "finished")
	})
	mux.HandleFunc("/early-hints", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("/panic-last", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "whole")
		panic("last")
	})
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")
		<-r.Context().Done() // and keeps the connection
		conn.Close()
	})
	mux.HandleFunc("/trailer", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, strings.ToUpper(line))
	})
	return mux
}

// release ends /wait, which is over only after its client has its answer.
var release = make(chan struct{})

func inprocFastHandler(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case "/hello":
		ctx.SetBodyString("hello")
	case "/echo":
		ctx.SetBody(ctx.PostBody())
	case "/request":
		fmt.Fprintf(ctx, "%s %s %s", ctx.Method(), ctx.RequestURI(), ctx.Request.Header.Peek("X-Test"))
	case "/headers":
		body := ctx.PostBody()
		fmt.Fprintf(ctx, "%s %s\n", ctx.Method(), ctx.RequestURI())
		for name, value := range ctx.Request.Header.All() {
			fmt.Fprintf(ctx, "%s: %s\n", name, value)
		}
		for name, value := range ctx.Request.Header.AllInOrder() {
			fmt.Fprintf(ctx, "in order: %s: %s\n", name, value)
		}
		fmt.Fprintf(ctx, "trailers: %s\nbody: %s\n", ctx.Request.Header.TrailerHeader(), body)
	case "/ready":
		fmt.Fprintf(ctx, "ready?%s", ctx.QueryArgs())
	case "/overdue":
		time.Sleep(1500 * time.Millisecond)
		ctx.SetBodyString("too late")
	case "/panic":
		ctx.SetBodyString("half of an answer")
		panic("out of cheese")
	case "/wait":
		<-release
		ctx.SetBodyString("too late")
		fmt.Fprintln(os.Stderr, "wait over")
	case "/release":
		close(release)
	case "/wait-for-body":
		_, err := io.Copy(io.Discard, ctx.RequestBodyStream())
		fmt.Fprintln(os.Stderr, "body:", err)
	}
}

func startInproc(t *testing.T, kind string, env ...string) *program {
	p := launchProgram(t, os.Args[0], append([]string{inprocVariable + "=" + kind}, env...)...)
	p.awaitServing()
	return p
}

// Both kinds of handlers get what stands before every function.
func TestInproc(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"http", "fast"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := startInproc(t, kind, "max_inflight=8", "exec_timeout=1s")
			r := p.get("/hello")
			require.Equal(t, 200, r.status)
			require.Equal(t, "hello", r.body)
			require.Equal(t, "text/plain; charset=utf-8", r.header.Get("Content-Type"))
			require.Regexp(t, `^\d+\.\d{6}$`, r.header.Get("X-Duration-Seconds"))
			p.logged(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d GET /hello - 200 OK - ContentLength: 5B \(\d+\.\d{4}s\)$`)
			require.Equal(t, "OK", p.get("/_/health").body)
			require.Equal(t, 200, p.get("/_/ready").status)
			require.Contains(t, p.get("/request?a=%20", "x-test: odd name").body, "GET /request?a=%20 ")
			require.Contains(t, p.get("/request", "x-test: odd name").body, "odd name")
			require.Equal(t, "data", p.do("POST", "/echo", "data").body)
			require.Equal(t, 200, p.do("HEAD", "/hello", "").status)

			for range 2 { // the function lives on
				r = p.get("/panic")
				require.Equal(t, 500, r.status)
				require.Empty(t, r.header.Get("X-Openfaas-Internal"))
				require.Contains(t, r.body, "function failed: its handler panicked")
				require.NotContains(t, r.body, "half")
			}
			p.logged(`The handler panicked: "out of`)
			p.logged(`GET /panic - 500 Internal Server Error`)

			r = p.get("/wait")
			require.Equal(t, 504, r.status)
			require.Equal(t, "of-watchdog", r.header.Get("X-Openfaas-Internal"))
			require.NotEmpty(t, r.header.Get("X-Duration-Seconds"))
			p.get("/release")
			p.logged(`wait over`)
			p.logged(`GET /wait - 504 Gateway Timeout`)

			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			require.Equal(t, 0, p.exit())
			require.Contains(t, p.stderr.String(), "function: clean end")
		})
	}
}

func TestInprocRefusesOtherModes(t *testing.T) {
	t.Parallel()
	p := launchProgram(t, os.Args[0], inprocVariable+"=http", "mode=streaming", "fprocess=cat")
	require.Equal(t, 1, p.exit())
	require.Contains(t, p.stderr.String(), `mode "streaming": want inproc, since this program is the function`)
	p = launch(t, "mode=inproc")
	require.Equal(t, 1, p.exit())
	require.Contains(t, p.stderr.String(), `mode "inproc" is for Go programs that import package watchdog`)

	h := inprocHandler()
	for _, c := range []Config{
		{}, {Handler: h, FastHandler: inprocFastHandler},
	} {
		c.Settings.Mode = config.InProc
		_, err := New(c)
		require.ErrorContains(t, err, "needs one Handler or FastHandler")
	}
}

// Flushed events arrive, and the handler learns that its client has left.
func TestInprocStreams(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "http")
	res, err := client.Do(p.request("GET", "/events", nil))
	require.NoError(t, err)
	_, err = io.ReadFull(res.Body, make([]byte, len("data: 0\n\n")*3))
	require.NoError(t, err)
	res.Body.Close()
	p.logged(`events over: context canceled`)
	p.logged(`GET /events - 200 OK - .* - cut off: client closed the connection`)

	ctx, cancel := context.WithCancel(context.Background())
	go client.Do(p.request("GET", "/wait", nil).WithContext(ctx))
	p.logged(`waiting`)
	cancel()
	p.logged(`wait over: context canceled`)
	p.logged(`GET /wait - 499 Client Closed Request`)

	for range 3 { // never asked twice, on a connection that is used again
		require.Equal(t, 500, p.get("/panic").status)
	}
	p.logged(`(?s)(panicking\n.*){3}`)
	r := p.get("/panic-late")
	require.Equal(t, 3, strings.Count(p.stderr.String(), "panicking\n"))
	require.Equal(t, 200, r.status)
	require.Error(t, r.err)
	require.NotContains(t, p.stderr.String(), "superfluous")

	res, err = client.Do(p.request("GET", "/trailer", nil))
	require.NoError(t, err)
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	require.Equal(t, "42", res.Trailer.Get("X-Sum"))

	body := p.get("/request", "x-test: 1").body
	require.Regexp(t, `remote=127\.0\.0\.1:\d+\n`, body)
	require.NotContains(t, body, "X-Remote-")

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	in := bufio.NewReader(conn)
	upgraded, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, 101, upgraded.StatusCode)
	io.WriteString(conn, "hello\n")
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HELLO\n", line)
}

// A large body goes through both ways at once, and not through memory.
func TestInprocLargeBody(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "http")
	size := int64(100_000_000)
	if raceEnabled {
		size = 20_000_000
	}
	chunk := make([]byte, 1<<20)
	rand.Read(chunk)
	sent, received := sha256.New(), sha256.New()
	res, err := client.Do(p.request("POST", "/echo", io.TeeReader(io.LimitReader(repeat(chunk), size), sent)))
	require.NoError(t, err)
	defer res.Body.Close()
	n, err := io.Copy(received, res.Body)
	require.NoError(t, err)
	require.Equal(t, size, n)
	require.Equal(t, sent.Sum(nil), received.Sum(nil))
	require.Less(t, p.peakMemory(), 90_000) // the race detector takes most of it
}

// What is under way when the end comes is finished first.
func TestInprocShutdown(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "http")
	got := make(chan reply, 1)
	go func() { got <- p.get("/slow") }()
	p.logged(`slow call began`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.Equal(t, "finished", (<-got).body)

	p = startInproc(t, "http", "write_timeout=300ms", "exec_timeout=0")
	go client.Do(p.request("GET", "/wait", nil))
	p.logged(`waiting`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	require.Contains(t, p.stderr.String(), "wait over: context canceled")
}

// Who answers late has no body to go on with, and its client an answer.
func TestFastHandlerTimeoutInTheBody(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "fast", "exec_timeout=500ms")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "POST /wait-for-body HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 20_000))
	b, err := io.ReadAll(conn)
	require.True(t, err == nil || errors.Is(err, syscall.ECONNRESET), "%v", err)
	require.True(t, strings.HasPrefix(string(b), "HTTP/1.1 504 Gateway Timeout\r\n"), "%s", b)
	require.Equal(t, 1, strings.Count(string(b), "HTTP/1.1"))
	p.logged(`body: .*timeout`)
	require.Equal(t, 200, p.get("/hello").status)
}

// Net/http answers in the midst of a request, and a pipe holds nothing of what is
// still being written: both sides would wait for each other.
func TestInprocAnswersWithinRequest(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "http", "exec_timeout=0")
	got := p.raw("GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: " + strings.Repeat("x", 20<<10) + "\r\n\r\n")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 400 "), got)
	r := p.do("POST", "/early-hints", strings.Repeat("x", 8<<10))
	require.Equal(t, "200 8192", fmt.Sprint(r.status, " ", r.body))
}

// Ready_path reaches a fasthttp handler as it would any other function, and
// nothing of a caller's who needs no token for it.
func TestInprocReadyPath(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "fast", "ready_path=/ready")
	require.Equal(t, "ready?", p.get("/_/ready?from=caller").body)
}

// An answer of 504 does not overtake the answers that a pipelining client still
// waits for.
func TestInprocTimeoutPipelined(t *testing.T) {
	t.Parallel()
	p := startInproc(t, "fast", "exec_timeout=500ms")
	const get = "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
	got := p.raw(fmt.Sprintf(get+get, "/hello", "/overdue"))
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n"), got)
	_, second, _ := strings.Cut(got, "hello")
	require.True(t, strings.HasPrefix(second, "HTTP/1.1 504 Gateway Timeout\r\n"), got)
	require.Equal(t, 1, strings.Count(second, "\r\nDate: "), got)
	require.NotContains(t, got, "too late")
}

// A connection in memory that its handler has ended or keeps to itself is not the
// next call's.
func TestInprocSpentConnection(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/panic-last", "/hijack"} {
		p := startInproc(t, "http", "exec_timeout=5s")
		require.Equal(t, "whole", p.get(path).body, path)
		body := strings.Repeat("x", 20<<10) // too much to be sent twice
		r := p.do("POST", "/echo", body)
		require.Equal(t, 200, r.status, path)
		require.Equal(t, body, r.body, path)
	}
}
