package authfast_test

import (
	"context"
	"fmt"
	"net"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/authfast"
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
	hello := func(ctx *fasthttp.RequestCtx) {
		fmt.Fprintf(ctx, "Hello, %s!", authfast.Caller(ctx).Claims[0])
	}
	server := &fasthttp.Server{
		Handler:        authfast.Middleware(verifier, hello),
		ReadBufferSize: 16 << 10, // tokens have up to 8 KiB; the default is 4
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Shutdown()

	for _, authorization := range []string{"", "Bearer " + gateway.Token("dev:other"), "Bearer " + gateway.Token("dev:orders")} {
		var req fasthttp.Request
		var res fasthttp.Response
		req.SetRequestURI("http://" + ln.Addr().String())
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		if err := fasthttp.Do(&req, &res); err != nil {
			panic(err)
		}
		fmt.Printf("%d %s\n", res.StatusCode(), res.Body())
	}
	// Output:
	// 401 Bearer must be present in Authorization header
	//
	// 403 insufficient permissions
	//
	// 200 Hello, fed:alice!
}
