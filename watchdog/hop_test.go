package watchdog

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// stamped is a body of size bytes in which no two blocks are alike, and the
// hash of what was read of it.
type stamped struct {
	size  int64
	block []byte
	left  []byte // of block
	n     uint64
	sum   hash.Hash
}

func newStamped(size int64) *stamped {
	s := &stamped{size: size, block: make([]byte, 256<<10), sum: sha256.New()}
	rand.Read(s.block)
	return s
}

func (s *stamped) Read(p []byte) (int, error) {
	if s.size == 0 {
		return 0, io.EOF
	}
	if len(s.left) == 0 {
		s.n++
		binary.BigEndian.PutUint64(s.block, s.n)
		s.left = s.block
	}
	n := copy(p[:min(int64(len(p)), s.size)], s.left)
	s.left, s.size = s.left[n:], s.size-int64(n)
	s.sum.Write(p[:n])
	return n, nil
}

// TestLargeBodiesInLittleMemory sends 2 GiB up and down at once.
func TestLargeBodiesInLittleMemory(t *testing.T) {
	size := int64(2 << 30)
	if raceEnabled {
		size = 64 << 20
	}
	p := start(t, httpEnv(t, 0, "read_timeout=10m")...)
	body := newStamped(size)
	req, err := http.NewRequest("POST", p.url+"/echo", body)
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, res.Body)
	require.NoError(t, err)
	require.Equal(t, size, n)
	require.Equal(t, body.sum.Sum(nil), got.Sum(nil))

	if runtime.GOOS == "linux" && !raceEnabled { // the race detector takes memory of its own
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		require.NoError(t, err)
		peak, err := strconv.Atoi(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
		require.NoError(t, err)
		t.Logf("peak RSS: %d KiB", peak)
		require.Less(t, peak, 64<<10, "KiB")
	}
}

// TestStreamsAreNotCut: a response may take longer than every timeout, as long
// as it is not silent for too long.
func TestStreamsAreNotCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env, path string
		whole     bool
	}{
		{"", "/trickle/30/50ms", true}, // for longer than both timeouts
		{"", "/trickle/2/5s", false},
		{"stream_idle_timeout=10s", "/trickle/2/2s", true},
		{"stream_idle_timeout=100ms", "/trickle/2/5s", false},
	} {
		t.Run(c.env+c.path, func(t *testing.T) {
			t.Parallel()
			p := start(t, httpEnv(t, 0, "exec_timeout=1s", "write_timeout=1s", c.env)...)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
			r := p.get(c.path)
			require.Equal(t, 200, r.status)
			if !c.whole {
				require.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
				return
			}
			require.NoError(t, r.err)
			n, _ := strconv.Atoi(strings.Split(c.path, "/")[2])
			require.Equal(t, strings.Repeat("piece\n", n), r.body)
		})
	}
}

// begin sends a request on a connection of its own and reads the header of the
// answer, whose status must be the one given.
func (p *program) begin(request string, status int) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = io.WriteString(conn, request)
	require.NoError(p.t, err)
	br := bufio.NewReader(conn)
	line, err := br.ReadString('\n')
	require.NoError(p.t, err)
	require.Contains(p.t, line, fmt.Sprintf(" %d ", status))
	for line != "\r\n" {
		line, err = br.ReadString('\n')
		require.NoError(p.t, err)
	}
	return conn, br
}

// Those answers leave the server by fasthttp's Hijack.
const (
	upgradeRequest = "GET /upgrade/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
	floodRequest   = "GET /upgrade/flood HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
	oldRequest     = "GET /events HTTP/1.0\r\nHost: x\r\n\r\n"
)

func earlyRequest(pause string) string {
	return "POST /early/" + pause + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc"
}

func TestHijackedAnswersHoldASlot(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "max_inflight=1")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	for _, c := range []struct {
		request string
		status  int
		line    string
	}{
		{upgradeRequest, 101, `GET /upgrade/echo - 101 Switching Protocols`},
		{earlyRequest("1h"), 413, `POST /early/1h - 413 Request Entity Too Large`},
		{oldRequest, 200, `GET /events - 200 OK`},
	} {
		conn, _ := p.begin(c.request, c.status)
		require.Equal(t, 429, p.get("/").status, c.line)
		require.NotRegexp(t, c.line, p.stderr.String(), "it is not done")
		conn.Close()
		p.eventually(func() bool { return p.get("/").status == 200 }, "the slot comes free after "+c.line)
		p.logged(c.line)
		require.Equal(t, 1, strings.Count(p.stderr.String(), c.line))
	}
}

// TestHijackedAnswersHaveTheWriteDeadline: a client that does not read what a
// tunnel brings holds its slot for no longer than write_timeout.
func TestHijackedAnswersHaveTheWriteDeadline(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "max_inflight=1", "write_timeout=2s")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	p.begin(floodRequest, 101)
	require.Equal(t, 429, p.get("/").status)
	p.eventually(func() bool { return p.get("/").status == 200 }, "the slot comes free")
}

func TestHijackedAnswersDrain(t *testing.T) {
	t.Parallel()
	p := start(t, httpEnv(t, 0, "write_timeout=10s", "listen=127.0.0.1:"+freeport.Take())...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	_, early := p.begin(earlyRequest("500ms"), 413)
	tunnel, echo := p.begin(upgradeRequest, 101)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.eventually(func() bool { // the listener is closed
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	}, "drain")

	b, err := io.ReadAll(early)
	require.NoError(t, err)
	require.Contains(t, string(b), "large")
	fmt.Fprintln(tunnel, "still there")
	line, err := echo.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "still there\n", line)
	tunnel.Close()
	require.Equal(t, 0, p.exit())
	require.NotContains(t, p.stderr.String(), "cut off")

	// A tunnel may go on for ever; the shutdown does not.
	p = start(t, httpEnv(t, 0, "write_timeout=300ms")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "function's start")
	_, echo = p.begin(upgradeRequest, 101)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	_, err = echo.ReadByte()
	require.Error(t, err)
	require.Equal(t, 0, p.exit())
	require.Contains(t, p.stderr.String(), "cut off after 300ms")
}
