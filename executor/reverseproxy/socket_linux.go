package reverseproxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxTransfer bounds what one raw system call moves, in bytes: Go's scheduler
// cannot take the processor from it.
const maxTransfer = 64 << 10

// socket is a connection that costs less than package net's where calls are
// short. It reads and writes by raw system calls: they do not block, so that the
// scheduler, which would look after each of them, need not know. And a deadline
// costs nothing until something has to wait.
//
// Only streams of TCP and Unix sockets are treated so. Any other connection is
// passed through as it is.
type socket struct {
	net.Conn
	network    string
	writeLimit time.Duration   // of each Write, in place of a write deadline; 0 = none
	raw        syscall.RawConn // nil = passed through

	reading sync.Mutex // held by the one Read
	in      []byte
	got     int
	readErr error
	tryRead func(fd uintptr) bool // made once, so that a read allocates nothing

	writing  sync.Mutex // held by the one Write
	out      []byte     // what is left of it
	writeErr error
	tryWrite func(fd uintptr) bool

	// The poller's read deadline is never after the wanted one, and is moved when
	// it strikes before that. Its write deadline is set while a Write waits.
	mu           sync.Mutex
	readWanted   time.Time
	readArmed    time.Time
	writeWanted  time.Time
	writeWaiting bool
}

// newSocket returns c with a limit on the time of each Write; 0 = none.
func newSocket(c net.Conn, writeLimit time.Duration) *socket {
	s := &socket{Conn: c, writeLimit: writeLimit}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		if local := c.LocalAddr(); local != nil {
			s.network = local.Network()
		}
	}
	if s.network == "tcp" || s.network == "unix" {
		s.raw = rawConn(c)
		s.tryRead, s.tryWrite = s.receive, s.send
	}
	return s
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.raw == nil || len(p) == 0 {
		return s.Conn.Read(p)
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.in, s.got, s.readErr = p[:min(len(p), maxTransfer)], 0, nil
	err := rawSocket{s}.Read(s.tryRead)
	s.in = nil
	switch {
	case err != nil:
		return 0, s.failure("read", err)
	case s.readErr != nil:
		return 0, s.failure("read", os.NewSyscallError("read", s.readErr))
	case s.got == 0:
		return 0, io.EOF
	}
	return s.got, nil
}

func (s *socket) receive(fd uintptr) (done bool) {
	for {
		n, errno := receive(fd, s.in)
		switch errno {
		case 0:
			s.got = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.readErr = errno
			return true
		}
	}
}

// Write implements net.Conn. Only a write that has to wait looks at its deadline.
func (s *socket) Write(p []byte) (int, error) {
	if s.raw != nil && len(p) == 0 {
		return s.Conn.Write(p) // it waits for nothing, and so needs no deadline, which would stay
	}
	if s.raw == nil {
		if s.writeLimit > 0 {
			if err := s.Conn.SetWriteDeadline(time.Now().Add(s.writeLimit)); err != nil {
				return 0, err
			}
		}
		return s.Conn.Write(p)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.out, s.writeErr = p, nil
	err := s.raw.Write(s.tryWrite)
	n := len(p) - len(s.out)
	s.out = nil
	if s.writeWaiting { // nobody else sets it
		s.waited()
	}
	switch {
	case err != nil:
		return n, s.failure("write", err)
	case s.writeErr != nil:
		return n, s.failure("write", os.NewSyscallError("write", s.writeErr))
	}
	return n, nil
}

func (s *socket) send(fd uintptr) (done bool) {
	for len(s.out) > 0 {
		n, errno := send(fd, s.out[:min(len(s.out), maxTransfer)])
		switch errno {
		case 0:
			s.out = s.out[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			s.waits()
			return false
		default:
			s.writeErr = errno
			return true
		}
	}
	return true
}

// waits arms the deadline of a Write that has to wait.
func (s *socket) waits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeWaiting {
		return
	}
	s.writeWaiting = true
	if s.writeLimit > 0 {
		s.writeWanted = time.Now().Add(s.writeLimit)
	}
	s.Conn.SetWriteDeadline(s.writeWanted) // an error is the write's, too
}

// waited takes it back, since the poller refuses every write after a deadline.
func (s *socket) waited() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeWaiting = false
	s.Conn.SetWriteDeadline(time.Time{})
}

// failure is what package net would have made of err.
func (s *socket) failure(op string, err error) error {
	var raw *net.OpError
	if errors.As(err, &raw) {
		err = raw.Err
	}
	return &net.OpError{Op: op, Net: s.network, Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	if s.raw == nil {
		return s.Conn.SetDeadline(t)
	}
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. One that is not before that which is armed
// is only noted: most are moved on long before they strike.
func (s *socket) SetReadDeadline(t time.Time) error {
	if s.raw == nil {
		return s.Conn.SetReadDeadline(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readWanted = t
	if s.readArmed.IsZero() && t.IsZero() || !s.readArmed.IsZero() && (t.IsZero() || !t.Before(s.readArmed)) {
		return nil
	}
	s.readArmed = t
	return s.Conn.SetReadDeadline(t)
}

// readOver reports, when the armed deadline has struck, whether the wanted one is
// over. If not, it is armed.
func (s *socket) readOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.readWanted.IsZero() && !time.Now().Before(s.readWanted) {
		return true
	}
	s.readArmed = s.readWanted
	return s.Conn.SetReadDeadline(s.readArmed) != nil
}

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.raw == nil {
		return s.Conn.SetWriteDeadline(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeWanted = t
	if s.writeWaiting {
		return s.Conn.SetWriteDeadline(t)
	}
	return nil
}

// SyscallConn implements syscall.Conn.
func (s *socket) SyscallConn() (syscall.RawConn, error) {
	if s.raw == nil {
		return nil, errors.ErrUnsupported
	}
	return rawSocket{s}, nil
}

// rawSocket knows, other than s.raw, when the read deadline really is over.
type rawSocket struct{ *socket }

func (r rawSocket) Control(f func(fd uintptr)) error { return r.raw.Control(f) }

func (r rawSocket) Read(f func(fd uintptr) (done bool)) error {
	for {
		err := r.raw.Read(f)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || r.readOver() {
			return err
		}
	}
}

func (r rawSocket) Write(f func(fd uintptr) (done bool)) error { return r.raw.Write(f) }
