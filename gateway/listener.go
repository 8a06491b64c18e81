package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// listener keeps the server alive through a shortage. To fasthttp every error
// of Accept is the end, so whoever opens connections until the descriptors run
// out would end the gateway, and every call and function with it.
type listener struct {
	net.Listener
	log zerolog.Logger
}

// Accept implements net.Listener. It waits until the system can accept again.
func (l *listener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, err := l.Listener.Accept()
		if !isShortage(err) {
			return c, err
		}
		l.log.Error().Msgf("cannot accept a connection, trying again in %s: %v", pause, err)
		time.Sleep(pause)
	}
}

// isShortage reports whether err is over once others give something back.
func isShortage(err error) bool {
	for _, shortage := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, shortage) {
			return true
		}
	}
	return false
}
