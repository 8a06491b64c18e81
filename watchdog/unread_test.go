package watchdog

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// oblivious is a function's server that reads no bodies, as handlers of Python's
// http.server do by default: it takes them for the next requests. It returns
// what it was asked, and by whom, so far.
func oblivious(t *testing.T) (address string, asked func() []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	var mu sync.Mutex
	var all []string
	serve := func(conn net.Conn) {
		defer conn.Close()
		for r := textproto.NewReader(bufio.NewReader(conn)); ; {
			line, err := r.ReadLine()
			if err != nil {
				return
			}
			header, err := r.ReadMIMEHeader()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, line+" by "+header.Get("X-Auth-Subject"))
			mu.Unlock()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if header.Get("Connection") == "close" {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return ln.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// A body is no way to a request that nobody has checked: neither without a
// token, nor in somebody else's name.
func TestBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	alice := "Authorization: Bearer " + i.sign(t, jwt.MapClaims{"sub": "alice"}) + "\r\n"
	const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\nX-Auth-Subject: root\r\n\r\n"
	for name, c := range map[string]struct{ env, head string }{
		"open path":    {"jwt_auth_skip_paths=/x", ""},
		"another name": {"jwt_auth_headers=sub", alice},
		"signed":       {"", signature(hidden) + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, asked := oblivious(t)
			env := []string{"mode=http", "upstream_url=http://" + address, "fprocess=sleep 300",
				"jwt_auth=true", "jwt_auth_authority=" + i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", c.env}
			if name == "signed" {
				env = append(env, hookEnv(t)...)
			}
			p := start(t, env...)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
			for _, method := range []string{"GET", "POST"} {
				for _, framing := range []string{
					fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(hidden), hidden),
					fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden),
					fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(hidden), hidden),
				} {
					for range 10 { // an answer is not lost with the connection
						got := p.raw(method + " /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + c.head + framing)
						require.Contains(t, got, "HTTP/1.1 200 OK\r\n")
						require.True(t, strings.HasSuffix(got, "\r\n\r\nok"), got)
					}
				}
			}
			require.Len(t, asked(), 60)
			require.NotContains(t, strings.Join(asked(), "\n"), "/hidden")
			require.NotContains(t, strings.Join(asked(), "\n"), "root")
		})
	}
}
