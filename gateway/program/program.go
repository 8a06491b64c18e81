// Package program is what the gateway's programs have in common around what they
// serve: how their log looks, their metrics port, what they say when they cannot
// listen, and how they stop.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

// Serve has server answer on l until ctx ends, calls draining, and waits up to
// patience for the calls then running. What still runs after that is cut off, and
// log says so.
func Serve(ctx context.Context, server *fasthttp.Server, l *reverseproxy.Listener, patience time.Duration, draining func(), log zerolog.Logger) error {
	defer l.Abort()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	draining()
	drain, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Drain(drain); err != nil {
		log.Warn().Msgf("calls were still running after %s, and are cut off", patience)
	}
	return nil
}

// ServerLog takes what fasthttp has to say, which is about broken connections
// and requests, and is only worth a line when somebody looks for it.
type ServerLog struct{ Log zerolog.Logger }

// Printf implements fasthttp.Logger.
func (l ServerLog) Printf(format string, args ...any) { l.Log.Debug().Msgf(format, args...) }

// MetricsHandler serves /metrics, and /healthz, which tells that the program is
// alive, also while it is unready.
func MetricsHandler(metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("OK\n"))
	})
	return mux
}

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
