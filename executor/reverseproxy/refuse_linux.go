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
			*syscall.LsfStmt(syscall.BPF_LD|syscall.BPF_B|syscall.BPF_ABS, flags),
			*syscall.LsfStmt(syscall.BPF_ALU|syscall.BPF_AND|syscall.BPF_K, syn|ack),
			*syscall.LsfJump(syscall.BPF_JMP|syscall.BPF_JEQ|syscall.BPF_K, syn, 0, 1),
			*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0),
			*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0x40000),
		}
		raw.Control(func(fd uintptr) { syscall.AttachLsf(int(fd), program) })
	}
}
