package gateway

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// serve runs a gateway without functions behind l until the test ends.
func serve(t *testing.T, l *reverseproxy.Listener, c Config) {
	t.Helper()
	key, err := issuer.Generate()
	require.NoError(t, err)
	c.Issuer, err = issuer.New("http://gateway.test", key)
	require.NoError(t, err)
	c.Log = zerolog.Nop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- New(c).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func listenTCP(t *testing.T) *reverseproxy.Listener {
	t.Helper()
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	return l
}

// short is a listener that has no descriptors for the first connections.
type short struct {
	net.Listener
	failures atomic.Int32
}

func (s *short) Accept() (net.Conn, error) {
	if s.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

// TestShortageOfDescriptors: who opens connections until there are no
// descriptors left must not end the gateway.
func TestShortageOfDescriptors(t *testing.T) {
	t.Parallel()
	l := listenTCP(t)
	none := &short{Listener: l.Listener}
	none.failures.Store(3)
	l.Listener = none
	serve(t, l, Config{})
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get("http://" + l.Addr().String() + "/healthz")
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	client.CloseIdleConnections()
}
