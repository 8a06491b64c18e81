package watchdog

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestExpectContinue: who is refused is told so without being invited, and
// nothing of the body is read as the next request.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	p := start(t, "fprocess=cat", "jwt_auth=true", "jwt_auth_authority="+i.URL, "max_inflight=1",
		"OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev", "exec_timeout=20s")
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	good := "Authorization: Bearer " + i.token(t, "dev:env", time.Hour) + "\r\n"
	other := "Authorization: Bearer " + i.token(t, "dev:other", time.Hour) + "\r\n"
	const body = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	const expect = "Expect: 100-continue\r\nContent-Length: 35\r\n\r\n"
	require.Len(t, body, 35)

	refused := func(name, request, status string) {
		t.Helper()
		for _, sent := range []string{request, request + body} { // it may come uninvited
			got := p.raw(sent)
			require.True(t, strings.HasPrefix(got, "HTTP/1.1 "+status), "%s: %s", name, got)
			require.Equal(t, 1, strings.Count(got, "HTTP/1.1 "), "%s: %s", name, got)
			require.Contains(t, got, "\r\nConnection: close\r\n", name)
			require.Contains(t, got, "\r\nDate: ", name)
		}
	}
	keep := "POST / HTTP/1.1\r\nHost: x\r\n"
	refused("no token", keep+expect, "401 Unauthorized")
	refused("another function's", keep+other+expect, "403 Forbidden")
	refused("no token, in lower case", keep+strings.ToLower(expect), "401 Unauthorized")
	refused("ambiguous", keep+good+"Transfer-Encoding: chunked\r\n"+expect, "400 Bad Request")

	// Invited, then answered.
	for _, chunked := range []bool{false, true} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(conn)
		for _, name := range []string{"Expect", "expect"} {
			head, sent := "Content-Length: 5", "hello"
			if chunked {
				head, sent = "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"
			}
			io.WriteString(conn, keep+good+name+": 100-continue\r\n"+head+"\r\n\r\n")
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
			r.ReadString('\n')
			// The slot is taken before the body is there.
			require.Equal(t, 429, p.get("/_/ready").status)
			io.WriteString(conn, sent)
			res, err := http.ReadResponse(r, nil)
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, "200 OK hello", res.Status+" "+string(b))
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "a free slot")
		}
	}

	// While the one slot is taken.
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	io.WriteString(conn, keep+good+expect)
	p.eventually(func() bool { return p.get("/_/ready").status == 429 }, "the slot's use")
	refused("over the limit", keep+good+expect, "429 Too Many Requests")
	conn.Close()
	p.logged(`POST / - 499 `)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "a free slot")

	// HTTP/1.0 does not know it (RFC 9110, section 10.1.1).
	got := p.raw("POST / HTTP/1.0\r\nHost: x\r\n" + good + expect + body)
	require.NotContains(t, got, "100 Continue")
	require.Contains(t, got, " 200 OK\r\n")
	require.Contains(t, got, "smuggled")
}
