package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// functionVariable holds the socket that this program serves as the function
// of http mode.
const functionVariable = "SOAK_FUNCTION"

// events is how many events /events sends before it ends.
const events = 5

func serveFunction(socket string) {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range events {
			io.WriteString(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	http.Serve(ln, mux)
}

// forkedFunction does the same in the modes that fork. The sleep of /hang is a
// grandchild, which must end with the rest.
const forkedFunction = `sh -c 'case "$Http_Path" in
	/events) for i in 1 2 3 4 5; do printf "data: x\n\n"; sleep 0.01; done;;
	/hang) sleep 600; true;;
	*) cat;;
esac'`
