package events

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

const secret = "a secret of some length"

func newHook(t *testing.T, address string, client *http.Client, timeout time.Duration) *Webhook {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("\n"+secret+" \n"), 0o600))
	w, err := NewWebhook(WebhookConfig{URL: u, SecretFile: file, Client: client, Timeout: timeout})
	require.NoError(t, err)
	return w
}

func batch(t *testing.T, n int64) Batch {
	t.Helper()
	b := Batch{Type: types.TypeFunctionUsage, ID: "1ffe0a47-0c27-4b6c-b8a8-2b1c2b0b7c11"}
	for i := range n {
		line, err := encode(usage(i))
		require.NoError(t, err)
		b.Lines = append(b.Lines, line...)
	}
	return b
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	var body []byte
	var header http.Header
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(server.Close)
	w := newHook(t, server.URL+"/hook?token=hunter2", server.Client(), 0)
	require.NoError(t, w.Deliver(t.Context(), batch(t, 2)))
	require.Equal(t, "application/json", header.Get("Content-Type"))
	require.Equal(t, "function_usage", header.Get("X-Openfaas-Event"))
	require.Equal(t, "1ffe0a47-0c27-4b6c-b8a8-2b1c2b0b7c11", header.Get("X-Openfaas-Delivery"))
	require.Equal(t, sign([]byte(secret), body), header.Get("X-Openfaas-Signature-256"))
	var got []types.FunctionUsageEvent
	require.NoError(t, json.Unmarshal(body, &got))
	require.Equal(t, []types.FunctionUsageEvent{usage(0).(types.FunctionUsageEvent), usage(1).(types.FunctionUsageEvent)}, got)

	// The secret is replaced.
	require.NoError(t, os.WriteFile(w.secretFile, []byte("another secret"), 0o600))
	require.NoError(t, w.Deliver(t.Context(), batch(t, 1)))
	require.Equal(t, sign([]byte("another secret"), body), header.Get("X-Openfaas-Signature-256"))
	require.NoError(t, os.Truncate(w.secretFile, 3))
	require.ErrorContains(t, w.Deliver(t.Context(), batch(t, 1)), "holds 3 bytes, want a secret of at least 8")

	w = newHook(t, server.URL+"/hook?token=hunter2", http.DefaultClient, 0)
	err := w.Deliver(t.Context(), batch(t, 1))
	require.ErrorContains(t, err, "certificate")
	require.NotContains(t, err.Error(), "hunter2")
}

// TestSignature: RFC 4231, test case 2.
func TestSignature(t *testing.T) {
	t.Parallel()
	require.Equal(t, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", sign([]byte("Jefe"), []byte("what do ya want for nothing?")))
}

func TestWebhookRefuses(t *testing.T) {
	t.Parallel()
	redirected := false
	mux := http.NewServeMux()
	mux.HandleFunc("/status/", func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/status/%d", &status)
		w.Header().Set("Location", "/else")
		w.WriteHeader(status)
	})
	mux.HandleFunc("/else", func(http.ResponseWriter, *http.Request) { redirected = true })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for _, status := range []int{301, 302, 303, 304, 307, 308, 400, 401, 404, 410, 429, 500, 503} {
		w := newHook(t, fmt.Sprintf("%s/status/%d?token=hunter2", server.URL, status), http.DefaultClient, 0)
		err := w.Deliver(t.Context(), batch(t, 1))
		require.EqualError(t, err, fmt.Sprintf("the webhook at %s answered %d, want 2xx", strings.TrimPrefix(server.URL, "http://"), status))
	}
	require.False(t, redirected)
	for _, status := range []int{200, 201, 204, 299} {
		require.NoError(t, newHook(t, fmt.Sprintf("%s/status/%d", server.URL, status), http.DefaultClient, 0).Deliver(t.Context(), batch(t, 1)))
	}
	err := newHook(t, "http://127.0.0.1:"+freeport.Take()+"/?token=hunter2", http.DefaultClient, 0).Deliver(t.Context(), batch(t, 1))
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "hunter2")
}

// TestWebhookHangs has answers that do not come, do not end, or end in the middle.
func TestWebhookHangs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		taken  bool
	}{
		"no answer":           {"", false},
		"half a header":       {"HTTP/1.1 200 OK\r\nContent-Le", false},
		"no body":             {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", true},
		"endless body":        {"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + strings.Repeat("x", 64<<10), true},
		"refused and no body": {"HTTP/1.1 500 OK\r\nContent-Length: 10\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				if request, err := http.ReadRequest(r); err != nil || request.Body.Close() != nil {
					return
				}
				_, _ = io.WriteString(conn, c.answer)
				_, _ = io.Copy(io.Discard, conn)
			}()
			timeout := 300 * time.Millisecond
			if strings.Contains(c.answer, "\r\n\r\n") {
				timeout = time.Hour // which nobody waits for
			}
			err = newHook(t, "http://"+l.Addr().String(), http.DefaultClient, timeout).Deliver(context.Background(), batch(t, 1))
			require.Equal(t, c.taken, err == nil, "%v", err)
		})
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := NewWebhook(WebhookConfig{URL: &url.URL{}, SecretFile: filepath.Join(dir, "missing"), Client: http.DefaultClient})
	require.ErrorIs(t, err, os.ErrNotExist)
	short := filepath.Join(dir, "short")
	require.NoError(t, os.WriteFile(short, []byte(" hunter2\n"), 0o600))
	_, err = NewWebhook(WebhookConfig{URL: &url.URL{}, SecretFile: short, Client: http.DefaultClient})
	require.EqualError(t, err, short+" holds 7 bytes, want a secret of at least 8")
}
