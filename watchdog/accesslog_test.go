package watchdog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// logEntry is an access line of log_format=json.
type logEntry struct {
	Time, Method, Target, Outcome string
	Status                        int
	Bytes                         int64
	Seconds                       float64
	CallID                        string `json:"call_id"`
	CutOff                        string `json:"cut_off"`
}

// entry waits for the access line of target.
func (p *program) entry(target string) (e logEntry) {
	p.t.Helper()
	p.eventually(func() bool {
		for line := range strings.Lines(p.stderr.String()) {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, fmt.Sprintf(`"target":%q`, target)) {
				require.NoError(p.t, json.Unmarshal([]byte(line), &e), line)
				return true
			}
		}
		return false
	}, "the access line of "+target)
	return e
}

func TestJSONLog(t *testing.T) {
	t.Parallel()
	p := launch(t, "log_format=json", "log_call_id=true", "fprocess=cat")
	p.logged(`^\{"time":"[^"]+","message":"Serving mode streaming on `)
	p.url = "http://" + regexp.MustCompile(`Serving mode \w+ on (\S+),`).FindStringSubmatch(p.stderr.String())[1]
	p.do("POST", "/a?token=geheim&x=1", "12345", "X-Call-Id: c1")
	e := p.entry(`/a?token=[hidden]&x=1`)
	require.Equal(t, logEntry{Time: e.Time, Method: "POST", Target: `/a?token=[hidden]&x=1`, Outcome: "answered", Status: 200, Bytes: 5, Seconds: e.Seconds, CallID: "c1"}, e)
	_, err := time.Parse(time.RFC3339, e.Time)
	require.NoError(t, err)
	require.Positive(t, e.Seconds)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 0, p.exit())
	for line := range strings.Lines(p.stderr.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

// Who ended a request is never told as another's doing.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"http", "streaming", "serializing"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			env := []string{"mode=" + mode, script(`case $Http_Path in
				/silent*) echo began >&2; exec sleep 300;;
				/begun*) echo begun; echo began >&2; exec sleep 300;;
				/own504) exit 4;;
				/flood) exec yes;;
				/upload) cat >/dev/null; exec sleep 300;;
				esac`)}
			with := func(more ...string) *program {
				if mode == "http" {
					env = httpEnv(t, 0)
				}
				p := start(t, append(append([]string{"log_format=json", "exec_timeout=20s"}, more...), env...)...)
				p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
				return p
			}
			began := func(p *program, n int) {
				p.eventually(func() bool { return strings.Count(p.stderr.String(), "stderr: began") >= n }, "the function's begin")
			}
			// leave asks and goes away once the function works on it, or has
			// begun to answer.
			calls := 0
			leave := func(p *program, target string, answers bool) logEntry {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				calls++
				if answers {
					res, err := client.Do(p.request("GET", target, nil).WithContext(ctx))
					require.NoError(t, err)
					io.ReadFull(res.Body, make([]byte, 1))
				} else {
					go client.Do(p.request("GET", target, nil).WithContext(ctx))
					began(p, calls)
				}
				cancel()
				return p.entry(target)
			}

			p := with()
			e := leave(p, "/silent", false)
			require.Equal(t, []any{499, "client closed"}, []any{e.Status, e.Outcome})
			if mode != "serializing" {
				e = leave(p, "/begun", true)
				require.Equal(t, []any{200, "client closed", "client closed the connection"}, []any{e.Status, e.Outcome, e.CutOff})
			}
			p.halfClosed("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 20_000))
			e = p.entry("/upload")
			require.Equal(t, []any{499, "client closed"}, []any{e.Status, e.Outcome})

			p = with("exec_timeout=1s", "max_inflight=1")
			calls = 0
			require.Equal(t, 504, p.get("/silent").status)
			e = p.entry("/silent")
			require.Equal(t, []any{504, "timed out"}, []any{e.Status, e.Outcome})
			if mode != "serializing" {
				r := p.get("/begun")
				require.Error(t, r.err)
				e = p.entry("/begun")
				require.Equal(t, []any{200, "timed out"}, []any{e.Status, e.Outcome})
				require.NotEmpty(t, e.CutOff)
			}
			if mode == "http" {
				p.get("/own504")
				e = p.entry("/own504")
				require.Equal(t, []any{504, "answered"}, []any{e.Status, e.Outcome})
			}

			p = with("max_inflight=1", "write_timeout=300ms")
			go client.Do(p.request("GET", "/silent", nil))
			began(p, 1)
			require.Equal(t, 429, p.get("/over").status)
			e = p.entry("/over")
			require.Equal(t, []any{429, "refused"}, []any{e.Status, e.Outcome})
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			e = p.entry("/silent") // in flight at the end
			require.NotContains(t, []string{"client closed", "answered", "timed out", "refused"}, e.Outcome)
			require.Zero(t, p.exit())

			p = with("jwt_auth=true", "OPENFAAS_NAME=f", "OPENFAAS_NAMESPACE=n", "jwt_auth_authority="+newIssuer(t).URL)
			require.Equal(t, 401, p.get("/protected").status)
			e = p.entry("/protected")
			require.Equal(t, []any{401, "refused"}, []any{e.Status, e.Outcome})

			if mode != "serializing" {
				p = with("write_timeout=200ms")
				conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
				require.NoError(t, err)
				defer conn.Close()
				io.WriteString(conn, "GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
				e = p.entry("/flood")
				require.Equal(t, []any{200, "client stalled", "client stopped reading for 200ms"}, []any{e.Status, e.Outcome, e.CutOff})
			}
		})
	}
}

// A response that is cut off has one line, which says why.
func TestCutOffIsLoggedOnce(t *testing.T) {
	t.Parallel()
	p := start(t, script(`echo begun; exit 4`), "log_call_id=1")
	p.get("/late")
	p.logged(`(?m)^\S+ \S+ GET /late - 200 OK - ContentLength: 6B \(\d\.\d{4}s\) \[none\] - cut off: function failed: exit status 4$`)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.exit()
	require.Equal(t, 1, strings.Count(p.stderr.String(), "exit status 4"), p.stderr)
	require.NotContains(t, p.stderr.String(), "error when serving")
}

// No line is lost: not at SIGTERM under load, and not when the function crashes.
func TestNoLogLineIsLost(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"SIGTERM", "crash"} {
		p := start(t, httpEnv(t, 0)...)
		p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
		var all sync.WaitGroup
		var mu sync.Mutex
		var got []string
		stop := make(chan struct{})
		for worker := range 8 {
			all.Go(func() {
				c := &http.Client{Transport: &http.Transport{DisableCompression: true}}
				defer c.CloseIdleConnections()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					target := fmt.Sprintf("/w%d/%d", worker, i)
					res, err := c.Get(p.url + target)
					if err != nil {
						return
					}
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if err == nil {
						mu.Lock()
						got = append(got, fmt.Sprintf("GET %s - %d ", target, res.StatusCode))
						mu.Unlock()
					}
				}
			})
		}
		p.eventually(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) > 500
		}, "load")
		want := 0
		if end == "crash" {
			want = 1
			client.Do(p.request("GET", "/exit/3", nil))
		} else {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		}
		require.Equal(t, want, p.exit())
		close(stop)
		all.Wait()
		log := p.stderr.String()
		for _, line := range got {
			require.Contains(t, log, line, end)
		}
		if end == "crash" {
			require.Contains(t, log, "stderr: last words\n")
			require.Contains(t, log, "exit status 3")
		}
		require.True(t, strings.HasSuffix(log, "\n"))
	}
}

// Under load the log costs less than a system call a request.
func TestLogSystemCalls(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil || raceEnabled {
		t.Skip("needs strace, and a program that it may slow down")
	}
	p := start(t, httpEnv(t, 0)...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	trace := exec.Command(strace, "-f", "-qq", "-e", "trace=write", "-e", "signal=none", "-o", p.dir+"/trace", "-p", fmt.Sprint(p.cmd.Process.Pid))
	require.NoError(t, trace.Start())
	ended := make(chan struct{})
	go func() {
		trace.Wait()
		close(ended)
	}()
	p.eventually(func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		res, err := client.Do(p.request("GET", "/warm", nil))
		if err != nil {
			return false
		}
		res.Body.Close()
		info, err := os.Stat(p.dir + "/trace")
		return err == nil && info.Size() > 0
	}, "strace is attached")
	select {
	case <-ended:
		t.Skip("strace may not attach to programs here")
	default:
	}
	const calls = 2000
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for range calls / 8 {
				res, err := c.Get(p.url + "/load")
				if err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			}
		})
	}
	all.Wait()
	p.eventually(func() bool { return strings.Count(p.stderr.String(), "GET /load - 200") == calls }, "all logged")
	trace.Process.Signal(os.Interrupt)
	<-ended
	b, err := os.ReadFile(p.dir + "/trace")
	require.NoError(t, err)
	toStderr := strings.Count(string(b), "write(2, ")
	t.Logf("%d lines in %d writes", calls, toStderr)
	require.Positive(t, toStderr)
	require.Less(t, toStderr, calls/20)
}

// A function that writes 100 MB without a line break goes on and answers, and
// the watchdog's memory does not grow with it.
func TestLogNeverStallsTheFunction(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0)...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	before := p.peakMemory()
	done := make(chan reply, 1)
	go func() { done <- p.get("/flood-log") }()
	require.Equal(t, 200, p.get("/meanwhile").status)
	r := <-done
	require.Equal(t, "still here", r.body)
	require.Equal(t, 200, p.get("/after").status)
	p.eventually(func() bool { return p.stdout.Len() > 99<<20 }, "all but a last piece that may grow")
	require.Less(t, p.peakMemory(), before+20_000)
}
