package watchdog

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/config"
)

// sign issues a function token for every function, with more claims.
func (i *issuer) sign(t *testing.T, more jwt.MapClaims) string {
	claims := jwt.MapClaims{
		"iss": i.URL, "aud": i.URL,
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"function": map[string]any{"permissions": []string{"*"}},
	}
	maps.Copy(claims, more)
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = "k1"
	s, err := token.SignedString(i.key)
	require.NoError(t, err)
	return s
}

// protectedModes starts a function that prints what it gets, in every mode that
// has one; target is where.
func protectedModes(t *testing.T, i *issuer, test func(t *testing.T, p *program, target string), env ...string) {
	env = slices.Clip(append([]string{"jwt_auth=true", "jwt_auth_authority=" + i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev"}, env...))
	for mode, start := range map[string]func(t *testing.T) *program{
		"http":          func(t *testing.T) *program { return start(t, httpEnv(t, 0, env...)...) },
		"http buffered": func(t *testing.T) *program { return start(t, httpEnv(t, 0, append(env, "buffer_http=true")...)...) },
		"streaming":     func(t *testing.T) *program { return start(t, append(env, script("cat >&2; env"))...) },
		"serializing": func(t *testing.T) *program {
			return start(t, append(env, "mode=serializing", script("cat >&2; env"))...)
		},
		"inproc http": func(t *testing.T) *program { return startInproc(t, "http", env...) },
		"inproc fast": func(t *testing.T) *program { return startInproc(t, "fast", env...) },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
			target := "/headers"
			if strings.HasPrefix(mode, "http") {
				target = "/headers/trailers"
			}
			test(t, p, target)
		})
	}
}

// values returns what a function printed of a header, as a header or as a
// CGI variable.
func values(printed, header string) (found []string) {
	variable := strings.ReplaceAll(header, "-", "_")
	for _, m := range regexp.MustCompile(`(?mi)^(?:`+header+`: |Http_`+variable+`=)(.*?)\r?$`).FindAllStringSubmatch(printed, -1) {
		found = append(found, m[1])
	}
	return found
}

// forgeries are ways to have a function take a client's word for the
// watchdog's. Each is a list of header lines, and where there is a blank line,
// a chunked body with trailers.
var forgeries = map[string]string{
	"plain":                "X-Auth-Subject: evil",
	"lower case":           "x-auth-subject: evil",
	"mixed case":           "x-AUTH-sUbJeCt: evil",
	"twice":                "X-Auth-Subject: evil\r\nX-Auth-Subject: evil2",
	"underscores":          "X_Auth_Subject: evil",
	"one underscore":       "X-Auth_Subject: evil",
	"other underscore":     "X_Auth-Subject: evil",
	"dots":                 "X.Auth.Subject: evil",
	"mixed odd characters": "X~Auth!Subject: evil",
	"other names below":    "X-Auth-Request-User: evil",
	"absent claim":         "X-Auth-Email: evil",
	"absent claim, CGI":    "x_auth_email: evil",
	"empty name below":     "X-Auth-: evil",
	"empty value":          "X-Auth-Subject:",
	"Connection":           "Connection: X-Auth-Subject",
	"Connection twice":     "Connection: keep-alive, x-auth-subject\r\nconnection: X-AUTH-ISSUER ,X_Auth_Subject",
	"Trailer":              "Trailer: X-Auth-Subject, X-Auth-Issuer",
	"Trailer, odd case":    "tRAILER: x-auth-subject",
	"Trailer twice":        "Trailer: X-Auth-Subject\r\nTrailer: X-Other, X-Auth-Issuer",
	"TE":                   "TE: trailers\r\nConnection: TE, X-Auth-Subject",
	"announced trailer":    "Trailer: X-Auth-Subject\r\n\r\nX-Auth-Subject: evil",
	"trailer":              "\r\nX-Auth-Subject: evil",
	"absent claim trailer": "Trailer: X-Auth-Email\r\n\r\nX-Auth-Email: evil",
	"odd trailer":          "\r\nx_auth_email: evil\r\nx-auth-EMAIL: evil",
	"upgrade":              "Connection: Upgrade, X-Auth-Subject\r\nUpgrade: websocket\r\nX-Auth-Subject: evil",
	"h2c":                  "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nX-Auth-Subject: evil",
	"Expect":               "Expect: 100-continue\r\nX-Auth-Subject: evil\r\nTrailer: X-Auth-Subject\r\n\r\nX-Auth-Subject: evil",
	"in the Cookie":        "Cookie: X-Auth-Subject=other\r\nX-Auth-Subject: evil",
	"CGI prefix":           "Http-X-Auth-Email: other\r\nX-Auth-Email: evil",
}

// refusedForgeries are not HTTP, and refused as such.
var refusedForgeries = map[string]string{
	"space behind the name":  "X-Auth-Subject : evil",
	"tab behind the name":    "X-Auth-Subject\t: evil",
	"space before the name":  " X-Auth-Subject: evil",
	"folded":                 "X-Other: a\r\n X-Auth-Subject: evil",
	"folded after the name":  "X-Auth-Subject:\r\n evil",
	"NUL in the name":        "X-Auth-Subject\x00: evil",
	"NUL in the value":       "X-Auth-Subject: evil\x00",
	"no colon":               "X-Auth-Subject evil",
	"bytes above ASCII":      "X\xadAuth\xadSubject: evil",
	"UTF-8 hyphen":           "X‐Auth‐Subject: evil",
	"UTF-8 look-alike":       "X-Auth-ſubject: evil",
	"CR alone":               "X-Other: a\rX-Auth-Subject: evil",
	"LF alone":               "X-Other: a\nX-Auth-Subject: evil",
	"LF alone at the end":    "X-Auth-Subject: evil\nX-Other: a",
	"colon first":            ":X-Auth-Subject: evil",
	"both framings":          "Content-Length: 0\r\nX-Auth-Email: evil\r\n\r\nX-Auth-Email: evil",
	"parenthesis":            "X-Auth(Subject): evil",
	"slash":                  "X/Auth/Subject: evil",
	"Transfer-Encoding list": "Transfer-Encoding: identity\r\nX-Auth-Subject: evil",
}

// message makes a forgery a request of its own connection.
func message(target, forgery string) string {
	lines, trailers, chunked := strings.Cut("\r\n"+forgery, "\r\n\r\n")
	request := "POST " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close" + lines
	if !chunked {
		return request + "\r\nContent-Length: 0\r\n\r\n"
	}
	return request + "\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n" + trailers + "\r\n\r\n"
}

func TestClaimsBecomeHeaders(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	const subject = " Älice,\r\nX-Auth-Issuer: evil\x00 100% 🐕 "
	bearer := "Authorization: Bearer " + i.sign(t, jwt.MapClaims{"sub": subject, "fed:iss": "https://idp.example.com/",
		"groups": []string{"dev", "ops"}, "email_verified": true})
	protectedModes(t, i, func(t *testing.T, p *program, target string) {
		want := map[string]string{
			"X-Auth-Subject":        url.PathEscape(" Ä") + `lice,%0D%0AX-Auth-Issuer: evil%00 100%25 %F0%9F%90%95%20`,
			"X-Auth-Issuer":         i.URL,
			"X-Auth-Fed-Iss":        "https://idp.example.com/",
			"X-Auth-Groups":         `["dev","ops"]`,
			"X-Auth-Email-Verified": "true",
		}
		check := func(name, printed string) {
			require.NotRegexp(t, `(?i)evil2?\r?$|: evil\r?\n|=evil`, printed, name)
			require.NotContains(t, strings.ToLower(printed), "x_auth_subject:", name)
			for header, value := range want {
				for _, got := range values(printed, header) {
					require.Equal(t, value, got, name)
				}
				require.Len(t, values(printed, header), 1, "%s: %s in %s", name, header, printed)
			}
			require.Empty(t, values(printed, "X-Auth-Email"), name)
			require.Empty(t, values(printed, "X-Auth-Request-User"), name)
			require.Len(t, values(printed, "Authorization"), 1, name)
		}
		check("nothing forged", p.get(target, bearer).body)
		back, err := url.PathUnescape(want["X-Auth-Subject"])
		require.NoError(t, err)
		require.Equal(t, subject, back)
		for name, forgery := range forgeries {
			got := p.raw(message(target, bearer+"\r\n"+forgery))
			status, printed, _ := strings.Cut(got[strings.LastIndex(got[:strings.Index(got, "\r\n\r\n")+4], "HTTP/1.1"):], "\r\n")
			if strings.Contains(status, " 100 ") {
				status, printed, _ = strings.Cut(printed[strings.Index(printed, "HTTP/1.1"):], "\r\n")
			}
			require.Contains(t, status, " 200 ", "%s: %s", name, got)
			check(name, printed)
		}
		for name, forgery := range refusedForgeries {
			require.Regexp(t, `^HTTP/1.1 (400|431) `, p.raw(message(target, bearer+"\r\n"+forgery)), name)
		}
		// Absolute form, and one connection for all.
		check("absolute form", p.raw("GET http://x"+target+" HTTP/1.1\r\nHost: x\r\nConnection: close, X-Auth-Subject\r\n"+bearer+"\r\n\r\n"))
		two := message(target, bearer+"\r\nTrailer: X-Auth-Email\r\n\r\nX-Auth-Email: evil")
		two = strings.Replace(two, "Connection: close", "X-First: 1", 1)
		both := p.raw(two + message(target, bearer))
		require.Equal(t, 2, strings.Count(both, "HTTP/1.1 200 "), both)
		require.NotContains(t, both, ": evil\r\n")
		require.Len(t, values(both, "X-Auth-Issuer"), 2)
	}, "jwt_auth_headers=sub,iss,fed:iss,groups,email,email_verified", "jwt_auth_skip_paths=/public/*")
}

// Who needs no token is nobody, whatever they say, and whatever token is with it.
func TestNoIdentityWithoutCheck(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	bearer := "Authorization: Bearer " + i.sign(t, jwt.MapClaims{"sub": "alice"})
	protectedModes(t, i, func(t *testing.T, p *program, target string) {
		for name, forgery := range forgeries {
			if strings.Contains(strings.ToLower(forgery), "upgrade:") {
				continue // needs a token
			}
			got := p.raw(message(target, bearer+"\r\n"+forgery))
			require.Contains(t, got, "HTTP/1.1 200 OK\r\n", name)
			require.NotRegexp(t, `(?i)[:=] ?evil`, got, name)
			require.Empty(t, values(got, "X-Auth-Subject"), name)
			require.Empty(t, values(got, "Authorization"), "%s: %s", name, got)
		}
	}, "jwt_auth_headers=sub,email", "jwt_auth_skip_paths=/headers/*,/headers", "jwt_auth_forward_token=false")
}

func TestTokenIsHidden(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	token := i.sign(t, nil)
	protectedModes(t, i, func(t *testing.T, p *program, target string) {
		for _, name := range []string{"Authorization", "authorization", "aUTHORIZATION"} {
			r := p.raw(message(target, name+": Bearer "+token+"\r\nX-Auth-Subject: anybody\r\nConnection: "+name+"\r\nX-Other: kept"))
			require.Contains(t, r, "HTTP/1.1 200 OK\r\n")
			require.NotContains(t, r, token)
			require.Empty(t, values(r, "Authorization"))
			require.NotEmpty(t, values(r, "X-Other"))
			require.NotEmpty(t, values(r, "X-Auth-Subject"), "not ours unless asked for")
		}
	}, "jwt_auth_forward_token=false")
}

// Without the opt-in requests stay as they came, trailers and all.
func TestNoIdentityByDefault(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	bearer := "Authorization: Bearer " + i.sign(t, jwt.MapClaims{"sub": "alice"})
	p := start(t, httpEnv(t, 0, "jwt_auth=true", "jwt_auth_authority="+i.URL, "OPENFAAS_NAME=env", "OPENFAAS_NAMESPACE=dev")...)
	p.eventually(func() bool { return p.get("/_/ready").status == 200 }, "keys")
	got := p.raw(message("/headers/trailers", bearer+"\r\nX-Auth-Subject: mine\r\nTrailer: X-Sum\r\n\r\nX-Sum: 42"))
	require.Equal(t, []string{"mine"}, values(got, "X-Auth-Subject"))
	require.Equal(t, []string{"42"}, values(got, "X-Sum"))
	require.Len(t, values(got, "Authorization"), 1)
}

func FuzzHeaderValue(f *testing.F) {
	for _, s := range []string{"alice", " a ", "100%", "ä\r\n", "\x00", "%41", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, claim string) {
		v := headerValue(claim)
		for i := range len(v) {
			require.True(t, ' ' <= v[i] && v[i] <= '~')
		}
		require.Equal(t, strings.TrimSpace(v), v)
		back, err := url.PathUnescape(v)
		require.NoError(t, err)
		require.Equal(t, claim, back)
	})
}

// What is written anew holds all that is not ours to decide on, as it was, and
// of what is only what we said.
func FuzzRewrite(f *testing.F) {
	for _, forgery := range forgeries {
		f.Add([]byte(message("/", forgery)))
	}
	for _, s := range []string{"GET / HTTP/1.0\r\n\r\n", "GET /?a b HTTP/1.1\r\nhost:x\r\nCookie: a=b; c\r\nUser-Agent: u\r\n\r\n",
		"POST http://h/x HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\ncontent-type: b\r\nConnection: ,x-auth-a,\r\n\r\n"} {
		f.Add([]byte(s))
	}
	ours := identity{headers: []config.ClaimHeader{{Claim: "sub", Header: "X-Auth-Subject"}, {Claim: "email", Header: "X-Auth-Email"}}, hideToken: true}
	f.Fuzz(func(t *testing.T, request []byte) {
		var h fasthttp.RequestHeader
		h.DisableNormalizing()
		if h.Read(bufio.NewReaderSize(bytes.NewReader(request), 64<<10)) != nil {
			return
		}
		if raw := h.RawHeaders(); bytes.Count(raw, []byte("\n")) != bytes.Count(raw, []byte("\r\n")) ||
			bytes.Contains(raw, []byte("\n ")) || bytes.Contains(raw, []byte("\n\t")) {
			return // the server has refused it
		}
		before := [...]any{string(h.Method()), string(h.RequestURI()), string(h.Protocol()), string(h.Host()), h.ContentLength(), h.ConnectionClose()}
		kept := fields(&h)
		require.NoError(t, ours.rewrite(&h, &auth.Caller{Claims: []string{"alice", ""}}))
		require.Equal(t, before, [...]any{string(h.Method()), string(h.RequestURI()), string(h.Protocol()), string(h.Host()), h.ContentLength(), h.ConnectionClose()})
		require.Equal(t, append(kept, "X-Auth-Subject: alice"), fields(&h))
		require.Empty(t, h.PeekAll("X-Auth-Email"))
		require.Equal(t, "\r\n", string(h.TrailerHeader()))
		for name := range h.All() {
			require.True(t, string(name) == "X-Auth-Subject" || !hasPlainPrefix(name, "x-auth-"))
			require.False(t, equalFold(name, "Authorization"))
			require.False(t, equalFold(name, "Trailer"))
		}
	})
}

// fields returns the lines of a header but those that a rewrite may change.
func fields(h *fasthttp.RequestHeader) (lines []string) {
	for line := range bytes.SplitSeq(h.RawHeaders(), []byte("\r\n")) {
		name, _, isField := bytes.Cut(line, []byte(":"))
		plain := plainName(name)
		if isField && (!strings.HasPrefix(plain, "x-auth-") || string(line) == "X-Auth-Subject: alice") &&
			plain != "authorization" && plain != "connection" && plain != "trailer" {
			lines = append(lines, string(line))
		}
	}
	return lines
}

func BenchmarkRewrite(b *testing.B) {
	i := identity{headers: []config.ClaimHeader{{Claim: "sub", Header: "X-Auth-Subject"}}}
	request := fmt.Sprintf("POST /x HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAuthorization: Bearer %s\r\nX-Call-Id: 1\r\nAccept: */*\r\n\r\n", strings.Repeat("x", 700))
	var h fasthttp.RequestHeader
	h.DisableNormalizing()
	require.NoError(b, h.Read(bufio.NewReader(strings.NewReader(request))))
	caller := &auth.Caller{Claims: []string{"fed:alice"}}
	b.ReportAllocs()
	for b.Loop() {
		if err := i.rewrite(&h, caller); err != nil {
			b.Fatal(err)
		}
	}
}
