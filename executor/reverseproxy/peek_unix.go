//go:build linux || darwin || freebsd

package reverseproxy

import (
	"net"
	"syscall"
)

// peekState is what a look at a socket, without reading from it, shows.
type peekState uint8

const (
	peekQuiet  peekState = iota // nothing to read
	peekData                    // something to read
	peekClosed                  // the other side has closed or failed
)

func peek(fd uintptr) peekState {
	for {
		n, err := peekByte(fd)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return peekQuiet
		case err != nil || n == 0:
			return peekClosed
		default:
			return peekData
		}
	}
}

// rawConn returns the socket below c; nil where there is none, as with TLS.
func rawConn(c net.Conn) syscall.RawConn {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// canPeek reports whether the functions below see anything of c.
func canPeek(c net.Conn) bool { return rawConn(c) != nil }

// WaitGone waits until c is closed by its other side (true), has data, or meets
// its read deadline (false). It reads nothing. A side that only says that it
// sends no more counts as gone.
func WaitGone(c net.Conn) bool { return await(c) == peekClosed }

// awaitData waits until c has data (true), is closed by its other side, or meets
// its read deadline (false). It reads nothing.
func awaitData(c net.Conn) bool { return await(c) == peekData }

func await(c net.Conn) peekState {
	state := peekQuiet
	if raw := rawConn(c); raw != nil {
		raw.Read(func(fd uintptr) bool {
			state = peek(fd)
			return state != peekQuiet
		})
	}
	return state
}

// Gone reports whether the other side of c has closed. It neither waits nor reads:
// behind data that is still to be read it sees nothing.
func Gone(c net.Conn) bool { return look(c) == peekClosed }

func look(c net.Conn) peekState {
	state := peekQuiet
	if raw := rawConn(c); raw != nil {
		raw.Control(func(fd uintptr) { state = peek(fd) })
	}
	return state
}

// probe looks at an idle connection before it is used again. It must be quiet:
// data nobody asked for, or a close, rule it out.
type probe struct {
	raw   syscall.RawConn
	state peekState
	look  func(fd uintptr) // made once, so that a probe allocates nothing
}

func newProbe(c net.Conn) *probe {
	p := &probe{raw: rawConn(c)}
	p.look = func(fd uintptr) { p.state = peek(fd) }
	return p
}

func (p *probe) quiet() bool {
	if p.raw == nil {
		return true
	}
	return p.raw.Control(p.look) == nil && p.state == peekQuiet
}
