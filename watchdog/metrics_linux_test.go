package watchdog

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// TestMetricsOutliveShortage: whoever opens connections until the descriptors run
// out ends the metrics no more than the calls.
func TestMetricsOutliveShortage(t *testing.T) {
	t.Parallel()
	port := freeport.Take()
	p := start(t, "fprocess=cat", "metrics_port="+port)
	addresses := []string{strings.TrimPrefix(p.url, "http://"), "127.0.0.1:" + port}
	p.eventually(func() bool {
		c, err := net.Dial("tcp", addresses[1])
		if err == nil {
			c.Close()
		}
		return err == nil
	}, "the metrics port")
	open := func() int {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		require.NoError(t, err)
		return len(files)
	}
	limit := func(n int) (before syscall.Rlimit) {
		now := syscall.Rlimit{Cur: uint64(n), Max: 1 << 10}
		_, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(p.cmd.Process.Pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(&now)), uintptr(unsafe.Pointer(&before)), 0, 0)
		require.Zero(t, errno)
		return before
	}
	most := open() + 2
	limit(most)
	var conns []net.Conn
	for range 6 {
		for _, address := range addresses {
			c, err := net.Dial("tcp", address)
			require.NoError(t, err)
			conns = append(conns, c)
		}
	}
	p.logged("cannot accept a connection")
	time.Sleep(100 * time.Millisecond) // the other port has met it by now, too
	limit(1 << 10)
	for _, c := range conns {
		c.Close()
	}
	require.Contains(t, scrape(t, port), "http_requests_total")
	require.Equal(t, 200, p.get("/").status)
}
