package reverseproxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// goUpstream serves handler by net/http on a Unix socket.
func goUpstream(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "u"))
	require.NoError(t, err)
	s := &http.Server{Handler: handler}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

// TestEchoLargerThanMemoryAllows sends 300 MB through and back while it is
// being sent, and looks at the bytes and at the memory in use. The race
// detector makes that slow, so it gets less.
func TestEchoLargerThanMemoryAllows(t *testing.T) {
	size := int64(300 << 20)
	if raceEnabled {
		size = 32 << 20
	}
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		buf := make([]byte, 256<<10)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			if err != nil {
				return
			}
		}
	})
	h := startHop(t, up, hopConfig{})
	block := make([]byte, 1<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(block)
	for _, length := range []int64{size, -1} {
		t.Run(fmt.Sprint("length ", length), func(t *testing.T) {
			sent, got := sha256.New(), sha256.New()
			var peak uint64
			body := io.LimitReader(readerFunc(func(p []byte) (int, error) {
				// Different content everywhere, cheap to make.
				n := copy(p, block[rnd.Uint64()%(1<<19):])
				sent.Write(p[:n])
				return n, nil
			}), size)
			req, err := http.NewRequest("POST", "http://"+h.addr, body)
			require.NoError(t, err)
			req.ContentLength = length
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err, "hop: %v", h.lastErr())
			defer resp.Body.Close()
			var read int64
			buf := make([]byte, 256<<10)
			for {
				n, err := resp.Body.Read(buf)
				got.Write(buf[:n])
				if read/(8<<20) != (read+int64(n))/(8<<20) {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak = max(peak, m.HeapAlloc)
				}
				read += int64(n)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
			}
			require.EqualValues(t, size, read)
			require.Equal(t, sent.Sum(nil), got.Sum(nil))
			require.Less(t, peak, uint64(100<<20))
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestRequestBodies sends bodies around the sizes where the way changes, on
// one connection each, so that a byte too much or too few would show.
func TestRequestBodies(t *testing.T) {
	t.Parallel()
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %x %v %s", r.ContentLength, sha256.Sum256(b), err, r.Trailer.Get("X-T"))
	})
	for _, buffered := range []bool{false, true} {
		h := startHop(t, up, hopConfig{options: Options{BufferBody: buffered}})
		c := h.dial(t)
		br := bufio.NewReader(c)
		for _, size := range []int{0, 1, 100, smallBody - 1, smallBody, smallBody + 1, 32 << 10, 64<<10 + 7, 1 << 20} {
			body := bytes.Repeat([]byte{'a', 'b', 'c', 'd', 'e'}, size/5+1)[:size]
			hash := fmt.Sprintf("%x", sha256.Sum256(body))

			go fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, body)
			require.Equal(t, fmt.Sprint(size, " ", hash, " <nil> "), readBody(t, br))

			var chunks strings.Builder
			for rest := body; len(rest) > 0; {
				n := min(len(rest), 5000)
				chunks.WriteString(chunk(string(rest[:n])))
				rest = rest[n:]
			}
			go fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n%s0\r\nX-T: sum\r\n\r\n", chunks.String())
			want := fmt.Sprint(-1, " ", hash, " <nil> sum")
			if buffered {
				want = fmt.Sprint(size, " ", hash, " <nil> ")
			}
			require.Equal(t, want, readBody(t, br))
		}
	}
}

// readBody reads one response and returns its body.
func readBody(t testing.TB, br *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

func TestBufferBodyHasALimit(t *testing.T) {
	t.Parallel()
	h := startHop(t, goUpstream(t, func(http.ResponseWriter, *http.Request) { t.Error("called") }),
		hopConfig{options: Options{BufferBody: true}})
	require.Equal(t, 64<<20, h.up.maxBuffered)
	h.up.maxBuffered = 1 << 20
	c := h.dial(t)
	go func() {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		io.WriteString(c, chunk(strings.Repeat("x", 1<<20))+chunk("x"))
	}()
	err := h.err(t)
	require.ErrorIs(t, err, ErrBodyTooLarge)
	require.ErrorIs(t, err, ErrBadBody)
}

// TestBodyCutShort: a request whose client breaks off must never look whole to
// the upstream.
func TestBodyCutShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 20000)
	for name, request := range map[string]string{
		"length":         "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + long,
		"in a chunk":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7530\r\n" + long,
		"between chunks": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(long),
		"in the end":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(long) + "0\r",
		"bad chunk":      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(long) + "zz\r\n",
	} {
		for _, buffered := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " buffered ", buffered), func(t *testing.T) {
				t.Parallel()
				seen := make(chan error, 1)
				up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
					_, err := io.Copy(io.Discard, r.Body)
					seen <- err
				})
				h := startHop(t, up, hopConfig{options: Options{BufferBody: buffered}})
				c := h.dial(t)
				_, err := io.WriteString(c, request)
				require.NoError(t, err)
				if name == "bad chunk" {
					require.ErrorIs(t, h.err(t), ErrBadBody)
				} else {
					c.Close()
					require.ErrorIs(t, h.err(t), ErrClientGone)
				}
				if buffered && name != "length" {
					require.Empty(t, seen)
				} else {
					require.Error(t, <-seen)
				}
			})
		}
	}
}

// TestEarlyAnswer: the upstream refuses a body it has not read. The client,
// which goes on sending, must get that answer and no reset.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for name, answer := range map[string]string{
			"length":  "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big",
			"chunked": "HTTP/1.1 413 Too Large\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ntoo big\r\n0\r\n\r\n",
			"close":   "HTTP/1.0 413 Too Large\r\n\r\ntoo big",
		} {
			for _, framing := range []string{"Content-Length: 50000000", "Transfer-Encoding: chunked"} {
				t.Run(network+" "+name+" "+framing, func(t *testing.T) {
					t.Parallel()
					up := rawUpstream(t, network, func(c net.Conn, br *bufio.Reader) {
						readHead(br)
						io.WriteString(c, answer)
						if name == "close" {
							// A reset would be a response cut short.
							c.(interface{ CloseWrite() error }).CloseWrite()
							io.Copy(io.Discard, br)
						}
					})
					h := startHop(t, up, hopConfig{})
					c := h.dial(t)
					stop := make(chan struct{})
					go func() {
						defer close(stop)
						fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing)
						piece := chunk(strings.Repeat("x", 10000))
						for range 200 {
							if _, err := io.WriteString(c, piece); err != nil {
								return
							}
						}
					}()
					br := bufio.NewReader(c)
					resp, err := http.ReadResponse(br, nil)
					require.NoError(t, err)
					require.Equal(t, 413, resp.StatusCode)
					require.True(t, resp.Close)
					b, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.Equal(t, "too big", string(b))
					_, err = br.ReadByte()
					require.Equal(t, io.EOF, err) // no reset
					c.Close()
					<-stop
				})
			}
		}
	}
}

// TestEarlyAnswerGivesConnectionBack: when both bodies have come to their ends,
// the upstream's connection is as good as any.
func TestEarlyAnswerGivesConnectionBack(t *testing.T) {
	t.Parallel()
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		io.Copy(w, r.Body)
	})
	h := startHop(t, up, hopConfig{})
	for range 20 {
		c := h.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		require.True(t, resp.Close)
		io.WriteString(c, "1\r\nb\r\n0\r\n\r\n")
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "ab", string(b))
		_, err = br.ReadByte()
		require.Equal(t, io.EOF, err)
		h.up.mu.Lock()
		require.Len(t, h.up.idle, 1)
		require.True(t, h.up.idle[0].probe.quiet())
		h.up.mu.Unlock()
	}
}

// TestUnreadBodyIsNoRequest: what is left of a body after an early answer is
// never taken for the next request.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	up := rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	h := startHop(t, up, hopConfig{})
	c := h.dial(t)
	fake := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	go func() {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
		for range 1000 {
			if _, err := io.WriteString(c, fake); err != nil {
				return
			}
		}
	}()
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(b), "HTTP/1.1 "))
	require.EqualValues(t, 1, h.served.Load())
}

// TestSlowUploadReachesUpstreamAtOnce: pieces of a body are not held back.
func TestSlowUploadReachesUpstreamAtOnce(t *testing.T) {
	t.Parallel()
	pieces := make(chan string, 10)
	up := goUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 100)
		pieces <- "header"
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				pieces <- string(buf[:n])
			}
			if err != nil {
				return
			}
		}
	})
	h := startHop(t, up, hopConfig{})
	c := h.dial(t)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	next := func() string {
		select {
		case p := <-pieces:
			return p
		case <-time.After(patience):
			t.Fatal("held back")
			return ""
		}
	}
	require.Equal(t, "header", next())
	for _, p := range []string{"one", "two"} {
		io.WriteString(c, chunk(p))
		require.Equal(t, p, next())
	}
	io.WriteString(c, "0\r\n\r\n")
	require.Empty(t, readBody(t, bufio.NewReader(c)))
}
