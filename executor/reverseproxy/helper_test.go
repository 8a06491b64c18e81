package reverseproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// hop is a server like the watchdog's, in front of one upstream.
type hop struct {
	addr   string // of the server
	up     *Upstream
	errs   chan error // what Forward returned, when not nil
	served atomic.Int32
}

type hopConfig struct {
	network string // of the server: "" = tcp
	options Options
	config  Config // Network and Address are set by startHop
	before  func(*fasthttp.RequestCtx)
	after   func(*fasthttp.RequestCtx)
}

// startHop serves requests by Forward to upstream ("host:port" or a path).
func startHop(t testing.TB, upstream string, c hopConfig) *hop {
	t.Helper()
	c.config.Network, c.config.Address = "tcp", upstream
	if filepath.IsAbs(upstream) {
		c.config.Network = "unix"
	}
	h := &hop{up: New(c.config), errs: make(chan error, 100)}
	s := &fasthttp.Server{
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		NoDefaultDate:                 true,
		SecureErrorLogMessage:         true,
		MaxRequestBodySize:            1,
		ReadBufferSize:                16 << 10,
		Logger:                        log.New(io.Discard, "", 0),
		ConnState:                     connState,
		Handler: func(ctx *fasthttp.RequestCtx) {
			h.served.Add(1)
			if c.before != nil {
				c.before(ctx)
			}
			if err := h.up.Forward(ctx, c.options); err != nil {
				select {
				case h.errs <- err:
				default:
				}
				ctx.Response.Header.Set("X-Hop-Error", "1")
				ctx.SetBodyString(err.Error())
				switch {
				case errors.Is(err, ErrBodyTooLarge):
					ctx.SetStatusCode(413)
				case errors.Is(err, ErrBadBody):
					ctx.SetStatusCode(400)
				case errors.Is(err, ErrTimeout):
					ctx.SetStatusCode(504)
				default:
					ctx.SetStatusCode(502)
				}
			}
			if c.after != nil {
				c.after(ctx)
			}
		},
	}
	network, address := "tcp", "127.0.0.1:0"
	if c.network == "unix" {
		network, address = "unix", filepath.Join(t.TempDir(), "s")
	}
	ln, err := Listen(network, address, patience)
	require.NoError(t, err)
	h.addr = ln.Addr().String()
	go s.Serve(ln)
	t.Cleanup(func() {
		ln.Close()
		h.up.Close()
	})
	return h
}

// dial connects a client to the hop.
func (h *hop) dial(t testing.TB) net.Conn {
	t.Helper()
	network := "tcp"
	if filepath.IsAbs(h.addr) {
		network = "unix"
	}
	c, err := net.Dial(network, h.addr)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends raw on a connection of its own and returns all that comes back
// until the hop closes; raw must lead to that, by Connection: close.
func (h *hop) ask(t testing.TB, raw string) string {
	t.Helper()
	c := h.dial(t)
	_, err := io.WriteString(c, raw)
	require.NoError(t, err)
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(b)
}

func (h *hop) err(t testing.TB) error {
	t.Helper()
	select {
	case err := <-h.errs:
		return err
	case <-time.After(patience):
		t.Fatal("Forward has returned no error")
		return nil
	}
}

// lastErr returns an error of Forward's that nobody has looked at, if any.
func (h *hop) lastErr() error {
	select {
	case err := <-h.errs:
		return err
	default:
		return nil
	}
}

// rawUpstream accepts connections and hands each to serve.
func rawUpstream(t testing.TB, network string, serve func(c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "u")
	}
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(3 * patience))
				serve(c, bufio.NewReader(c))
			}()
		}
	}()
	return ln.Addr().String()
}

// readHead reads a message header as it is on the wire.
func readHead(br *bufio.Reader) (string, error) {
	var b bytes.Buffer
	for {
		line, err := br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// answering is a raw upstream that reads a header and then sends response.
func answering(t testing.TB, response string, close bool) string {
	return rawUpstream(t, "tcp", func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := readHead(br); err != nil {
				return
			}
			io.WriteString(c, response)
			if close {
				return
			}
		}
	})
}

func eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
