package reverseproxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// accept names the facts that may differ from ReverseProxy's, with the reason.
type accept map[string]string

type diffRow struct {
	name, raw string
	accept    accept
}

func diffRows() []diffRow {
	const (
		strict   = "the hop refuses what two servers may frame differently; net/http repairs it"
		origin   = "the hop never rewrites a target"
		kept     = "Connection must not take away what is meant for the function"
		oneOf    = "fasthttp keeps one line of this field, the last"
		expect   = "the server has answered Expect already"
		trailers = "ReverseProxy loses the values of request trailers"
		tunnels  = "the hop is no proxy to anywhere"
		h2c      = "behind an upgrade to h2c everything would pass unchecked; RFC 9113 has done away with it"
		noHost   = "ReverseProxy invents a Host from the upstream's address"
	)
	get := func(lines ...string) string {
		return "GET /a HTTP/1.1\r\nHost: h.example\r\n" + strings.Join(lines, "\r\n") + strings.Repeat("\r\n", min(1, len(lines))) + "\r\n"
	}
	post := func(body string, lines ...string) string {
		return "POST /a HTTP/1.1\r\nHost: h.example\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body
	}
	respond := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h.example\r\n\r\n" }
	return []diffRow{
		{"get", get(), nil},
		{"query", "GET /a/b?c=d&e=%20f;g HTTP/1.1\r\nHost: h\r\n\r\n", accept{"up target": "ReverseProxy drops query parts with semicolons"}},
		{"plain query", "GET /a/b?c=d&e=%20f HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"encoded slash", "GET /a%2Fb/%7Euser HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"dots and double slashes", "GET //a/../b//./c HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", accept{"up target": origin}},
		{"bytes above ascii", "GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n", accept{"up target": origin}},
		{"quotes", "GET /a\"b<c> HTTP/1.1\r\nHost: h\r\n\r\n", accept{"up target": origin}},
		{"question mark alone", "GET /a? HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"options star", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"head", "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"delete", "DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"delete with body", "DELETE /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", nil},
		{"get with body", "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", nil},
		{"patch", "PATCH /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", nil},
		{"own method", "BREW /a HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"lower case method", "get /a HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"trace", "TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n", nil},
		{"connect", "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", accept{"up seen": tunnels, "client status": tunnels}},
		{"absolute target", "GET http://other/a?b HTTP/1.1\r\nHost: h\r\n\r\n", accept{"up target": origin, "up header X-Forwarded-Host": "net/http takes the host from the target"}},
		{"host with port", "GET /a HTTP/1.1\r\nHost: h:8080\r\n\r\n", nil},
		{"two hosts", "GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", nil},
		{"no host", "GET /a HTTP/1.1\r\n\r\n", nil},
		{"http 1.0", "GET /a HTTP/1.0\r\nHost: h\r\n\r\n", nil},
		{"http 1.0 without host", "GET /a HTTP/1.0\r\n\r\n", accept{"up host": noHost, "up header X-Forwarded-Host": "an empty one says nothing"}},
		{"http 1.0 post", "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", nil},
		{"repeated header", get("X-A: 1", "X-B: 2", "X-A: 3", "x-a: 4"), nil},
		{"empty header", get("X-A:", "X-B: "), nil},
		{"spaces around values", get("X-A: \t 1 2 \t "), nil},
		{"utf-8 value", get("X-A: \xc3\xa9"), nil},
		{"cookies", get("Cookie: a=1; b=2", "Cookie: c=3"), nil},
		{"content types", post("abc", "Content-Type: a/b", "Content-Type: c/d", "Content-Length: 3"), nil},
		{"user agents", get("User-Agent: a", "User-Agent: b"), accept{"up header User-Agent": "net/http sends the first line only"}},
		{"empty user agent", get("User-Agent:"), nil},
		{"accept-encoding", get("Accept-Encoding: br, gzip"), nil},
		{"range", get("Range: bytes=0-1", "If-None-Match: \"a\""), nil},
		{"authorization", get("Authorization: Bearer a.b.c"), nil},
		{"folded", get("X-A: 1\r\n  2", "X-B: 3"), accept{"up seen": strict, "client status": strict}},
		{"underscore", get("X_A: 1"), nil},
		{"underscore in disguise", get("X_Forwarded_For: 1.2.3.4"), accept{"up header X_forwarded_for": "CGI-like servers would take it for X-Forwarded-For, so it is dropped"}},
		{"connection close", get("Connection: close"), nil},
		{"connection keep-alive", get("Connection: keep-alive", "Keep-Alive: 10"), nil},
		{"connection lists", get("Connection: X-A, x-b", "X-A: 1", "X-B: 2", "X-C: 3"), nil},
		{"connection lists twice", get("Connection: X-A", "Connection: X-B", "X-A: 1", "X-B: 2"), nil},
		{"connection lists authorization", get("Connection: Authorization", "Authorization: a"), accept{"up header Authorization": kept}},
		{"connection lists forwarded", get("Connection: X-Forwarded-For", "X-Forwarded-For: 1.2.3.4"), nil},
		{"connection lists length", post("abc", "Connection: Content-Length", "Content-Length: 3"), nil},
		{"hop by hop", get("Proxy-Connection: a", "Proxy-Authorization: b", "Proxy-Authenticate: c", "TE: gzip", "Upgrade: h3"), nil},
		{"te trailers", get("TE: trailers, gzip"), nil},
		{"forwarded for", get("X-Forwarded-For: 1.2.3.4, 5.6.7.8"), nil},
		{"forwarded for twice", get("X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8"), nil},
		{"forwarded host and proto", get("X-Forwarded-Host: a", "X-Forwarded-Proto: https"), nil},
		{"forwarded", get("Forwarded: for=1.2.3.4"), nil},
		{"expect", post("abc", "Expect: 100-continue", "Content-Length: 3"), accept{"up header Expect": expect}},
		{"post", post("abc", "Content-Length: 3"), nil},
		{"post nothing", post("", "Content-Length: 0"), nil},
		{"post without length", post(""), nil},
		{"post large", post(strings.Repeat("0123456789", 20000), "Content-Length: 200000"), nil},
		{"post chunked", post("3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), nil},
		{"post chunked, capital", post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: CHUNKED"), nil},
		{"post no chunks", post("0\r\n\r\n", "Transfer-Encoding: chunked"), nil},
		{"get chunked", "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", nil},
		{"trailers", post("3\r\nabc\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-T, X-U"), accept{"up trailer X-T": trailers, "up trailer X-U": trailers}},
		{"trailers not announced", post("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", "Transfer-Encoding: chunked"), accept{"up trailer X-T": trailers}},
		{"length and chunked", post("0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), accept{"up seen": strict, "client status": strict}},
		{"identity", post("", "Transfer-Encoding: identity"), accept{"client status": "an unknown encoding: 400 here, 501 there"}},
		{"two lengths", post("abc", "Content-Length: 3", "Content-Length: 3"), accept{"up seen": strict, "client status": strict}},
		{"bad length", post("abc", "Content-Length: +3"), nil},
		{"space before colon", get("X-A : 1"), nil},
		{"space in name", get("X A: 1"), nil},
		{"nul in value", get("X-A: a\x00b"), nil},
		{"h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: a"), accept{"up header Connection": h2c, "up header Upgrade": h2c}},
		{"upgrade refused by upstream", get("Connection: Upgrade", "Upgrade: websocket"), nil},

		{"status text", respond("/raw?HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n"), accept{"client status": "the hop keeps the function's own status text, net/http does not"}},
		{"response 204", respond("/raw?HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"), nil},
		{"response 304", respond("/raw?HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n"), nil},
		{"response cookies", respond("/raw?HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2; Secure\r\nSet-Cookie: a=3\r\nContent-Length: 0\r\n\r\n"), nil},
		{"response date and server", respond("/raw?HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: a\r\nContent-Length: 0\r\n\r\n"), nil},
		{"response content types", respond("/raw?HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n"), accept{"client header Content-Type": oneOf}},
		{"response without content type", respond("/raw?HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), nil},
		{"response content encoding", respond("/raw?HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"), nil},
		{"response hop by hop", respond("/raw?HTTP/1.1 200 OK\r\nConnection: X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: a\r\nUpgrade: b\r\nContent-Length: 0\r\n\r\n"), nil},
		{"response chunked", respond("/raw?HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), nil},
		{"response trailers", respond("/raw?HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"), nil},
		{"response until close", respond("/raw?HTTP/1.1 200 OK\r\n\r\nabc"), nil},
		{"response of http 1.0", respond("/raw?HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nabc"), nil},
		{"response interim", respond("/raw?HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nil},
		{"response redirect", respond("/raw?HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"), nil},
		{"response cut short", respond("/raw?HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc"), nil},
		{"response chunks cut short", respond("/raw?HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), nil},
		{"response two lengths", respond("/raw?HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), nil},
		{"response garbage", respond("/raw?hello\r\n\r\n"), nil},
		{"response nothing", respond("/raw?"), nil},
		{"response to http 1.0 chunked", "GET /raw?" + encode("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") + " HTTP/1.0\r\nHost: h\r\n\r\n", nil},
	}
}

// TestLikeReverseProxy sends each request through the hop and through
// net/http with httputil.ReverseProxy to the same kind of upstream. What the
// upstream saw and what the client got must be the same, but for the facts
// that a row names, with the reason.
func TestLikeReverseProxy(t *testing.T) {
	t.Parallel()
	rows := diffRows()
	require.GreaterOrEqual(t, len(rows), 90)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			raw := row.raw
			if target, ok := strings.CutPrefix(raw, "GET /raw?"); ok && !strings.Contains(raw, "HTTP/1.0\r\nHost: h\r\n\r\n") {
				response, _ := strings.CutSuffix(target, " HTTP/1.1\r\nHost: h.example\r\n\r\n")
				raw = "GET /raw?" + encode(response) + " HTTP/1.1\r\nHost: h.example\r\n\r\n"
			}
			ours, theirs := facts(t, raw, true), facts(t, raw, false)
			for name := range maps.Keys(ours) {
				if _, ok := theirs[name]; !ok {
					theirs[name] = ""
				}
			}
			for _, name := range slices.Sorted(maps.Keys(theirs)) {
				if _, ok := row.accept[name]; ok {
					if ours[name] == theirs[name] {
						t.Errorf("%s no longer differs: %q", name, ours[name])
					}
				} else if ours[name] != theirs[name] &&
					!(strings.HasPrefix(name, "up ") && row.accept["up seen"] != "") &&
					!(strings.HasPrefix(name, "client ") && row.accept["client status"] != "") {
					t.Errorf("%s: hop %q, ReverseProxy %q", name, ours[name], theirs[name])
				}
			}
			for name := range row.accept {
				require.Contains(t, theirs, name)
			}
		})
	}
}

// encode puts a raw response into a query.
func encode(s string) string { return fmt.Sprintf("%x", s) }

// facts sends raw through the hop or through ReverseProxy, and lists what the
// upstream saw and what the client got.
func facts(t *testing.T, raw string, ours bool) map[string]string {
	seen := make(chan map[string]string, 10)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		f := map[string]string{
			"up seen":   "yes",
			"up method": r.Method, "up target": r.RequestURI, "up host": r.Host, "up proto": r.Proto,
			"up framing": fmt.Sprint(r.ContentLength, r.TransferEncoding),
			"up body":    fmt.Sprintf("%d %x %v", len(body), sha256.Sum256(body), err),
		}
		for name, values := range r.Header {
			f["up header "+name] = fmt.Sprintf("%q", values)
		}
		for name, values := range r.Trailer {
			f["up trailer "+name] = fmt.Sprintf("%q", values)
		}
		seen <- f
		if r.URL.Path == "/raw" {
			c, _, _ := http.NewResponseController(w).Hijack()
			var b []byte
			fmt.Sscanf(r.URL.RawQuery, "%x", &b)
			c.Write(b)
			c.Close()
			return
		}
		w.Header().Set("X-Up", "1")
		w.Header()["Date"] = nil
		fmt.Fprint(w, "answer")
	}))
	up.Config.ErrorLog = log.New(io.Discard, "", 0)
	up.Start()
	defer up.Close()
	address := up.Listener.Addr().String()

	var c net.Conn
	if ours {
		c = startHop(t, address, hopConfig{}).dial(t)
	} else {
		transport := &http.Transport{DisableCompression: true}
		defer transport.CloseIdleConnections()
		proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
			Transport: transport,
			ErrorLog:  log.New(io.Discard, "", 0),
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host = "http", address
				r.Out.Host = r.In.Host
				// The hop's rule: For is appended to, Host and Proto stay.
				r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
				r.SetXForwarded()
				for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
					if v, ok := r.In.Header[name]; ok {
						r.Out.Header[name] = v
					}
				}
			},
		})
		proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
		proxy.Start()
		defer proxy.Close()
		var err error
		c, err = net.Dial("tcp", proxy.Listener.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
	}
	go io.WriteString(c, raw)

	f := map[string]string{"up seen": "no"}
	method, _, _ := strings.Cut(raw, " ")
	br := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			f["client status"] = "none"
			break
		}
		if resp.StatusCode < 200 {
			if resp.StatusCode != 100 {
				f["client interim"] += resp.Status
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		f["client status"] = resp.Status
		if resp.StatusCode >= 400 {
			f["client status"] = fmt.Sprint(resp.StatusCode)
		}
		f["client body"] = fmt.Sprintf("%q cut short: %t", body, err != nil)
		if resp.StatusCode >= 400 {
			f["client body"] = "" // whose words they are does not matter
		}
		for name, values := range resp.Header {
			// Those that a server makes, and errors' own.
			if !ours && name == "Content-Type" && strings.Contains(raw, "/raw?") && values[0] == "text/plain; charset=utf-8" {
				continue // net/http guesses one, now and then
			}
			if name != "Date" && name != "Connection" && resp.StatusCode < 400 || name == "Date" && strings.Contains(values[0], "2024") {
				f["client header "+name] = fmt.Sprintf("%q", values)
			}
		}
		for name, values := range resp.Trailer {
			f["client trailer "+name] = fmt.Sprintf("%q", values)
		}
		break
	}
	select {
	case s := <-seen:
		maps.Copy(f, s)
	default:
	}
	return f
}
