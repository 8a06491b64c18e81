package provider_test

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/gateway/provider/upstream"
)

// TestGatewayIsProvider runs the suite against our own gateway in front of that
// provider: nothing of the API is lost on the way through it.
func TestGatewayIsProvider(t *testing.T) {
	t.Parallel()
	conformance(t, func(t *testing.T) provider.Provider {
		behind, err := upstream.New(upstream.Config{URL: startFaas(t), User: "admin", Password: "pw"})
		require.NoError(t, err)
		t.Cleanup(behind.Close)
		p, err := upstream.New(upstream.Config{URL: startGateway(t, behind), User: "root", Password: "word"})
		require.NoError(t, err)
		t.Cleanup(p.Close)
		return p
	})
}

func startGateway(t *testing.T, behind provider.Provider) *url.URL {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-user"), []byte("root"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "basic-auth-password"), []byte("word"), 0o600))
	admin, err := basicauth.Read(dir, false)
	require.NoError(t, err)
	key, err := issuer.Generate()
	require.NoError(t, err)
	system, err := issuer.New("http://gateway.test", key)
	require.NoError(t, err)
	exchanger, err := exchange.New(exchange.Config{Issuer: system, Objects: func() *iam.Set { return nil }})
	require.NoError(t, err)
	l, err := reverseproxy.Listen("tcp", "127.0.0.1:0", time.Minute)
	require.NoError(t, err)
	g := gateway.New(gateway.Config{Provider: behind, Issuer: system, Exchange: exchanger, Admin: admin,
		DefaultNamespace: "openfaas-fn", UpstreamTimeout: 20 * time.Second, DrainTimeout: 20 * time.Second, Log: zerolog.Nop()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}
