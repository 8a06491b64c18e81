package reverseproxy

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWithhold: what is withheld comes through no part of an answer.
func TestWithhold(t *testing.T) {
	t.Parallel()
	const fields = "X-Word: secret\r\nX-Fine: fine\r\n"
	withhold := func(_, value []byte) bool { return bytes.Contains(value, []byte("secret")) }
	for name, c := range map[string]struct{ request, response string }{
		"header":       {"", "HTTP/1.1 200 a secret\r\n" + fields + "Content-Length: 2\r\n\r\nok"},
		"special ones": {"", "HTTP/1.1 200 OK\r\nX-Fine: fine\r\nServer: secret\r\nContent-Type: secret\r\nDate: secret\r\nSet-Cookie: a=secret\r\nContent-Length: 0\r\n\r\n"},
		"interim":      {"", "HTTP/1.1 103 the secret\r\n" + fields + "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"trailers":     {"", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Word, X-Fine\r\n\r\n" + chunk("ok") + "0\r\n" + fields + "\r\n"},
		"upgrade":      {"Connection: Upgrade\r\nUpgrade: websocket\r\n", "HTTP/1.1 101 secret\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + fields + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.request == "" {
				c.request = "Connection: close\r\n"
			}
			request := "GET / HTTP/1.1\r\nHost: h\r\n" + c.request + "\r\n"
			upstream := answering(t, c.response, true)
			require.Contains(t, startHop(t, upstream, hopConfig{}).ask(t, request), "secret", "it is there to withhold")
			got := startHop(t, upstream, hopConfig{options: Options{Withhold: withhold}}).ask(t, request)
			require.NotContains(t, got, "secret")
			require.Contains(t, got, "X-Fine: fine")
		})
	}
}
