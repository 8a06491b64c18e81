// Command handler serves the function in package function where fwatchdog
// looks for it, at upstream_url.
package main

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

	"handler/function"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve returns when it is told to stop and running calls have ended.
func serve() error {
	l, err := listen(os.Getenv("upstream_url"))
	if err != nil {
		return err
	}
	// The watchdog bounds whole calls; slow clients never reach this server.
	server := &http.Server{
		Handler:           http.HandlerFunc(function.Handle),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer done()
	drained := make(chan error, 1)
	go func() {
		<-stop.Done()
		drained <- server.Shutdown(context.Background())
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}

func listen(upstream string) (net.Listener, error) {
	u, err := url.Parse(upstream)
	switch {
	case err != nil:
		return nil, fmt.Errorf("upstream_url: %w", err)
	case u.Scheme == "unix":
		_ = os.Remove(u.Path) // left by a run that was killed
		return net.Listen("unix", u.Path)
	case u.Scheme == "http":
		return net.Listen("tcp", u.Host)
	}
	return nil, fmt.Errorf("upstream_url=%q: want http://host:port or unix:///path.sock", upstream)
}
