package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// functionVariable makes the test binary the function of the hop tests: a
// server on the Unix socket in upstream_url.
const functionVariable = "GATEHOUND_TEST_FUNCTION"

func serveFunction() {
	ln, err := net.Listen("unix", strings.TrimPrefix(os.Getenv("upstream_url"), "unix://"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A handler that has said the first half of its answer waits until the test
	// has seen that half and says so.
	var halves sync.Map
	half := func(r *http.Request) chan struct{} {
		c, _ := halves.LoadOrStore(r.URL.Query().Get("id"), make(chan struct{}))
		return c.(chan struct{})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/seen", func(_ http.ResponseWriter, r *http.Request) { half(r) <- struct{}{} })
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		after, _ := time.ParseDuration(r.URL.Query().Get("after"))
		time.Sleep(after)
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Link", "</a.css>")
		w.Header().Add("Link", "</b.js>")
		w.WriteHeader(http.StatusEarlyHints)
		<-half(r)
		io.WriteString(w, "answer")
	})
	mux.HandleFunc("/halves", func(w http.ResponseWriter, r *http.Request) {
		if kind := r.URL.Query().Get("type"); kind != "" {
			w.Header().Set("Content-Type", kind)
		}
		if length := r.URL.Query().Get("length"); length != "" {
			w.Header().Set("Content-Length", length)
		}
		io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		<-half(r)
		io.WriteString(w, "two\n")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Down")
		io.Copy(w, r.Body)
		w.Header().Set("X-Down", r.Trailer.Get("X-Up"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})
	mux.HandleFunc("/sized", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		io.WriteString(w, "answer")
	})
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex() // else net/http itself waits for the body
		w.Header().Set("X-Why", "size")
		http.Error(w, strings.Repeat("too large\n", 10_000), http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/websocket", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				var closed websocket.CloseError
				if !errors.As(err, &closed) {
					half(r) <- struct{}{} // the client is gone
				}
				return
			}
			if string(message) == "end" {
				c.Close(4000, "as you wish")
				return
			}
			if c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	// linger begins when the test has said so, with or without its answer's header,
	// and ends with its client.
	mux.HandleFunc("/linger", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("header") != "" {
			w.(http.Flusher).Flush()
		}
		half(r) <- struct{}{}
		<-r.Context().Done()
		half(r) <- struct{}{}
	})
	mux.HandleFunc("/gone", func(_ http.ResponseWriter, r *http.Request) { <-half(r) })
	http.Serve(ln, mux)
}
