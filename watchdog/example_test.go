package watchdog_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/watchdog"
)

// A function in Go, with its own way of starting and stopping. The usual one is
// a main that calls [watchdog.Serve].
func Example() {
	dir, _ := os.MkdirTemp("", "function")
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "function.sock")
	settings, err := config.ParseWatchdog([]string{"mode=inproc", "listen=unix://" + socket, "metrics_port=0", "healthcheck_interval=0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := watchdog.New(watchdog.Config{
		Settings: settings,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "Hello, %s!", r.URL.Query().Get("name"))
		}),
		Stderr:  io.Discard,
		TempDir: dir,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()

	for {
		answer, err := call(socket, "/?name=Alice")
		if err != nil {
			continue // it is starting
		}
		fmt.Println(answer)
		break
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// Hello, Alice!
	// <nil>
}

// call asks the function on a Unix socket.
func call(socket, target string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	res, err := (&http.Client{Transport: transport}).Get("http://function" + target)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// The main of a function in Go.
func ExampleServe() {
	hello := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Hello!") }
	if err := watchdog.Serve(http.HandlerFunc(hello)); err != nil {
		log.Fatal(err)
	}
}
