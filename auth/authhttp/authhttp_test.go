package authhttp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/authhttp"
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
	*httptest.Server // HTTP/2
	plain            *httptest.Server
	reached          atomic.Int32
}

func newServer(t *testing.T, g *issuer.Issuer) *server {
	keys, err := jwks.NewRemote(jwks.Config{Authority: g.URL})
	require.NoError(t, err)
	v, err := auth.NewVerifier(auth.Config{Keys: keys, Namespace: "dev", Name: "orders", Claims: []string{"sub"}})
	require.NoError(t, err)
	s := &server{}
	s.Server = httptest.NewUnstartedServer(authhttp.Middleware(v, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.reached.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, authhttp.Caller(r).Claims[0], " ", n)
	})))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	s.plain = httptest.NewServer(s.Config.Handler)
	t.Cleanup(s.plain.Close)
	return s
}

func call(t *testing.T, s *httptest.Server, target string, authorization ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", s.URL+target, nil)
	require.NoError(t, err)
	req.Header["Authorization"] = authorization
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	s := newServer(t, g)
	good, other := "Bearer "+g.Token("dev:orders"), "Bearer "+g.Token("dev:order")

	const noBearer = "Bearer must be present in Authorization header\n"
	for protocol, server := range map[string]*httptest.Server{"HTTP/2.0": s.Server, "HTTP/1.1": s.plain} {
		for _, c := range []struct {
			name          string
			target        string
			authorization []string
			status        int
			body          string
		}{
			{"good", "/", []string{good}, 200, "fed:alice 0"},
			{"scheme in capitals", "/", []string{"BEARER" + good[6:]}, 200, "fed:alice 0"},
			{"none", "/", nil, 401, noBearer},
			{"basic", "/", []string{"Basic eA=="}, 401, noBearer},
			{"in the query", "/?access_token=" + good[7:], nil, 401, noBearer},
			{"garbage", "/", []string{"Bearer garbage"}, 401, "failed to parse JWT token: not a compact JWS of three parts\n"},
			{"forged", "/", []string{good[:len(good)-8] + "AAAAAAAA"}, 401, "failed to parse JWT token: signature does not verify\n"},
			{"the same twice", "/", []string{good, good}, 401, "failed to parse JWT token: several Authorization headers\n"},
			{"good, then basic", "/", []string{good, "Basic eA=="}, 401, "failed to parse JWT token: several Authorization headers\n"},
			{"another function's", "/", []string{other}, 403, "insufficient permissions\n"},
		} {
			before := s.reached.Load()
			res, body := call(t, server, c.target, c.authorization...)
			require.Equal(t, protocol, res.Proto)
			require.Equal(t, c.status, res.StatusCode, c.name)
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
	s := newServer(t, g)
	good := "Bearer " + g.Token("dev:*")
	res, body := call(t, s.plain, "/", good)
	require.Equal(t, 503, res.StatusCode)
	require.Equal(t, "1", res.Header.Get("Retry-After"))
	require.Equal(t, "of-watchdog", res.Header.Get("X-OpenFaaS-Internal"))
	require.Equal(t, "the issuer's keys are not available yet\n", body)
	g.Down.Store(false)
	require.Eventually(t, func() bool {
		res, _ := call(t, s.plain, "/", good)
		return res.StatusCode == 200
	}, 10*time.Second, 10*time.Millisecond)
}

// Who is refused need not send the body, nor are they invited to.
func TestBodyIsNotRead(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	s := newServer(t, g)
	for name, expect := range map[string]string{"unasked": "", "asked": "Expect: 100-continue\r\n"} {
		conn, err := net.Dial("tcp", s.plain.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: 1000000\r\n\r\n", expect)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err, name)
		require.Equal(t, "HTTP/1.1 401 Unauthorized\r\n", line, name)
	}

	// While a good call's body arrives.
	req, err := http.NewRequest("POST", s.plain.URL, strings.NewReader(strings.Repeat("x", 1<<20)))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+g.Token("*"))
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "fed:alice 1048576", string(body))
}

func TestNobodyCalled(t *testing.T) {
	t.Parallel()
	require.Nil(t, authhttp.Caller(httptest.NewRequest("GET", "/", nil)))
}
