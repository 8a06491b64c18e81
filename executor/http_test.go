package executor

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestNewHTTPUpstream(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][3]string{
		"http://127.0.0.1:3000":      {"tcp", "127.0.0.1:3000", ""},
		"http://127.0.0.1:3000/":     {"tcp", "127.0.0.1:3000", ""},
		"http://localhost/api%2Fv1/": {"tcp", "localhost:80", "/api%2Fv1"},
		"http://[::1]/":              {"tcp", "[::1]:80", ""},
		"unix:///run/f.sock":         {"unix", "/run/f.sock", ""},
	} {
		h, err := NewHTTP(Config{Upstream: mustURL(in)})
		require.NoError(t, err)
		require.Equal(t, want, [3]string{h.network, h.address, string(h.prefix)}, in)
	}
	_, err := NewHTTP(Config{})
	require.Error(t, err)
	_, err = NewHTTP(Config{Upstream: mustURL("https://x")})
	require.Error(t, err)
}
