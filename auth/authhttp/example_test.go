package authhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/authhttp"
	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/benchmarks/issuer"
)

// A server that only callers with a function token for dev:orders get into.
func Example() {
	gateway, err := issuer.New() // yours is at http://gateway.openfaas:8080
	if err != nil {
		panic(err)
	}
	defer gateway.Close()

	keys, err := jwks.NewRemote(jwks.Config{Authority: gateway.URL})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go keys.Run(ctx) // keeps them fresh

	verifier, err := auth.NewVerifier(auth.Config{Keys: keys, Namespace: "dev", Name: "orders", Claims: []string{"sub"}})
	if err != nil {
		panic(err)
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", authhttp.Caller(r).Claims[0])
	})
	server := httptest.NewServer(authhttp.Middleware(verifier, hello))
	defer server.Close()

	for _, authorization := range []string{"", "Bearer " + gateway.Token("dev:other"), "Bearer " + gateway.Token("dev:orders")} {
		req, _ := http.NewRequest("GET", server.URL, nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Printf("%d %s\n", res.StatusCode, body)
	}
	// Output:
	// 401 Bearer must be present in Authorization header
	//
	// 403 insufficient permissions
	//
	// 200 Hello, fed:alice!
}
