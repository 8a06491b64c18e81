// Package authhttp lets only callers with a function token into a net/http
// handler. What a token must say is package auth's business.
package authhttp

import (
	"context"
	"net/http"

	"github.com/gatehound/gatehound/auth"
)

// Middleware returns a handler that calls next for requests v accepts, whose
// [Caller] next can ask for, and answers all others as fwatchdog does, without
// reading their bodies. All paths and methods need a token: leave health checks
// to another handler.
func Middleware(v *auth.Verifier, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var values [][]byte
		for _, value := range r.Header["Authorization"] { // net/http spells it like this, over HTTP/2 too
			values = append(values, []byte(value))
		}
		caller, err := v.Verify(r.Context(), values...)
		if err != nil {
			status, header, body := auth.Refusal(err)
			for _, h := range header {
				w.Header().Set(h[0], h[1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // a client that has left needs no answer
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
	})
}

type callerKey struct{}

// Caller returns whom a request speaks for that came through Middleware, else
// nil. It is shared with other requests and must not be changed.
func Caller(r *http.Request) *auth.Caller {
	caller, _ := r.Context().Value(callerKey{}).(*auth.Caller)
	return caller
}
