package reverseproxy

import (
	"net"
	"os"
	"syscall"
)

// refuseNew keeps new connections out of ln's queue, so that it can be emptied:
// a socket filter drops packets that only open a connection (SYN without ACK).
// Handshakes under way go on. Whoever is dropped tries again a second later,
// and is refused then. A Unix socket loses its name instead.
func refuseNew(ln net.Listener) {
	switch ln := ln.(type) {
	case *net.UnixListener:
		ln.SetUnlinkOnClose(false)
		os.Remove(ln.Addr().String())
	case *net.TCPListener:
		raw, err := ln.SyscallConn()
		if err != nil {
			return
		}
		const flags, syn, ack = 13, 0x02, 0x10 // RFC 9293, section 3.1
		program := []syscall.SockFilter{
			{Code: syscall.BPF_LD | syscall.BPF_B | syscall.BPF_ABS, K: flags},
			{Code: syscall.BPF_ALU | syscall.BPF_AND | syscall.BPF_K, K: syn | ack},
			{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: syn, Jf: 1},
			{Code: syscall.BPF_RET | syscall.BPF_K, K: 0},       // drop
			{Code: syscall.BPF_RET | syscall.BPF_K, K: 1 << 18}, // pass it whole
		}
		//lint:ignore SA1019 what replaces it is a dependency
		raw.Control(func(fd uintptr) { syscall.AttachLsf(int(fd), program) })
	}
}

// acceptNow returns a connection that waits in ln's queue; nil = none does.
func acceptNow(ln net.Listener) net.Conn {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	fd := -1
	raw.Control(func(listening uintptr) {
		for err = syscall.EINTR; err == syscall.EINTR || err == syscall.ECONNABORTED; {
			fd, _, err = syscall.Accept4(int(listening), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		}
	})
	if fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() // of which FileConn makes a copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return c
}
