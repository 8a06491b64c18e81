// Package function is the function.
package function

import (
	"fmt"
	"io"
	"net/http"
)

// Handle answers one call. It is called from many goroutines at once.
func Handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Hello! You sent %s %s\n%s", r.Method, r.URL.RequestURI(), body)
}
