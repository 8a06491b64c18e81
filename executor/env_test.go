package executor

import (
	"bufio"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/executor/reverseproxy"
)

func parseHeader(t testing.TB, raw string) *fasthttp.RequestHeader {
	h := &fasthttp.RequestHeader{}
	h.DisableNormalizing()
	require.NoError(t, h.Read(bufio.NewReader(strings.NewReader(raw))), raw)
	return h
}

func TestRequestEnv(t *testing.T) {
	t.Parallel()
	base := []string{"PATH=/bin", "Http_Method=FAKE", "Http_Methods=x"}
	for _, c := range []struct {
		name, headers, target string
		want                  []string // without the length
	}{
		{"plain", "x-call-id: 7\r\nUser-Agent: curl\r\n", "/a%20b/c?q=%20&r",
			[]string{"Http_X_Call_Id=7", "Http_User_Agent=curl", "Http_Method=POST", "Http_Query=q=%20&r", "Http_Path=/a b/c"}},
		{"all values", "X-A: 1\r\nCookie: a=1\r\nx-a: 2\r\nX-B: \r\nX-A: 3, 4\r\ncookie: b=2\r\n", "/",
			[]string{"Http_X_A=1, 2, 3, 4", "Http_Cookie=a=1; b=2", "Http_X_B=", "Http_Method=POST", "Http_Path=/"}},
		{"Authorization is passed", "authorization: Bearer t\r\n", "/",
			[]string{"Http_Authorization=Bearer t", "Http_Method=POST", "Http_Path=/"}},
		{"underscore does not shadow a hyphen", "X_User: evil\r\nX-User: good\r\n", "/",
			[]string{"Http_X_User=good", "Http_Method=POST", "Http_Path=/"}},
		{"underscore alone", "X_User: evil\r\n", "/", []string{"Http_Method=POST", "Http_Path=/"}},
		{"our own names", "Method: GET\r\npath: /x\r\nQuery: q\r\nProxy: evil:1\r\n", "/",
			[]string{"Http_Method=POST", "Http_Path=/"}},
		{"chunked", "Transfer-Encoding: chunked\r\n", "/",
			[]string{"Http_Method=POST", "Http_Path=/", "Http_Transfer_Encoding=chunked"}},
	} {
		raw := "POST " + c.target + " HTTP/1.1\r\nHost: fn\r\n" + c.headers + "\r\n"
		env, err := requestEnv(parseHeader(t, raw), []byte(c.target))
		require.NoError(t, err, c.name)
		got := slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, "Http_Content_Length=") })
		require.Equal(t, c.want, got, c.name)
		require.Equal(t, append([]string{"PATH=/bin", "Http_Methods=x"}, env...), override(base, env), c.name)
	}
	for _, target := range []string{"/%00", "/%zz", "/%", "/a?\x00"} {
		_, err := requestEnv(parseHeader(t, "GET / HTTP/1.1\r\nHost: fn\r\n\r\n"), []byte(target))
		require.ErrorIs(t, err, reverseproxy.ErrBadBody, "%q", target)
	}
}

func FuzzRequestEnv(f *testing.F) {
	f.Add("X-A", "v", "/p?q")
	f.Add("Http_Method", "GET", "/%2f%41")
	f.Add("Transfer-Encoding", "chunked", "/\xff?%00")
	f.Add("Method", "\x01", "*")
	f.Fuzz(func(t *testing.T, name, value, target string) {
		h := &fasthttp.RequestHeader{}
		h.DisableNormalizing()
		raw := "PUT / HTTP/1.1\r\nHost: fn\r\n" + name + ": " + value + "\r\n\r\n"
		if h.Read(bufio.NewReader(strings.NewReader(raw))) != nil {
			return
		}
		env, err := requestEnv(h, []byte(target))
		if err != nil {
			return
		}
		// What a process sees: os/exec's own rules, the last one wins.
		cmd := exec.Command("true")
		cmd.Env = override([]string{"Http_Method=x"}, env)
		seen := map[string]string{}
		for _, kv := range cmd.Environ() {
			k, v, ok := strings.Cut(kv, "=")
			require.True(t, ok)
			seen[k] = v
		}
		require.Equal(t, "PUT", seen["Http_Method"])
		for _, kv := range env {
			require.True(t, strings.HasPrefix(kv, "Http_"), kv)
			require.NotContains(t, kv, "\x00")
		}
		names := map[string]bool{}
		for _, kv := range env {
			k, _, _ := strings.Cut(kv, "=")
			require.False(t, names[k], "%s is set twice", k)
			names[k] = true
		}
	})
}
