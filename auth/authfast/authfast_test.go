package authfast_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/authfast"
	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/benchmarks/issuer"
)

func newGateway(t *testing.T) *issuer.Issuer {
	g, err := issuer.New()
	require.NoError(t, err)
	t.Cleanup(func() { g.Close() })
	return g
}

// server protects dev:orders, whose handler says who called.
type server struct {
	address string
	reached atomic.Int32
}

func newServer(t *testing.T, g *issuer.Issuer, change func(*fasthttp.Server)) *server {
	keys, err := jwks.NewRemote(jwks.Config{Authority: g.URL})
	require.NoError(t, err)
	v, err := auth.NewVerifier(auth.Config{Keys: keys, Namespace: "dev", Name: "orders", Claims: []string{"sub"}})
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{address: ln.Addr().String()}
	f := &fasthttp.Server{ReadBufferSize: 16 << 10, Handler: authfast.Middleware(v, func(ctx *fasthttp.RequestCtx) {
		s.reached.Add(1)
		fmt.Fprint(ctx, authfast.Caller(ctx).Claims[0], " ", len(ctx.PostBody()))
	})}
	if change != nil {
		change(f)
	}
	go f.Serve(ln)
	t.Cleanup(func() { require.NoError(t, f.Shutdown()) })
	return s
}

// send sends a request of these header lines and body on a connection of its
// own, and reads the answer.
func (s *server) send(t *testing.T, head, body string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, head+"Host: x\r\n\r\n"+body)
	require.NoError(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(b)
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	good, other := "Bearer "+g.Token("dev:orders"), "Bearer "+g.Token("dev:order")
	const (
		get      = "GET / HTTP/1.1\r\n"
		noBearer = "Bearer must be present in Authorization header\n"
		several  = "failed to parse JWT token: several Authorization headers\n"
	)
	for name, change := range map[string]func(*fasthttp.Server){
		"normalized":     nil,
		"not normalized": func(f *fasthttp.Server) { f.DisableHeaderNamesNormalizing = true },
		"streaming":      func(f *fasthttp.Server) { f.StreamRequestBody = true },
		"reduced memory": func(f *fasthttp.Server) { f.ReduceMemoryUsage = true },
	} {
		s := newServer(t, g, change)
		for _, c := range []struct {
			name   string
			head   string
			status int
			body   string
		}{
			{"good", get + "Authorization: " + good + "\r\n", 200, "fed:alice 0"},
			{"name in lower case", get + "authorization: " + good + "\r\n", 200, "fed:alice 0"},
			{"name in any case", get + "aUTHORIZATION: " + good + "\r\n", 200, "fed:alice 0"},
			{"scheme in capitals", get + "Authorization: BEARER" + good[6:] + "\r\n", 200, "fed:alice 0"},
			{"none", get, 401, noBearer},
			{"basic", get + "Authorization: Basic eA==\r\n", 401, noBearer},
			{"in the query", "GET /?access_token=" + good[7:] + " HTTP/1.1\r\n", 401, noBearer},
			{"longer name", get + "X-Authorization: " + good + "\r\n", 401, noBearer},
			{"garbage", get + "Authorization: Bearer garbage\r\n", 401, "failed to parse JWT token: not a compact JWS of three parts\n"},
			{"forged", get + "Authorization: " + good[:len(good)-8] + "AAAAAAAA\r\n", 401, "failed to parse JWT token: signature does not verify\n"},
			{"the same twice", get + strings.Repeat("Authorization: "+good+"\r\n", 2), 401, several},
			{"in two cases", get + "Authorization: " + good + "\r\nauthorization: " + good + "\r\n", 401, several},
			{"good, then basic in another case", get + "Authorization: " + good + "\r\nAUTHORIZATION: Basic eA==\r\n", 401, several},
			{"another function's", get + "Authorization: " + other + "\r\n", 403, "insufficient permissions\n"},
		} {
			before := s.reached.Load()
			res, body := s.send(t, c.head, "")
			require.Equal(t, c.status, res.StatusCode, "%s, %s", name, c.name)
			require.Equal(t, c.body, body, c.name)
			require.Equal(t, c.status == 200, s.reached.Load() > before, c.name)
			want := map[string]string{"WWW-Authenticate": "", "X-OpenFaaS-Internal": ""}
			switch c.status {
			case 401:
				want["WWW-Authenticate"] = "Bearer realm=IAM function invoke"
				want["X-OpenFaaS-Internal"] = "faas-middleware"
			case 403:
				want["X-OpenFaaS-Internal"] = "faas-middleware"
			}
			for name, value := range want {
				require.Equal(t, value, res.Header.Get(name), c.name)
			}
		}
	}
}

func TestNoKeysYet(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.Down.Store(true)
	s := newServer(t, g, nil)
	head := "GET / HTTP/1.1\r\nAuthorization: Bearer " + g.Token("dev:*") + "\r\n"
	res, body := s.send(t, head, "")
	require.Equal(t, 503, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, "of-watchdog", res.Header.Get("X-OpenFaaS-Internal"))
	require.Equal(t, "the issuer's keys are not available yet\n", body)
	g.Down.Store(false)
	require.Eventually(t, func() bool {
		res, _ := s.send(t, head, "")
		return res.StatusCode == 200
	}, 10*time.Second, 10*time.Millisecond)
}

// With StreamRequestBody whoever is refused need not send more of the body than
// the 8 KiB that fasthttp reads ahead.
func TestBodyIsNotRead(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	s := newServer(t, g, func(f *fasthttp.Server) { f.StreamRequestBody = true })
	res, _ := s.send(t, "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n", strings.Repeat("x", 8<<10))
	require.Equal(t, 401, res.StatusCode)
	res, body := s.send(t, "POST / HTTP/1.1\r\nContent-Length: 100000\r\nAuthorization: Bearer "+g.Token("*")+"\r\n", strings.Repeat("x", 100000))
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "fed:alice 100000", body)
}

// A context is used for one connection's next request while others still wait
// for the keys: run with -race.
func TestContextsAreNotKept(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	s := newServer(t, g, nil)
	good := g.Token("*")
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			client := &fasthttp.Client{}
			defer client.CloseIdleConnections()
			for i := range 40 {
				var req fasthttp.Request
				var res fasthttp.Response
				req.SetRequestURI("http://" + s.address)
				req.Header.Set("Authorization", "Bearer "+good)
				want := 200
				if i%2 == 0 {
					req.Header.Set("Authorization", "Bearer "+good+"A")
					want = 401
				}
				if err := client.Do(&req, &res); err != nil || res.StatusCode() != want {
					t.Errorf("status %d, want %d: %v", res.StatusCode(), want, err)
				}
			}
		})
	}
	callers.Wait()
}

func TestNobodyCalled(t *testing.T) {
	t.Parallel()
	require.Nil(t, authfast.Caller(&fasthttp.RequestCtx{}))
}
