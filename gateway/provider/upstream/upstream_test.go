package upstream

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

func TestProvider(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		user, password, _ := r.BasicAuth()
		if user != "admin" || password != "pw" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.RequestURI {
		case "/api/system/function/env?namespace=dev":
			_ = json.NewEncoder(w).Encode(types.FunctionStatus{Name: "env"})
		case "/api/system/functions?namespace=dev":
			_ = json.NewEncoder(w).Encode([]types.FunctionStatus{{Name: "env", Namespace: "dev"}})
		case "/api/system/function/odd?namespace=dev":
			_, _ = w.Write([]byte("<html>"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL + "/api/")
	require.NoError(t, err)
	p, err := New(Config{URL: base, User: "admin", Password: "pw"})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	ctx := context.Background()

	for range 3 {
		e, err := p.Endpoint(ctx, provider.Function{Namespace: "dev", Name: "env"})
		require.NoError(t, err)
		require.Equal(t, "/api/function/env.dev", e.Prefix)
	}
	require.EqualValues(t, 1, asked.Load(), "a function that exists is not asked for at every call")

	for range 2 {
		_, err = p.Endpoint(ctx, provider.Function{Namespace: "dev", Name: "nope"})
		require.ErrorIs(t, err, provider.ErrNotFound)
	}
	require.EqualValues(t, 3, asked.Load(), "one that does not exist is")

	_, err = p.Endpoint(ctx, provider.Function{Namespace: "dev", Name: "odd"})
	require.ErrorContains(t, err, "bad JSON")
	functions, err := p.List(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, "env", functions[0].Name)

	stranger, err := New(Config{URL: base})
	require.NoError(t, err)
	_, err = stranger.List(ctx, "dev")
	require.ErrorContains(t, err, "401")
	_, err = New(Config{URL: &url.URL{Scheme: "https", Host: "p"}})
	require.ErrorContains(t, err, "http://")
}
