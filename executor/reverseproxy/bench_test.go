package reverseproxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkForward measures one small call with everything kept alive. The
// client and the upstream are bare sockets and allocate nothing, so that the
// figures are the server's and the hop's.
func BenchmarkForward(b *testing.B) {
	for _, bench := range []struct{ name, network, request string }{
		{"GET/unix", "unix", "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"},
		{"GET/tcp", "tcp", "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"},
		{"POST/unix", "unix", "POST /a HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nContent-Length: 11\r\n\r\nhello world"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			answer := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
			up := rawUpstream(b, bench.network, func(c net.Conn, _ *bufio.Reader) {
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write(answer)
				}
			})
			h := startHop(b, up, hopConfig{})
			c := h.dial(b)
			request, buf := []byte(bench.request), make([]byte, 4096)
			one := func() {
				c.Write(request)
				n, err := c.Read(buf)
				require.NoError(b, err)
				if !bytes.HasSuffix(buf[:n], []byte("\r\n\r\nhello")) {
					b.Fatalf("%q", buf[:n])
				}
			}
			one()
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}

// BenchmarkForwardStream measures the throughput of a large response.
func BenchmarkForwardStream(b *testing.B) {
	const size = 64 << 20
	body := make([]byte, size)
	up := rawUpstream(b, "unix", func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
			c.Write(body)
		}
	})
	h := startHop(b, up, hopConfig{})
	c := h.dial(b)
	br := bufio.NewReaderSize(c, 64<<10)
	b.SetBytes(size)
	for b.Loop() {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, err := readHead(br)
		require.NoError(b, err)
		_, err = io.CopyN(io.Discard, br, size)
		require.NoError(b, err)
	}
}
