package freeport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// taker in the environment has this program take so many ports, print them, and
// keep them until its standard input ends.
const taker = "FREEPORT_TAKE"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(taker)); err == nil {
		for range n {
			fmt.Println(Take())
		}
		runtime.GC() // which closes what nothing refers to
		fmt.Println("done")
		_, _ = io.ReadAll(os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestProcesses: those that take ports at the same time get different ones.
func TestProcesses(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED: here nothing holds a port against other processes")
	}
	// So many that some would meet, were it for chance alone.
	const processes, each = 6, 200
	given := make(chan []string)
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", fmt.Sprintf("%s=%d", taker, each))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			in.Close()
			_ = cmd.Wait()
		})
		go func() {
			var ports []string
			for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "done"; {
				ports = append(ports, lines.Text())
			}
			given <- ports
		}()
	}
	seen := make(map[string]bool)
	for range processes {
		for _, port := range <-given {
			require.False(t, seen[port], "%s was given out twice", port)
			seen[port] = true
		}
	}
	require.Len(t, seen, processes*each)
}

// TestHold: a port can be had when nobody has it, by whoever listens or holds it.
func TestHold(t *testing.T) {
	t.Parallel()
	number, err := strconv.Atoi(Take())
	require.NoError(t, err)
	require.GreaterOrEqual(t, number, lowest)
	require.Less(t, number, ephemeral())
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", host+":0")
		require.NoError(t, err)
		taken := l.Addr().(*net.TCPAddr).Port
		_, err = hold(taken)
		require.Error(t, err, "somebody listens on %s", l.Addr())
		_, err = hold(taken)
		require.ErrorContains(t, err, "listen tcp", "an attempt holds nothing")
		require.NoError(t, l.Close())

		l, err = net.Listen("tcp", fmt.Sprintf("%s:%d", host, number))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	if runtime.GOOS == "linux" {
		_, err = hold(number)
		require.ErrorContains(t, err, "listen unix")
	}
}
