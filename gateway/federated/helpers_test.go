package federated

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/test/freeport"
)

const patience = 30 * time.Second

// idp is an OpenID provider with one key, as far as a verifier sees it.
type idp struct {
	issuer string
	key    *ecdsa.PrivateKey
	kid    string
	down   atomic.Bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &idp{key: key, kid: "1"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		point, _ := p.key.PublicKey.Bytes()
		encode := base64.RawURLEncoding.EncodeToString
		if r.URL.Path == "/realms/openfaas/keys" {
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
				"kty": "EC", "crv": "P-256", "kid": p.kid, "alg": "ES256", "use": "sig", "x": encode(point[1:33]), "y": encode(point[33:])}}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.issuer, "jwks_uri": p.issuer + "/keys"})
	}))
	t.Cleanup(server.Close)
	p.issuer = server.URL + "/realms/openfaas" // Keycloak's have a path
	return p
}

// claims are a good token's, with some changed; nil takes one out.
func (p *idp) claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"iss": p.issuer, "aud": "fed-gw", "sub": "service-account-ops", "azp": "ops",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (p *idp) token(t *testing.T, change, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, p.claims(change))
	token.Header["kid"] = p.kid
	maps.Copy(token.Header, header)
	maps.DeleteFunc(token.Header, func(_ string, v any) bool { return v == nil })
	signed, err := token.SignedString(p.key)
	require.NoError(t, err)
	return signed
}

// local is a local gateway that takes note of what it gets.
type local struct {
	*httptest.Server
	conns atomic.Int64

	mu       sync.Mutex
	requests []*http.Request
}

func newLocal(t *testing.T, handler http.HandlerFunc) *local {
	t.Helper()
	l := &local{}
	l.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.requests = append(l.requests, r)
		l.mu.Unlock()
		if handler != nil {
			handler(w, r)
			return
		}
		_, _ = io.Copy(w, io.MultiReader(strings.NewReader("local "), r.Body))
	}))
	require.NoError(t, l.Listener.Close())
	var err error
	l.Listener, err = net.Listen("tcp", "127.0.0.1:"+freeport.Take()) // where nobody else listens when it is closed
	require.NoError(t, err)
	l.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			l.conns.Add(1)
		}
	}
	l.Start()
	t.Cleanup(l.Close)
	return l
}

// count returns how many requests have come.
func (l *local) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.requests)
}

func (l *local) last(t *testing.T) *http.Request {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	require.NotEmpty(t, l.requests)
	return l.requests[len(l.requests)-1]
}

// fed is a federated gateway that serves.
type fed struct {
	*Gateway
	address string
	log     *syncBuffer
	idp     *idp
	local   *local
	stop    func() // and wait until it has
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// password is the local gateway's. Encoded, it has "+", "/" and "=" in it, which
// URLs write otherwise.
var password = basicauth.New("admin", "the local pass?>word~~")

func newFed(t *testing.T, handler http.HandlerFunc, change func(*Config)) *fed {
	t.Helper()
	f := &fed{log: &syncBuffer{}, idp: newIDP(t), local: newLocal(t, handler)}
	keys, err := jwks.NewRemote(jwks.Config{Authority: f.idp.issuer, Issuer: f.idp.issuer, Cooldown: time.Nanosecond})
	require.NoError(t, err)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: f.local.Listener.Addr().String()})
	c := Config{Upstream: upstream, Host: "gateway.openfaas:8080", Credentials: func() basicauth.Credentials { return password },
		Keys: keys, Audience: "fed-gw", DrainTimeout: patience, UpstreamTimeout: patience, Log: zerolog.New(f.log).Level(zerolog.DebugLevel)}
	if change != nil {
		change(&c)
	}
	f.Gateway = New(c)
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", patience)
	require.NoError(t, err)
	f.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx, l) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
		upstream.Close()
	})
	t.Cleanup(f.stop)
	return f
}

// send sends one request as it is given, but for Host and the end of the header,
// and returns the answer with its body.
func (f *fed) send(t *testing.T, line string, header ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", f.address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	head := append([]string{line + " HTTP/1.1", "Host: fed-gw.example.com", "Connection: close"}, header...)
	_, err = io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n")
	require.NoError(t, err)
	method, _, _ := strings.Cut(line, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err, line)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

// bearer is a good token's header.
func (f *fed) bearer(t *testing.T) string {
	return "Authorization: Bearer " + f.idp.token(t, nil, nil)
}
