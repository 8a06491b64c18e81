package login

import (
	"context"
	"errors"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// listen takes a free port.
func listen(t *testing.T) *Callback {
	t.Helper()
	port, err := strconv.Atoi(freeport.Take())
	require.NoError(t, err)
	c, err := Listen(CallbackConfig{Port: port})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// await has c await a in the background.
func await(t *testing.T, c *Callback, a Attempt, finish func(context.Context, url.Values) error) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- c.Await(t.Context(), a, finish) }()
	return ended
}

// visit gets a page as a browser would, and returns where it ended.
func visit(t *testing.T, req *http.Request) (at string, status int, text string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NotEmpty(t, res.Header.Get("Content-Security-Policy"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, "no-referrer", res.Header.Get("Referrer-Policy"))
	return res.Request.URL.RequestURI(), res.StatusCode, html.UnescapeString(string(body))
}

func get(t *testing.T, address string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	return req
}

func TestCallback(t *testing.T) {
	t.Parallel()
	c := listen(t)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/oauth/callback$`, c.RedirectURL)
	a := Attempt{State: "the-state", Verifier: "v"}
	got := make(chan url.Values, 9)
	ended := await(t, c, a, func(_ context.Context, query url.Values) error { got <- query; return nil })

	// What is not it does not end it.
	end := strings.Replace(c.RedirectURL, callbackPath, endPath, 1)
	_, status, text := visit(t, get(t, end))
	require.Equal(t, 404, status)
	require.Contains(t, text, "Not logged in yet")
	for _, query := range []string{"", "?code=x", "?code=x&state=other", "?state=&code=x"} {
		_, status, text = visit(t, get(t, c.RedirectURL+query))
		require.Equal(t, 400, status)
		require.Contains(t, text, "does not belong to the login")
	}
	_, _, text = visit(t, get(t, c.RedirectURL+"?error=invalid_request&error_description=<script>no+such+client"))
	require.Contains(t, text, "invalid_request: <script>no such client")
	rebound := get(t, c.RedirectURL+"?code=x&state=the-state")
	rebound.Host = "evil.example:31111"
	res, err := http.DefaultClient.Do(rebound)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusMisdirectedRequest, res.StatusCode)
	post, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.RedirectURL, strings.NewReader("fragment=state%3Dthe-state"))
	require.NoError(t, err)
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, status, _ = visit(t, post)
	require.Equal(t, 404, status, "a code does not come in a fragment")
	require.Empty(t, got)

	at, status, text := visit(t, get(t, c.RedirectURL+"?code=the-code&state=the-state"))
	require.Equal(t, endPath, at, "the code does not stay in the address")
	require.Equal(t, 200, status)
	require.Contains(t, text, "You are logged in")
	require.NoError(t, <-ended)
	require.Equal(t, "the-code", (<-got).Get("code"))
	require.Empty(t, got)
	_, err = net.DialTimeout("tcp", strings.TrimPrefix(strings.TrimSuffix(c.RedirectURL, callbackPath), "http://"), time.Second)
	require.Error(t, err, "it listens for one login")
}

// TestCallbackOnce: a browser that sends the answer twice ends one login.
func TestCallbackOnce(t *testing.T) {
	t.Parallel()
	c := listen(t)
	release := make(chan bool)
	calls := 0
	ended := await(t, c, Attempt{State: "s", Verifier: "v"}, func(context.Context, url.Values) error {
		calls++
		<-release
		return errors.New("the gateway says: <no>")
	})
	// Nobody is sent on before both have come: that would end it.
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	texts := make(chan string)
	for range 2 {
		go func() {
			res, err := browser.Get(c.RedirectURL + "?state=s&code=c")
			if err != nil {
				texts <- err.Error()
				return
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			texts <- res.Header.Get("Location") + string(body)
		}()
	}
	close(release)
	both := <-texts + <-texts
	require.Contains(t, both, endPath)
	require.Contains(t, both, "the gateway says: &lt;no&gt;")
	_, _, text := visit(t, get(t, strings.Replace(c.RedirectURL, callbackPath, endPath, 1)))
	require.Contains(t, text, "The login failed")
	require.EqualError(t, <-ended, "the gateway says: <no>")
	require.Equal(t, 1, calls)
}

func TestCallbackFragment(t *testing.T) {
	t.Parallel()
	c := listen(t)
	got := make(chan url.Values, 1)
	ended := await(t, c, Attempt{State: "s"}, func(_ context.Context, fragment url.Values) error { got <- fragment; return nil })
	_, status, text := visit(t, get(t, c.RedirectURL))
	require.Equal(t, 200, status)
	// The policy lets exactly this script and style run.
	for kind, element := range map[string]string{"script-src": "script", "style-src": "style"} {
		source := regexp.MustCompile(`(?s)<` + element + `>(.*)</` + element + `>`).FindStringSubmatch(text)
		require.NotNil(t, source)
		require.Contains(t, policy, kind+" "+hash(source[1]))
	}
	require.Contains(t, text, "history.replaceState")

	for _, body := range []string{"fragment=%25zz", "fragment=" + strings.Repeat("a", 300<<10)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.RedirectURL, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		_, status, _ = visit(t, req)
		require.Equal(t, 400, status)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.RedirectURL,
		strings.NewReader(url.Values{"fragment": {"state=s&id_token=the-token"}}.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	at, _, text := visit(t, req)
	require.Equal(t, endPath, at)
	require.Contains(t, text, "You are logged in")
	require.NoError(t, <-ended)
	require.Equal(t, "the-token", (<-got).Get("id_token"))
}

func TestCallbackEnds(t *testing.T) {
	t.Parallel()
	c := listen(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	require.EqualError(t, c.Await(ctx, Attempt{State: "s", Verifier: "v"}, nil), "interrupted")
}

// TestLocalhost: a browser that takes localhost for ::1 comes to us, or the login
// does not begin.
func TestLocalhost(t *testing.T) {
	t.Parallel()
	free := listen(t)
	free.Close()
	u, err := url.Parse(free.RedirectURL)
	require.NoError(t, err)
	port, err := net.LookupPort("tcp", u.Port())
	require.NoError(t, err)
	six := "[::1]:" + u.Port()
	others, err := net.Listen("tcp", six)
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	for _, host := range []string{"http://localhost", "http://[::1]"} {
		_, err = Listen(CallbackConfig{Port: port, RedirectHost: host})
		require.ErrorContains(t, err, six)
	}
	c, err := Listen(CallbackConfig{Port: port})
	require.NoError(t, err, "127.0.0.1 is nobody else's")
	require.NoError(t, c.Close())
	require.NoError(t, others.Close())

	for _, host := range []string{"http://localhost", "http://[::1]"} {
		c, err := Listen(CallbackConfig{Port: port, RedirectHost: host})
		require.NoError(t, err)
		ended := await(t, c, Attempt{State: "s", Verifier: "v"}, func(context.Context, url.Values) error { return nil })
		req := get(t, "http://"+six+callbackPath+"?state=s&code=c")
		req.Host = strings.TrimPrefix(host, "http://") + ":" + u.Port()
		_, _, text := visit(t, req)
		require.Contains(t, text, "You are logged in")
		require.NoError(t, <-ended)
		require.False(t, answers(six))
	}
}

func TestRedirectHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"":                          "http://127.0.0.1:PORT/oauth/callback",
		"http://localhost":          "http://localhost:PORT/oauth/callback",
		"localhost":                 "http://localhost:PORT/oauth/callback",
		"https://me.example.com":    "https://me.example.com:PORT/oauth/callback",
		"https://me.example.com:8/": "https://me.example.com:8/oauth/callback",
		"http://h/path":             "",
		"ftp://h":                   "",
		"http://h?q":                "",
	} {
		free := listen(t)
		free.Close()
		u, err := url.Parse(free.RedirectURL)
		require.NoError(t, err)
		port := u.Port()
		number, err := net.LookupPort("tcp", port)
		require.NoError(t, err)
		c, err := Listen(CallbackConfig{Port: number, RedirectHost: host})
		if want == "" {
			require.Error(t, err, host)
			continue
		}
		require.NoError(t, err, host)
		require.Equal(t, strings.Replace(want, "PORT", port, 1), c.RedirectURL)
		_, err = Listen(CallbackConfig{Port: number})
		require.ErrorContains(t, err, "address already in use")
		c.Close()
	}
}
