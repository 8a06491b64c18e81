package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// TestOtherNamespaces: what a provider tells of namespaces that it was not asked
// for is for nobody who is granted this one.
func TestOtherNamespaces(t *testing.T) {
	t.Parallel()
	secrets, err := answering(t, 200, `[{"name":"a","namespace":"dev"},{"name":"b","namespace":"prod"},{"name":"c"}]`).Secrets(t.Context(), "dev")
	require.NoError(t, err)
	require.Len(t, secrets, 2)
	require.Equal(t, "ac", secrets[0].Name+secrets[1].Name)

	functions, err := answering(t, 200, `[{"name":"a","namespace":"dev"},{"name":"b","namespace":"prod"},{"name":"c"}]`).List(t.Context(), "dev")
	require.NoError(t, err)
	require.Len(t, functions, 2)

	var lines []string
	p := answering(t, 200, `{"name":"env","namespace":"prod","text":"1"}
{"name":"other","namespace":"dev","text":"2"}
{"name":"env","namespace":"dev","text":"3"}
{"text":"4"}
`)
	require.NoError(t, p.Logs(t.Context(), logs.Request{Name: "env", Namespace: "dev"}, func(m logs.Message) error {
		lines = append(lines, m.Text)
		return nil
	}))
	require.Equal(t, []string{"3", "4"}, lines)
}

// TestListedTwice: Prometheus would have nothing of a scrape with a metric twice.
func TestListedTwice(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/system/namespaces" {
			_, _ = io.WriteString(w, `["dev","dev"]`)
			return
		}
		_, _ = io.WriteString(w, `[{"name":"b"},{"name":"a","replicas":1},{"name":"b"}]`)
	}))
	t.Cleanup(server.Close)
	p := open(t, server.URL, Config{})
	names, err := p.Namespaces(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"dev"}, names)
	functions, err := p.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, functions, 2)
	require.Equal(t, "ab", functions[0].Name+functions[1].Name)
}

// TestLongList: a few MiB of JSON must not become GiB.
func TestLongList(t *testing.T) {
	t.Parallel()
	for _, item := range []string{"{}", "null"} {
		p := answering(t, 200, "["+strings.Repeat(item+",", maxItems-1)+item+"]")
		functions, err := p.List(t.Context(), "dev")
		require.NoError(t, err)
		require.Len(t, functions, 1, "they all have the same name")

		_, err = answering(t, 200, "["+strings.Repeat(item+",", maxItems)+item+"]").List(t.Context(), "dev")
		require.ErrorContains(t, err, "more than 65536 items")
	}
	for body, want := range map[string]string{`null`: "", `[]`: "", `{}`: "want a list", `"x"`: "want a list", `[1]`: "cannot unmarshal"} {
		secrets, err := answering(t, 200, body).Secrets(t.Context(), "dev")
		if want != "" {
			require.ErrorContains(t, err, want, body)
			continue
		}
		require.NoError(t, err, body)
		require.NotNil(t, secrets, "clients want [] and not null")
	}
}

// TestNobodyWaits: the question for a function ends with the last who waits for
// its answer.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	t.Cleanup(server.Close)
	p := open(t, server.URL, Config{})
	bored := errors.New("bored")
	waiting, leave := context.WithCancelCause(t.Context())
	left := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := p.Endpoint(waiting, env)
			left <- err
		}()
	}
	<-asked
	leave(bored)
	require.ErrorIs(t, <-left, bored)
	require.ErrorIs(t, <-left, bored)
	select {
	case <-ended:
	case <-time.After(askTimeout / 2):
		t.Fatal("the question is still open")
	}
	p.mu.Lock()
	require.Empty(t, p.searches)
	p.mu.Unlock()
}

// TestNamespaceDeleted: functions go with their namespace.
func TestNamespaceDeleted(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	s.status.Replicas, s.status.AvailableReplicas = 1, 1
	p := open(t, s.URL, Config{})
	_, err := p.Endpoint(t.Context(), env)
	require.NoError(t, err)
	require.NoError(t, p.DeleteNamespace(t.Context(), "dev"))
	_, err = p.Endpoint(t.Context(), env)
	require.ErrorIs(t, err, provider.ErrNotFound)
}

// TestHost: what stands before the provider, and routes by Host, is not for the
// caller to steer.
func TestHost(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/system/") {
			_, _ = io.WriteString(w, "{}")
			return
		}
		_, _ = io.WriteString(w, r.Host+" "+r.RequestURI+" "+r.Header.Get("X-Forwarded-Host"))
	}))
	t.Cleanup(server.Close)
	e, err := open(t, server.URL, Config{}).Endpoint(t.Context(), env)
	require.NoError(t, err)
	require.Equal(t, server.Listener.Addr().String()+" /function/env.dev/a gateway.test", forward(t, e, "/a"))
}

// TestNoProxy: the password is for the provider, and for no proxy of the
// environment's.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	require.Nil(t, newClient().Transport.(*http.Transport).Proxy)
}
