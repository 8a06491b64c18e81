package reverseproxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n"

// TestInterim: a 103 arrives while the upstream still thinks about its answer.
func TestInterim(t *testing.T) {
	t.Parallel()
	answer := make(chan struct{})
	upstream := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		for {
			head, err := readHead(br)
			if err != nil {
				return
			}
			if strings.HasPrefix(head, "POST") {
				io.ReadFull(br, make([]byte, 3))
			}
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+hints)
			<-answer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	h := startHop(t, upstream, hopConfig{})
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
	} {
		c := h.dial(t)
		br := bufio.NewReader(c)
		for range 2 { // and on the same connection again
			_, err := io.WriteString(c, request)
			require.NoError(t, err)
			if strings.Contains(request, "Expect") {
				head, err := readHead(br)
				require.NoError(t, err)
				require.Equal(t, "HTTP/1.1 100 Continue\r\n\r\n", head)
			}
			head, err := readHead(br)
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 102 Processing\r\n\r\n", head)
			head, err = readHead(br)
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n", head)
			answer <- struct{}{}
			head, err = readHead(br)
			require.NoError(t, err)
			require.Contains(t, head, "HTTP/1.1 200 OK\r\n")
			_, err = io.ReadFull(br, make([]byte, 2))
			require.NoError(t, err)
		}
	}
}

// TestInterimLeftOut: where an interim response would be taken for something
// else.
func TestInterimLeftOut(t *testing.T) {
	t.Parallel()
	h := startHop(t, answering(t, hints+"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false), hopConfig{})
	got := h.ask(t, "GET / HTTP/1.0\r\nHost: h\r\n\r\n")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 200 "), got)

	// Pipelined: the first answer is held back until the last request is done,
	// and a 103 to the second request must not come before it.
	one := "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	got = h.ask(t, one+one+"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	require.Equal(t, 3, strings.Count(got, "HTTP/1.1 200 OK"), got)
	require.Equal(t, 1, strings.Count(got, "HTTP/1.1 103 "), got)
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 103 "), got)
}
