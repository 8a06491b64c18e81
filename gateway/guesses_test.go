package gateway

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/executor/reverseproxy"
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

// TestGuessesAtAFunction: one that shows its callers what they have sent would else
// tell strangers, as fast as they ask, whether the password was taken out.
func TestGuessesAtAFunction(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Cookie", r.Header.Get("Cookie"))
		_, _ = io.WriteString(w, "got "+strings.Join(r.Header.Values("Authorization"), ","))
	}))
	t.Cleanup(behind.Close)
	upstream := reverseproxy.New(reverseproxy.Config{Network: "tcp", Address: behind.Listener.Addr().String()})
	t.Cleanup(upstream.Close)
	a := newAPI(t, func(c *Config) { c.Provider = behindPrefix{upstream: upstream} })
	call := func(headers ...string) (int, string) { return a.send(t, "GET", "/function/env", "", "", headers...) }
	told := 0
	for i := range 50 {
		status, answer := call("Authorization: " + asPassword(fmt.Sprint(i)))
		if status == http.StatusOK {
			require.Equal(t, "got "+asPassword(fmt.Sprint(i)), answer)
			told++
		}
	}
	require.InDelta(t, 12, told, 3, "in some seconds")
	many := []string{"X-Forwarded-For: 192.0.2.1"}
	for i := range 50 {
		many = append(many, "Authorization: "+asPassword(fmt.Sprint(i)))
	}
	status, answer := call(many...)
	require.Equal(t, http.StatusTooManyRequests, status, "many in one call: %s", answer)
	require.Equal(t, "too many wrong passwords were tried: try again in a second\n", answer)
	for i := range 50 { // a function's own users
		own := "Basic " + base64.StdEncoding.EncodeToString(fmt.Append(nil, "alice:", i))
		status, answer := call("Authorization: " + own)
		require.Equal(t, 200, status)
		require.Equal(t, "got "+own, answer)
	}
	for range 50 {
		status, _ := call("Authorization: "+asPassword("the function's own"), "X-Forwarded-For: 192.0.2.2")
		require.Equal(t, 200, status, "one of the administrator's name")
	}
	status, answer = call("Authorization: "+asAdmin, "X-Forwarded-For: 192.0.2.2")
	require.Equal(t, 200, status)
	require.Equal(t, "got ", answer)
	res, _ := a.sendRaw(t, "GET", "/function/env", "", "", "X-Forwarded-For: 192.0.2.3", "Authorization: "+asPassword("x"), "Cookie: a=\"b c\"")
	require.Equal(t, `a="b c"`, res.Header.Get("X-Cookie"), "the rest of a call stays as it is")
}

// TestGuessesHoweverTheyAreSpelt: a plugin may read what we would not take for a
// password.
func TestGuessesHoweverTheyAreSpelt(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, func(w http.ResponseWriter, r *http.Request) {
		for _, value := range r.Header.Values("Authorization") {
			if fields := strings.Fields(value); len(fields) == 2 && strings.EqualFold(fields[0], "basic") && "Basic "+fields[1] == asAdmin {
				return
			}
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	for name, spell := range map[string]func(string) []string{
		"twice":  func(a string) []string { return []string{"Authorization: " + a, "Authorization: Bearer x"} },
		"second": func(a string) []string { return []string{"authorization: x", "AUTHORIZATION: " + a} },
		"tab":    func(a string) []string { return []string{"Authorization: " + strings.Replace(a, " ", "\t", 1)} },
	} {
		a := newFront(t, p.URL, nil)
		told := 0
		for i := range 50 {
			status, _ := a.send(t, "GET", "/system/functions", "", "", spell(asPassword(fmt.Sprint(i)))...)
			if status == http.StatusUnauthorized {
				told++
			}
		}
		require.InDelta(t, 12, told, 3, "%s: in some seconds", name)
		for i := range 50 {
			status, _ := a.send(t, "GET", "/system/functions", fmt.Sprint("Bearer ", i), "")
			require.Equal(t, http.StatusUnauthorized, status, "tokens are not guessed")
		}
	}
}

// TestGuessesOfThoseWhoPass: that a plugin lets somebody pass need not mean that it
// knows them. Who seems to be known at many addresses is bounded as all others.
func TestGuessesOfThoseWhoPass(t *testing.T) {
	t.Parallel()
	p := newPluginServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-Uri") != "/system/info" && r.Header.Get("Authorization") != asAdmin {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	a := newFront(t, p.URL, nil)
	began, told := time.Now(), 0
	from := func(i int) string { return fmt.Sprint("X-Forwarded-For: 192.0.2.", i) }
	for i := range 40 {
		status, _ := a.send(t, "GET", "/system/info", asPassword("x"), "", from(i))
		require.Equal(t, 200, status)
	}
	for i := range 40 {
		for j := range 10 {
			if status, _ := a.send(t, "GET", "/system/functions", asPassword(fmt.Sprint(i, j)), "", from(i)); status == http.StatusUnauthorized {
				told++
			}
		}
	}
	require.LessOrEqual(t, told, 155+20*int(time.Since(began)/time.Second+1))
}
