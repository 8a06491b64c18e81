package gateway

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// TestRequestID: whatever a caller sends, each line about its request has one
// sane ID, which is on the answer.
func TestRequestID(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for name, c := range map[string]struct {
		headers []string
		kept    bool
	}{
		"none":        {nil, false},
		"usual":       {[]string{"X-Request-Id: 41f49e49-9be2"}, true},
		"other case":  {[]string{"x-request-ID: mine"}, true},
		"any visible": {[]string{`X-Request-Id: !#"\{}~`}, true},
		"longest":     {[]string{"X-Request-Id: " + strings.Repeat("x", 128)}, true},
		"too long":    {[]string{"X-Request-Id: " + strings.Repeat("x", 129)}, false},
		"empty":       {[]string{"X-Request-Id:"}, false},
		"space":       {[]string{"X-Request-Id: a b"}, false},
		"not ASCII":   {[]string{"X-Request-Id: \xc3\xa9"}, false},
		"twice":       {[]string{"X-Request-Id: a", "x-request-id: b"}, false},
		"tab":         {[]string{"X-Request-Id: a\tb"}, false},
	} {
		res, _ := a.sendRaw(t, "GET", "/system/"+strings.ReplaceAll(name, " ", "-"), "", "", c.headers...)
		require.Equal(t, 401, res.StatusCode, name)
		ids := res.Header.Values("X-Request-Id")
		require.Len(t, ids, 1, name)
		if c.kept {
			_, given, _ := strings.Cut(c.headers[0], ": ")
			require.Equal(t, given, ids[0])
		} else {
			require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f-]{27}$`, ids[0], name)
		}
		require.Equal(t, ids[0], a.lastLine(t)["request_id"], name)
	}
}

func TestAppendID(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		text := string(appendID([]byte("id ")))
		id, err := uuid.Parse(strings.TrimPrefix(text, "id "))
		require.NoError(t, err)
		require.Equal(t, "id "+id.String(), text)
		require.Equal(t, uuid.Version(4), id.Version())
		require.Equal(t, uuid.RFC4122, id.Variant())
		require.False(t, seen[text], "twice")
		seen[text] = true
	}
}

// lastLine returns the last line of the log.
func (a *api) lastLine(t *testing.T) map[string]any {
	t.Helper()
	all := strings.Split(strings.TrimSpace(a.log.String()), "\n")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(all[len(all)-1]), &line))
	return line
}

// TestLinesAreNamed: every line about a request has its ID, and every line about
// a call that of the call.
func TestLinesAreNamed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Log = c.Log.Level(zerolog.DebugLevel) })
	token := "Bearer " + a.token(t, nil)
	id := "X-Request-Id: mine"
	a.send(t, "GET", "/system/info", "", "", id)
	a.send(t, "GET", "/system/info", token, "", id)
	a.send(t, "GET", "/system/info", asAdmin, "", id)
	a.send(t, "POST", "/oauth/token", "", "grant_type=x", id)
	a.send(t, "GET", "/healthz", "", "", id)
	a.send(t, "POST", "/validate", asAdmin, "", id)
	a.send(t, "POST", "/system/alert", asAdmin, `{"alerts":[{"status":"firing","labels":{"function_name":"env.dev"}}]}`, id)
	a.mu.Lock()
	a.fail = provider.ErrNotFound
	a.mu.Unlock()
	a.send(t, "DELETE", "/system/functions", asAdmin, `{"functionName":"env"}`, id)
	a.send(t, "GET", "/function/NO", "", "", id, "X-Call-Id: no call")
	a.send(t, "GET", "/function/nope", "", "", id, "X-Call-Id: night")
	require.Eventually(t, func() bool { return strings.Contains(a.log.String(), "night") }, 20*time.Second, time.Millisecond)
	calls := 0
	for line := range strings.SplitSeq(strings.TrimSpace(a.log.String()), "\n") {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		switch path, _ := fields["path"].(string); {
		case path == "/function/nope":
			calls++
			require.Equal(t, "night", fields["call_id"], line)
		case strings.HasPrefix(fields["message"].(string), "error when"): // about a connection
		default:
			require.Equal(t, "mine", fields["request_id"], line)
		}
	}
	require.Equal(t, 1, calls)
}
