package upstream

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// answering returns a provider whose every answer is this one.
func answering(t *testing.T, status int, body string) *Provider {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			t.Errorf("a redirect was followed, with %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	require.NoError(t, err)
	p, err := New(Config{URL: base, User: "admin", Password: "pw"})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		passed *provider.Error // nil = ErrNotFound, or the text below
		text   string
	}{
		{409, " it is there already\n", &provider.Error{Status: 409, Message: "it is there already"}, ""},
		{500, "", &provider.Error{Status: 500, Message: "the functions provider answered 500 Internal Server Error"}, ""},
		{400, strings.Repeat("x", 1<<20), &provider.Error{Status: 400, Message: strings.Repeat("x", maxMessage)}, ""},
		{400, "\xff", &provider.Error{Status: 400, Message: "?"}, ""},
		{404, "no", nil, ""},
		{401, "who", nil, "basic-auth-password"},
		{403, "who", nil, "basic-auth-password"},
		{407, "who", nil, "basic-auth-password"},
		{307, "", nil, "want 2xx"},
	} {
		p := answering(t, c.status, c.body)
		err := p.Deploy(t.Context(), types.FunctionDeployment{Service: "env", Namespace: "dev"})
		var refused *provider.Error
		switch {
		case c.passed != nil:
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.passed, refused)
		case c.text != "":
			require.False(t, errors.As(err, &refused), "%d is no answer for our caller", c.status)
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "who")
		default:
			require.ErrorIs(t, err, provider.ErrNotFound)
		}
	}
}

func TestInfoOfGateway(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"provider":"faas-netes","orchestration":"kubernetes","version":{"release":"1"}}`,
		`{"provider":{"provider":"faas-netes","orchestration":"kubernetes","version":{"release":"1"}},"version":{"release":"9"},"arch":"x86_64"}`,
	} {
		i, err := answering(t, 200, body).Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, types.ProviderInfo{Name: "faas-netes", Orchestration: "kubernetes", Version: &types.VersionInfo{Release: "1"}}, i)
	}
	_, err := answering(t, 200, `{"provider":7}`).Info(t.Context())
	require.ErrorContains(t, err, "bad JSON")
}

// TestListWithoutNamespaces: a provider that knows no namespaces has functions
// all the same.
func TestListWithoutNamespaces(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/system/functions?namespace=" {
			w.WriteHeader(http.StatusNotImplemented)
			return
		}
		_, _ = io.WriteString(w, `[{"name":"env"}]`)
	}))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	require.NoError(t, err)
	p, err := New(Config{URL: base})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	functions, err := p.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, functions, 1)
}

// TestLogsProvider: logs come from it, and all else from the functions provider.
func TestLogsProvider(t *testing.T) {
	t.Parallel()
	functions := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/system/function/env" {
			t.Errorf("the functions provider is asked for %s", r.URL.Path)
		}
		_, _ = io.WriteString(w, `{"name":"env"}`)
	}))
	t.Cleanup(functions.Close)
	loki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.RequestURI != "/loki/system/logs?follow=false&name=env&namespace=dev&tail=2" || user != "admin" || password != "pw" {
			t.Errorf("the logs provider is asked for %s by %q %q", r.RequestURI, user, password)
		}
		_, _ = io.WriteString(w, `{"name":"env","text":"hello"}`+"\n")
	}))
	t.Cleanup(loki.Close)
	base, err := url.Parse(functions.URL)
	require.NoError(t, err)
	logsBase, err := url.Parse(loki.URL + "/loki/")
	require.NoError(t, err)
	p, err := New(Config{URL: base, Logs: logsBase, User: "admin", Password: "pw"})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	_, err = p.Status(t.Context(), provider.Function{Namespace: "dev", Name: "env"}, false)
	require.NoError(t, err)
	var lines []string
	require.NoError(t, p.Logs(t.Context(), logs.Request{Name: "env", Namespace: "dev", Tail: 2}, func(m logs.Message) error {
		lines = append(lines, m.Text)
		return nil
	}))
	require.Equal(t, []string{"hello"}, lines)
}

func TestBadLogs(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"<html>\n", `{"text":"` + strings.Repeat("x", maxLine) + `"}`} {
		err := answering(t, 200, body).Logs(t.Context(), logs.Request{Name: "env", Namespace: "dev"}, func(logs.Message) error { return nil })
		require.ErrorContains(t, err, "functions provider")
	}
}
