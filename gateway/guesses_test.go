package gateway

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func asPassword(password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))
}

// guess tries new passwords at target until it is not told whether they are right.
func (a *api) guess(t *testing.T, target string, headers ...string) (answered int) {
	t.Helper()
	for answered = range 50 {
		res, body := a.sendRaw(t, "GET", target, asPassword(fmt.Sprint(time.Now().UnixNano())), "", headers...)
		if res.StatusCode == http.StatusTooManyRequests {
			require.Equal(t, "1", res.Header.Get("Retry-After"))
			require.Equal(t, "too many wrong passwords were tried: try again in a second\n", body)
			require.Empty(t, res.Header.Values("WWW-Authenticate"))
			return answered
		}
		require.Equal(t, http.StatusUnauthorized, res.StatusCode)
	}
	return 50
}

// TestGuesses: passwords are tried at /system/ as slowly as at the dashboard's form,
// by who tries them, and by nobody else.
func TestGuesses(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	list := func(authorization string, headers ...string) int {
		status, _ := a.send(t, "GET", "/system/functions", authorization, "", headers...)
		return status
	}
	behind := "x-forwarded-for: 203.0.113.1, 192.0.2.1" // a proxy's spelling
	require.GreaterOrEqual(t, a.guess(t, "/system/functions", behind), 10)
	require.Eventually(t, func() bool { return list(asAdmin, behind) == 200 }, 10*time.Second, 50*time.Millisecond, "an operator there gets in")
	a.guess(t, "/validate", behind)
	require.Equal(t, 200, list(asAdmin, "X-Forwarded-For: 192.0.2.1, 192.0.2.2"), "others behind the proxy do not notice")
	require.Equal(t, 200, list(asAdmin))
	for range 50 {
		require.Equal(t, 401, list("Bearer nonsense"), "that is no password")
		require.Equal(t, 401, list(asPassword("old")), "one that is not given up is one guess")
		require.Equal(t, 200, list(asAdmin))
	}
	a.guess(t, "/system/functions")
	require.Equal(t, 200, list(asAdmin, "X-Gatehound-Pass: "+a.gateway.config.Guesses.Pass()), "the dashboard's sessions")
	require.Equal(t, 401, list(asPassword("x"), "X-Gatehound-Pass: "+a.gateway.config.Guesses.Pass()), "and its form, which counts")
	a.guess(t, "/system/functions", "X-Gatehound-Pass: x")
	a.grant(t, "Function:List", "*")
	require.Equal(t, 200, list("Bearer "+a.token(t, nil)), "tokens are not guessed")
}

// TestGuessesAtAPlugin: where a plugin knows the passwords, its answers are counted.
func TestGuessesAtAPlugin(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, password, sent := r.BasicAuth(); sent && password != "pw" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	a := newFront(t, p.URL, nil)
	require.GreaterOrEqual(t, a.guess(t, "/system/functions"), 10)
	status, _ := a.send(t, "GET", "/system/functions", "", "")
	require.Equal(t, 200, status, "it goes by something else")
	status, _ = a.send(t, "GET", "/system/functions", asAdmin, "", "X-Forwarded-For: 192.0.2.1")
	require.Equal(t, 200, status)
	status, _ = a.send(t, "GET", "/system/functions", asAdmin, "", "X-Gatehound-Pass: "+a.gateway.config.Guesses.Pass())
	require.Equal(t, 200, status)
	_, last, _ := p.take()
	require.Empty(t, last.Header.Values("X-Gatehound-Pass"), "it is not for others")
	p.Close()
	status, _ = a.send(t, "GET", "/system/functions", asPassword("another"), "")
	require.Equal(t, http.StatusBadGateway, status, "nobody knows whether it is right")
}
