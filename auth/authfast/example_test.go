package authfast_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/authfast"
	"github.com/gatehound/gatehound/auth/jwks"
)

// A server that only callers with a function token for dev:orders get into.
func Example() {
	gateway := newGateway() // yours is at http://gateway.openfaas:8080
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

	for _, authorization := range []string{"", "Bearer " + gateway.token("dev:other"), "Bearer " + gateway.token("dev:orders")} {
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

// gateway stands for the real one: discovery, a key, and the tokens it issues.
type gateway struct {
	*httptest.Server
	key  *ecdsa.PrivateKey
	down atomic.Bool
}

func newGateway() *gateway {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	g := &gateway{key: key}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case g.down.Load():
			http.Error(w, "down", http.StatusInternalServerError)
		case r.URL.Path == "/keys":
			fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"%s","y":"%s"}]}`, b64(point[1:33]), b64(point[33:]))
		default:
			fmt.Fprintf(w, `{"issuer":"%s","jwks_uri":"%s/keys"}`, g.URL, g.URL)
		}
	}))
	return g
}

// token returns a function token of alice's.
func (g *gateway) token(permission string) string {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": g.URL, "aud": g.URL, "sub": "fed:alice",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"function": map[string]any{"permissions": []string{permission}},
	})
	token.Header["kid"] = "1"
	s, err := token.SignedString(g.key)
	if err != nil {
		panic(err)
	}
	return s
}
