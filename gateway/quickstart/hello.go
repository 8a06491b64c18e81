package quickstart

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Hello is the hello function: an HTTP server where upstream_url says its
// watchdog will look for it. It returns when it is told to stop.
func Hello() error {
	address, err := url.Parse(os.Getenv("upstream_url"))
	if err != nil {
		return fmt.Errorf("upstream_url: %w", err)
	}
	var l net.Listener
	switch address.Scheme {
	case "unix":
		_ = os.Remove(address.Path) // left by a run that was killed
		l, err = net.Listen("unix", address.Path)
	case "http":
		l, err = net.Listen("tcp", address.Host)
	default:
		err = fmt.Errorf("upstream_url=%q: want http://host:port or unix:///path.sock", address)
	}
	if err != nil {
		return err
	}

	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprintf(w, "Hello! You sent %s %s\n", r.Method, r.URL.RequestURI())
		}),
	}
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer done()
	context.AfterFunc(stop, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
