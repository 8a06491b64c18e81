package reverseproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// socketPair returns both ends of a connection.
func socketPair(t *testing.T, network string) (ours, theirs net.Conn) {
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	defer ln.Close()
	theirs, err = net.Dial(network, ln.Addr().String())
	require.NoError(t, err)
	ours, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	if tcp, ok := theirs.(*net.TCPConn); ok {
		require.NoError(t, tcp.SetReadBuffer(1<<20)) // Linux would let it grow to what fits plenty
	}
	return ours, theirs
}

// outcome is what a call of Read or Write said.
type outcome struct {
	n   int
	err error
}

func read(c net.Conn) outcome {
	n, err := c.Read(make([]byte, 10))
	return outcome{n, err}
}

func write(c net.Conn, size int) outcome {
	n, err := c.Write(make([]byte, size))
	return outcome{n, err}
}

// later has f called while another call waits.
func later(f func()) { time.AfterFunc(20*time.Millisecond, f) }

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// plenty is more than fits into the buffers of a connection.
const plenty = 16 << 20

// TestSocketAsNet: whatever happens to a connection, a socket says what package
// net does.
func TestSocketAsNet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(ours, theirs net.Conn) outcome{
		"read":                func(ours, theirs net.Conn) outcome { theirs.Write([]byte("abc")); return read(ours) },
		"read later":          func(ours, theirs net.Conn) outcome { later(func() { write(theirs, 3) }); return read(ours) },
		"read nothing":        func(ours, theirs net.Conn) outcome { n, err := ours.Read(nil); return outcome{n, err} },
		"read nothing closed": func(ours, theirs net.Conn) outcome { ours.Close(); n, err := ours.Read(nil); return outcome{n, err} },
		"end":                 func(ours, theirs net.Conn) outcome { theirs.Close(); return read(ours) },
		"end later":           func(ours, theirs net.Conn) outcome { later(func() { theirs.Close() }); return read(ours) },
		"read closed":         func(ours, theirs net.Conn) outcome { ours.Close(); return read(ours) },
		"closed in read":      func(ours, theirs net.Conn) outcome { later(func() { ours.Close() }); return read(ours) },
		"read reset":          func(ours, theirs net.Conn) outcome { write(ours, 1); reset(theirs); return read(ours) },
		"deadline in read": func(ours, theirs net.Conn) outcome {
			ours.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			return read(ours)
		},
		"read after deadline": func(ours, theirs net.Conn) outcome {
			theirs.Write([]byte("abc"))
			ours.SetDeadline(longAgo)
			return read(ours)
		},
		"read woken": func(ours, theirs net.Conn) outcome {
			ours.SetReadDeadline(time.Now().Add(time.Minute))
			later(func() { ours.SetReadDeadline(longAgo) })
			return read(ours)
		},
		"write":                func(ours, theirs net.Conn) outcome { return write(ours, 3) },
		"write nothing":        func(ours, theirs net.Conn) outcome { return write(ours, 0) },
		"write nothing closed": func(ours, theirs net.Conn) outcome { ours.Close(); return write(ours, 0) },
		"write closed":         func(ours, theirs net.Conn) outcome { ours.Close(); return write(ours, 1) },
		"write plenty": func(ours, theirs net.Conn) outcome {
			go io.Copy(io.Discard, theirs)
			return write(ours, plenty)
		},
		"closed in write": func(ours, theirs net.Conn) outcome { later(func() { ours.Close() }); return write(ours, plenty) },
		"write reset": func(ours, theirs net.Conn) outcome {
			write(ours, 1)
			reset(theirs)
			read(ours) // takes ECONNRESET
			return write(ours, 1)
		},
		"reset in write": func(ours, theirs net.Conn) outcome { later(func() { reset(theirs) }); return write(ours, plenty) },
		"deadline in write": func(ours, theirs net.Conn) outcome {
			ours.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			return write(ours, plenty)
		},
		"write woken": func(ours, theirs net.Conn) outcome {
			ours.SetDeadline(time.Now().Add(time.Minute))
			later(func() { ours.SetDeadline(longAgo) })
			return write(ours, plenty)
		},
		"write plenty after deadline": func(ours, theirs net.Conn) outcome {
			ours.SetWriteDeadline(longAgo)
			return write(ours, plenty)
		},
	} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				ours, theirs := socketPair(t, network)
				want := test(ours, theirs)
				ours, theirs = socketPair(t, network)
				s := newSocket(ours, 0)
				require.NotNil(t, s.raw)
				got := test(s, theirs)

				if n := max(want.n, got.n); want.err != nil && n > 10 && n < plenty {
					want.n, got.n = 0, 0 // what fits into the buffers differs
				}
				require.Equal(t, want.n, got.n)
				if want.err == nil || want.err == io.EOF {
					require.Equal(t, want.err, got.err)
					return
				}
				for _, known := range []error{net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNRESET, syscall.EPIPE, io.EOF} {
					require.Equal(t, errors.Is(want.err, known), errors.Is(got.err, known), "%v\n%v", want.err, got.err)
				}
				require.Equal(t, kind(t, want.err), kind(t, got.err))
			})
		}
	}
}

// kind is the text of a net.OpError without addresses.
func kind(t *testing.T, err error) string {
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.NotNil(t, op.Source)
	require.NotNil(t, op.Addr)
	return op.Op + " " + op.Net + " " + op.Err.Error()
}

// TestSocketReadDeadline: deadlines that are moved and taken back without the
// poller's being told.
func TestSocketReadDeadline(t *testing.T) {
	t.Parallel()
	const soon = 30 * time.Millisecond
	ours, theirs := socketPair(t, "tcp")
	s := newSocket(ours, 0)
	in := func(d time.Duration) { require.NoError(t, s.SetReadDeadline(time.Now().Add(d))) }
	overAfter := func(d time.Duration) {
		t.Helper()
		began := time.Now()
		require.ErrorIs(t, read(s).err, os.ErrDeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(began), d-time.Millisecond)
		require.Less(t, time.Since(began), patience)
	}
	in(soon)
	in(3 * soon) // later
	overAfter(3 * soon)
	in(time.Hour) // after it has struck
	in(soon)      // earlier
	overAfter(soon)

	in(soon)
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	time.AfterFunc(3*soon, func() { theirs.Write([]byte("abc")) })
	require.Equal(t, outcome{3, nil}, read(s), "none")

	in(soon)
	in(time.Hour)
	time.Sleep(2 * soon) // strikes while nobody reads
	theirs.Write([]byte("abc"))
	require.Equal(t, outcome{3, nil}, read(s))

	require.NoError(t, s.SetReadDeadline(longAgo))
	require.ErrorIs(t, read(s).err, os.ErrDeadlineExceeded)
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	theirs.Write([]byte("abc"))
	require.Equal(t, outcome{3, nil}, read(s))

	// Who peeks waits as long as who reads, and can be woken.
	in(soon)
	in(time.Hour)
	woken := make(chan bool)
	go func() { woken <- WaitGone(s) }()
	select {
	case <-woken:
		t.Fatal("the peek ended with the first deadline")
	case <-time.After(2 * soon):
	}
	require.NoError(t, s.SetReadDeadline(longAgo))
	require.False(t, <-woken)
}

// TestSocketWriteLimit: the limit is one write's, and is for all of its bytes.
func TestSocketWriteLimit(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	ours, theirs := socketPair(t, "tcp")
	s := newSocket(ours, limit)
	go func() {
		for range 3 {
			time.Sleep(limit / 10)
			io.CopyN(io.Discard, theirs, plenty/4)
		}
		io.CopyN(io.Discard, theirs, plenty/4+2)
	}()
	require.Equal(t, outcome{plenty, nil}, write(s, plenty), "waits, in time")
	time.Sleep(limit)
	require.Equal(t, outcome{1, nil}, write(s, 1), "the wait before is forgotten")

	require.Equal(t, outcome{0, nil}, write(s, 0))
	time.Sleep(limit)
	require.Equal(t, outcome{1, nil}, write(s, 1), "a write of nothing leaves no deadline")

	began := time.Now()
	got := write(s, plenty)
	require.ErrorIs(t, got.err, os.ErrDeadlineExceeded)
	require.Positive(t, got.n)
	require.Less(t, got.n, plenty)
	require.GreaterOrEqual(t, time.Since(began), limit-time.Millisecond)
	require.Less(t, time.Since(began), patience)
}

// TestSocketShared: what several write at once arrives whole, and one that closes
// ends them all.
func TestSocketShared(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		ours, theirs := socketPair(t, network)
		s := newSocket(ours, time.Minute)
		const writers, size = 4, 3 * maxTransfer
		var ended sync.WaitGroup
		for i := range writers {
			ended.Go(func() {
				for {
					if _, err := s.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
						require.ErrorIs(t, err, net.ErrClosed)
						return
					}
				}
			})
			ended.Go(func() {
				for {
					s.SetDeadline(time.Now().Add(time.Hour))
					if _, err := s.Read(make([]byte, 10)); err != nil {
						require.ErrorIs(t, err, net.ErrClosed)
						return
					}
				}
			})
		}
		go func() {
			for range 1000 {
				theirs.Write([]byte("x"))
			}
		}()
		b := make([]byte, size)
		for range 50 {
			_, err := io.ReadFull(theirs, b)
			require.NoError(t, err)
			require.Equal(t, size, bytes.Count(b, b[:1]))
		}
		s.Close()
		ended.Wait()
	}
}

// TestSocketOfOthers: what is no stream of a TCP or Unix socket is left as it is.
func TestSocketOfOthers(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	packets, err := net.ListenPacket("unixgram", t.TempDir()+"/s")
	require.NoError(t, err)
	defer packets.Close()
	require.Nil(t, newSocket(packets.(*net.UnixConn), 0).raw)

	s := newSocket(a, 20*time.Millisecond)
	require.Nil(t, s.raw)
	_, err = s.SyscallConn()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorIs(t, write(s, 1).err, os.ErrDeadlineExceeded)
	require.NoError(t, s.SetDeadline(time.Time{}))
	go b.Write([]byte("abc"))
	require.Equal(t, outcome{3, nil}, read(s))
	require.NoError(t, s.SetReadDeadline(longAgo))
	require.ErrorIs(t, read(s).err, os.ErrDeadlineExceeded)
}
