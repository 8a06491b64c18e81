package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gatehound/gatehound/benchmarks/issuer"
)

// large is the size of a large body.
const large = 4 << 20

// patience bounds one call: much longer than anything takes.
const patience = 30 * time.Second

// target is one fwatchdog and what is known of it.
type target struct {
	cmd     *exec.Cmd
	log     *os.File
	address string
	token   string
	workers int

	running  sync.WaitGroup
	idle     sample // before the load
	samples  []sample
	zombies  map[int]int // PID → samples in a row that saw it
	mu       sync.Mutex
	calls    map[string]int // by kind
	failures []string       // the first few
	failed   int
}

var servingOn = regexp.MustCompile(`Serving mode \w+ on (\S+),`)

// launch starts fwatchdog and waits until it is ready.
func launch(program, dir string, i *issuer.Issuer, env []string) (*target, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		return nil, err
	}
	t := &target{log: log, token: i.Token("*"), calls: make(map[string]int), zombies: make(map[int]int)}
	t.cmd = exec.Command(program)
	t.cmd.Dir = dir
	t.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "listen=127.0.0.1:0", "metrics_port=0", "healthcheck_interval=0",
		"jwt_auth=true", "jwt_auth_authority=" + i.URL, "OPENFAAS_NAME=soak", "OPENFAAS_NAMESPACE=soak",
	}, env...)
	t.cmd.Stdout, t.cmd.Stderr = log, log
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(log.Name())
		m := servingOn.FindSubmatch(b)
		if m == nil {
			continue
		}
		t.address = string(m[1])
		if status, _, err := t.call(context.Background(), http.DefaultClient, "GET", "/_/ready", nil); err == nil && status == 200 {
			http.DefaultClient.CloseIdleConnections()
			t.idle = read(t.cmd.Process.Pid)
			return t, nil
		}
	}
	b, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("fwatchdog is not ready after %s\n%s", patience, b)
}

func (t *target) stop() {
	t.cmd.Process.Signal(syscall.SIGTERM)
	t.cmd.Wait()
	t.log.Close()
}

// load starts the workers, which end with ctx.
func (t *target) load(ctx context.Context) {
	for range t.workers {
		t.running.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				kind, f := pick()
				err := f(t, client)
				t.note(kind, err)
				time.Sleep(5 * time.Millisecond) // the load is bounded
			}
		})
	}
}

func (t *target) note(kind string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls[kind]++
	if err != nil {
		t.failed++
		if len(t.failures) < 10 {
			t.failures = append(t.failures, kind+": "+err.Error())
		}
	}
}

// kinds are the calls, with their shares of the load.
var kinds = []struct {
	name  string
	share int
	f     func(*target, *http.Client) error
}{
	{"small", 60, small},
	{"large", 4, largeBody},
	{"events", 6, eventStream},
	{"timeout", 6, timeout},
	{"gone waiting", 5, goneWaiting},
	{"gone sending", 5, goneSending},
	{"garbage", 7, garbage},
	{"401", 7, unauthorized},
}

func pick() (string, func(*target, *http.Client) error) {
	total := 0
	for _, k := range kinds {
		total += k.share
	}
	n := rand.IntN(total)
	for _, k := range kinds {
		if n -= k.share; n < 0 {
			return k.name, k.f
		}
	}
	panic("unreachable")
}

// call sends one request; headers are "Name: value".
func (t *target) call(ctx context.Context, client *http.Client, method, path string, body io.Reader, headers ...string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+t.address+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

func want(status, wanted int, err error) error {
	if err == nil && status != wanted {
		err = fmt.Errorf("status %d, want %d", status, wanted)
	}
	return err
}

func small(t *target, c *http.Client) error {
	status, body, err := t.call(context.Background(), c, "POST", "/echo", strings.NewReader("hello"))
	if err == nil && status == 200 && string(body) != "hello" {
		return fmt.Errorf("came back as %q", body)
	}
	return want(status, 200, err)
}

func largeBody(t *target, c *http.Client) error {
	sent := bytes.Repeat([]byte{byte(rand.Uint32())}, large)
	status, body, err := t.call(context.Background(), c, "POST", "/echo", bytes.NewReader(sent))
	if err == nil && sha256.Sum256(sent) != sha256.Sum256(body) {
		return fmt.Errorf("status %d, %d bytes of %d came back, or others", status, len(body), len(sent))
	}
	return want(status, 200, err)
}

func eventStream(t *target, c *http.Client) error {
	status, body, err := t.call(context.Background(), c, "GET", "/events", nil, "Accept: text/event-stream")
	if err == nil && bytes.Count(body, []byte("data: ")) != events {
		return fmt.Errorf("events lost: %q", body)
	}
	return want(status, 200, err)
}

func timeout(t *target, c *http.Client) error {
	status, _, err := t.call(context.Background(), c, "GET", "/hang", nil, "X-Timeout: 50ms")
	return want(status, 504, err)
}

// goneWaiting leaves before there is an answer.
func goneWaiting(t *target, c *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	status, _, err := t.call(ctx, c, "GET", "/hang", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("status %d, error %v: want none before the client leaves", status, err)
	}
	return nil
}

// goneSending leaves in the middle of a body.
func goneSending(t *target, _ *http.Client) error {
	return t.raw(fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		t.token, large, strings.Repeat("x", rand.IntN(100_000))), false)
}

// garbage sends what is no request, or one whose end is uncertain.
func garbage(t *target, _ *http.Client) error {
	junk := make([]byte, 1+rand.IntN(2000))
	for i := range junk {
		junk[i] = byte(rand.Uint32())
	}
	requests := []string{
		string(junk) + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: x\r\n X: folded\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + t.token + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
	}
	return t.raw(requests[rand.IntN(len(requests))], true)
}

// raw sends bytes on a connection of their own. If the answer is read it must
// be an error, or nothing.
func (t *target) raw(request string, answer bool) error {
	conn, err := net.DialTimeout("tcp", t.address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, request)
	if !answer {
		return nil
	}
	conn.(*net.TCPConn).CloseWrite()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("neither answered nor closed")
		}
		return nil
	}
	defer res.Body.Close()
	if res.StatusCode < 400 {
		return fmt.Errorf("garbage was answered with %d", res.StatusCode)
	}
	return nil
}

func unauthorized(t *target, c *http.Client) error {
	headers := []string{"Authorization: Bearer " + t.token[:len(t.token)-8] + "AAAAAAAA"}
	if rand.IntN(2) == 0 {
		headers = []string{"Authorization: Basic eDp5"}
	}
	status, _, err := t.call(context.Background(), c, "POST", "/echo", strings.NewReader("hello"), headers...)
	return want(status, 401, err)
}
