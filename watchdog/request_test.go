package watchdog

import (
	"log"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHumanSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{ // as docker/go-units' HumanSize prints them
		0: "0B", 39: "39B", 999: "999B", 1000: "1kB", 1024: "1.024kB", 1234: "1.234kB", 12345: "12.35kB",
		999999: "1000kB", 1e6: "1MB", 300e6: "300MB", 5_368_709_120: "5.369GB", -1: "-1B",
	} {
		require.Equal(t, want, string(appendSize(nil, n)), n)
	}
}

func TestAppendSeconds(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, 1, 499, 501, 49_999, 50_001, 999_999_499, 999_999_501, 999_949_999, 999_951_000, time.Second, 59*time.Minute + 7*time.Millisecond, 1000 * time.Hour} {
		for _, digits := range []int{4, 6} {
			require.Equal(t, strconv.FormatFloat(d.Seconds(), 'f', digits, 64), string(appendSeconds(nil, d, digits)), d)
		}
	}
	require.Equal(t, "0.0000", string(appendSeconds(nil, -time.Second, 4)), "a clock that was set back")
}

// TestAccessLines compares the lines' date to the standard logger's.
func TestAccessLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ours, theirs strings.Builder
		lines, logger := accessLines{out: &ours}, log.New(&theirs, "", log.LstdFlags)
		for i := range 5 {
			a := access{method: "GET", target: "/" + strconv.Itoa(i), status: 200}
			lines.write(a, time.Now())
			logger.Output(0, string(a.appendText(nil)))
			time.Sleep(700 * time.Millisecond)
		}
		require.Equal(t, theirs.String(), ours.String())
		require.Equal(t, 5, strings.Count(ours.String(), "\n"))
	})
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a":                            "/a",
		"/a?b=c&d":                      "/a?b=c&d",
		"/token=x?b=c":                  "/token=x?b=c",
		"/a?access_token=ey.J.x&b=c":    "/a?access_token=[hidden]&b=c",
		"/a?b=c&Subject_Token=x=y":      "/a?b=c&Subject_Token=[hidden]",
		"/a?access%5Ftoken=x":           "/a?access%5Ftoken=[hidden]",
		"/a?%74oken=x&%zztoken=y":       "/a?%74oken=[hidden]&%zztoken=[hidden]",
		"/a?client_secret=x?y&token&z=": "/a?client_secret=[hidden]&token&z=",
		"/a?X-Amz-Signature=x&sig=y":    "/a?X-Amz-Signature=[hidden]&sig=[hidden]",
		"/a?jwt=x&authorization=y":      "/a?jwt=[hidden]&authorization=[hidden]",
		"/a?design=x":                   "/a?design=x",
	} {
		require.Equal(t, want, redact(in))
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	require.Equal(t, `/a\x0a2024 GET\x1b[31m\x7f\xc3\xa9`, escape("/a\n2024 GET\x1b[31m\x7fé"))
}

func TestOriginForm(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/a?b": "/a?b", "http://h/a?b": "/a?b", "http://h": "/", "http://h?q=/x": "/?q=/x", "*": "*", "//x/_/health": "//x/_/health",
		"/a?u=http://x": "/a?u=http://x",
	} {
		require.Equal(t, want, string(originForm([]byte(in))))
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("/a?access_token=x&b")
	f.Add("http://u:p@h?token=%zz")
	f.Fuzz(func(t *testing.T, s string) {
		line := escape(redact(string(originForm([]byte(s)))))
		require.False(t, strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }))
		_, query, _ := strings.Cut(line, "?")
		for _, p := range strings.Split(query, "&") {
			if v, ok := strings.CutPrefix(p, "access_token="); ok {
				require.Equal(t, "[hidden]", v)
			}
		}
	})
}

func TestShorter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit  time.Duration
		header string
		want   time.Duration
	}{
		{time.Minute, "", time.Minute},
		{time.Minute, "2s", 2 * time.Second},
		{time.Minute, "2m", time.Minute},
		{time.Minute, "0s", time.Minute},
		{time.Minute, "-2s", time.Minute},
		{time.Minute, "5", time.Minute},
		{0, "2s", 2 * time.Second},
		{0, "0s", 0},
	} {
		require.Equal(t, c.want, shorter(c.limit, c.header), c)
	}
}
