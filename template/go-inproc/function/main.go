// Command function is a function with the watchdog built in.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/gatehound/gatehound/watchdog"
)

func main() {
	if err := watchdog.Serve(http.HandlerFunc(handle)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// handle answers one call. It is called from many goroutines at once.
func handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Hello! You sent %s %s\n%s", r.Method, r.URL.RequestURI(), body)
}
