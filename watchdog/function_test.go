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

// printHeaders answers with everything of a request that has a name.
func printHeaders(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s\n", r.Method, r.RequestURI)
	r.Header.Write(w)
	fmt.Fprintln(w, "trailers:")
	r.Trailer.Write(w)
	fmt.Fprintf(w, "body: %s %v\n", body, err)
}

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
	mux.HandleFunc("/headers/trailers", printHeaders)
	mux.HandleFunc("/secret.txt", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "SECRET") })
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, os.Getenv(r.URL.RawQuery)) })
	mux.HandleFunc("/pid", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	mux.HandleFunc("/drop", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	// n pieces with a pause before each but the first.
	mux.HandleFunc("/trickle/{n}/{pause}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		pause, _ := time.ParseDuration(r.PathValue("pause"))
		for i := range n {
			if i > 0 {
				time.Sleep(pause)
			}
			io.WriteString(w, "piece\n")
			w.(http.Flusher).Flush()
		}
	})
	// An early answer, which takes its time: the body is never read.
	mux.HandleFunc("/early/{pause}", func(w http.ResponseWriter, r *http.Request) {
		pause, _ := time.ParseDuration(r.PathValue("pause"))
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, "too ")
		w.(http.Flusher).Flush()
		select {
		case <-time.After(pause):
		case <-r.Context().Done():
		}
		io.WriteString(w, "large")
	})
	// A tunnel that echoes, or says more than anybody reads.
	mux.HandleFunc("/upgrade/{kind}", func(w http.ResponseWriter, r *http.Request) {
		c, buffered, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		if r.PathValue("kind") == "echo" {
			io.Copy(c, buffered)
			return
		}
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/toolarge", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, buf)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(w, "piece")
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s length=%d body=%d %v", r.Method, r.RequestURI, r.ContentLength, len(b), err)
	})
	http.Serve(ln, mux)
}
