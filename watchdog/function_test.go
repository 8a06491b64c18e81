package watchdog

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// testFunction is the function of the http mode tests: a server at address,
// which is "delay,network,address".
func testFunction(address string) {
	part := strings.SplitN(address, ",", 3)
	delay, _ := time.ParseDuration(part[0])
	time.Sleep(delay)
	ln, err := net.Listen(part[1], part[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(code)
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "began")
		<-r.Context().Done()
	})
	mux.HandleFunc("/begun", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/own504", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusGatewayTimeout) })
	mux.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/flood-log", func(w http.ResponseWriter, r *http.Request) {
		for piece, i := []byte(strings.Repeat("x", 1<<20)), 0; i < 100; i++ {
			os.Stdout.Write(piece)
		}
		io.WriteString(w, "still here")
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("slow call began")
		<-r.Context().Done()
	})
	mux.HandleFunc("/started", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(500 * time.Millisecond)
		io.WriteString(w, "finished")
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	mux.HandleFunc("/log", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 25))
	})
	mux.HandleFunc("/notready", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "not yet", http.StatusTeapot) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s\n", r.Method, r.RequestURI)
		r.Header.Write(w)
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s length=%d body=%d %v", r.Method, r.RequestURI, r.ContentLength, len(b), err)
	})
	http.Serve(ln, mux)
}
