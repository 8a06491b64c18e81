// Package program is what the gateway's programs have in common around what they
// serve: how their log looks, their metrics port, and what they say when they
// cannot listen.
package program

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// ListenError says which variable to change.
func ListenError(err error, address, variable string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program: set %s to a free port", address, variable)
	}
	return fmt.Errorf("%w: set %s to another port", err, variable)
}

// ServeMetrics serves handler on address until stop is called; "" = not at all.
func ServeMetrics(address string, handler http.Handler) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, ListenError(err, address, "metrics_port")
	}
	server := &http.Server{Handler: handler, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	go func() { _ = server.Serve(l) }()
	return func() { _ = server.Close() }, nil
}

// NewLogger writes to out, for people or, with json, for log collectors.
func NewLogger(out io.Writer, json, debug bool) zerolog.Logger {
	if !json {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: time.DateTime, NoColor: true,
			FormatMessage: func(message any) string { return Visible(fmt.Sprint(message)) }}
	}
	level := zerolog.InfoLevel
	if debug {
		level = zerolog.DebugLevel
	}
	return zerolog.New(out).Level(level).With().Timestamp().Logger()
}

// Visible keeps on one line, and from acting on a terminal, what may hold the
// words of others: a token's claim, a key in a policy, a name in a certificate.
func Visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strconv.IsPrint(r):
			return r
		case r == '\n' || r == '\t':
			return ' '
		default:
			return '?'
		}
	}, s)
}
