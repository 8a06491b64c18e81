package dashboard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/auth/login"
	"github.com/gatehound/gatehound/gateway/dashboard/chart"
)

const (
	// maxShown bounds how much of an answer's body is shown, in bytes, and
	// maxBinary that of one that is no text.
	maxShown  = 1 << 20
	maxBinary = 4 << 10
	// maxTarget bounds the path and the query of a call.
	maxTarget = 8 << 10
)

// methods are those a function can be called with here.
var methods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}

// invokePage is what the template "invoke" shows.
type invokePage struct {
	Namespace, Name string
	NeedsToken      bool
	NoToken         bool // there is nothing that could be exchanged for one
	Methods         []string
	Answer          *functionAnswer // nil = not called yet
}

// functionAnswer is what a function has answered. Strangers may have written it:
// it is shown as text.
type functionAnswer struct {
	Status   string
	Good     bool
	Took     string
	Headers  []pair
	Body     string
	Size     string // of what was read
	Cut      bool   // there is more, which was not read
	Binary   bool   // Body is a dump
	Broken   bool   // it ended before its end
	WithAuth bool   // a function token was sent
}

// invocation shows the form.
func (v *visit) invocation() error {
	f, err := v.deployed()
	if err != nil {
		return err
	}
	if len(v.form) == 0 {
		v.form = url.Values{"method": {"POST"}, "path": {"/"}, "token": {"true"}}
	}
	return v.showInvocation(http.StatusOK, f, nil)
}

func (v *visit) showInvocation(status int, f types.FunctionStatus, answer *functionAnswer) error {
	c, err := v.session.current()
	if err != nil {
		return err
	}
	return v.show(status, "invoke", "Invoke "+f.Name, invokePage{
		Namespace: f.Namespace, Name: f.Name, NeedsToken: needsToken(f), NoToken: c.token == "", Methods: methods, Answer: answer,
	})
}

// invoke calls a function as the form says, and shows what it answers. The
// credentials of the person are not sent to it, but for a function token that is
// good for this function alone, to one that asks for tokens.
func (v *visit) invoke() error {
	f, err := v.deployed()
	if err != nil {
		return err
	}
	r := v.call(f)
	if v.wrongs != nil {
		return v.showInvocation(http.StatusBadRequest, f, nil)
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), askTimeout)
	defer cancel()
	answer := &functionAnswer{}
	if needsToken(f) && v.form.Get("token") != "" && r.Header.Get("Authorization") == "" {
		c, err := v.session.current()
		if err != nil {
			return err
		}
		if c.token != "" {
			token, err := login.Gateway{URL: "http://gateway", HTTP: v.d.api}.Exchange(ctx, c.token, f.Namespace+":"+f.Name)
			if err != nil {
				v.problem = "There is no function token for you: " + err.Error()
				return v.showInvocation(http.StatusForbidden, f, nil)
			}
			r.Header.Set("Authorization", "Bearer "+token.Access)
			answer.WithAuth = true
		}
	}
	began := time.Now()
	response, err := v.d.api.Do(r.WithContext(ctx))
	if err != nil {
		v.problem = "The function could not be called: " + callError(err)
		return v.showInvocation(http.StatusBadGateway, f, nil)
	}
	defer response.Body.Close()
	answer.read(response)
	answer.Took = chart.Seconds(time.Since(began).Seconds())
	return v.showInvocation(http.StatusOK, f, answer)
}

// callError says what went wrong, without the URL that only we know.
func callError(err error) string {
	var wrapped *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("it gave no answer within %s", askTimeout)
	case errors.Is(err, io.EOF):
		return "the connection was closed before there was an answer"
	case errors.As(err, &wrapped):
		return wrapped.Err.Error()
	}
	return err.Error()
}

// call is the request that the form describes. What is wrong with that is noted.
func (v *visit) call(f types.FunctionStatus) *http.Request {
	method := v.form.Get("method")
	if !slices.Contains(methods, method) {
		v.amiss("method", "Pick one.")
	}
	target := strings.TrimSpace(v.form.Get("path"))
	path, query, _ := strings.Cut(target, "?")
	decoded, err := url.PathUnescape(path)
	switch {
	case target == "":
		path, decoded = "/", "/"
	case !strings.HasPrefix(path, "/"):
		v.amiss("path", "A path begins with /.")
	case len(target) > maxTarget:
		v.amiss("path", "It is too long.")
	case err != nil || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII || r == '#' }):
		v.amiss("path", "Write spaces, # and other such characters as %%20, %%23 and so on.")
	// Not that this could lead to where one is not let in: there are no credentials
	// in the request that are good elsewhere.
	case slices.Contains(strings.Split(strings.ReplaceAll(decoded, `\`, "/"), "/"), ".."):
		v.amiss("path", "A path must not have .. in it.")
	}
	header, err := parseHeaders(typed(v.form.Get("headers")))
	if err != nil {
		v.amiss("headers", "%s.", sentence(err.Error()))
	}
	if v.wrongs != nil {
		return nil
	}
	body := typed(v.form.Get("body"))
	r := &http.Request{
		Method: method, Header: header, Host: v.origin().Host,
		URL: &url.URL{Scheme: "http", Host: "gateway", Path: "/function/" + f.Name + "." + f.Namespace + decoded, RawPath: "/function/" + f.Name + "." + f.Namespace + path, RawQuery: query},
	}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "gatehound-dashboard")
	}
	if v.secure() && header.Get("X-Forwarded-Proto") == "" {
		header.Set("X-Forwarded-Proto", "https") // as in a call to the URL on its page
	}
	return r
}

// parseHeaders reads a header of each line. The error names the line, and nothing
// of its value.
func parseHeaders(text string) (http.Header, error) {
	header := http.Header{}
	for i, line := range strings.Split(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !found || name == "" || strings.ContainsFunc(name, notInName):
			return nil, fmt.Errorf("line %d: want Name: value", i+1)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, fmt.Errorf("line %d: the value has a control character in it", i+1)
		case slices.Contains([]string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Upgrade", "Keep-Alive", "Te", "Expect"}, name):
			return nil, fmt.Errorf("line %d: %s is set by the connection", i+1, name)
		}
		header.Add(name, value)
	}
	return header, nil
}

// notInName reports whether a character may not be in a header's name (RFC 9110
// section 5.6.2).
func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

// read reads an answer, as far as it is shown.
func (a *functionAnswer) read(response *http.Response) {
	a.Status, a.Good = strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, http.StatusText(response.StatusCode))), response.StatusCode < 400
	for name, values := range response.Header {
		for _, value := range values {
			a.Headers = append(a.Headers, pair{Name: name, Value: strings.ToValidUTF8(value, "\uFFFD")})
		}
	}
	slices.SortStableFunc(a.Headers, func(x, y pair) int { return strings.Compare(x.Name, y.Name) })
	body, err := io.ReadAll(io.LimitReader(response.Body, maxShown+1))
	a.Broken = err != nil
	if a.Cut = len(body) > maxShown; a.Cut {
		body = body[:maxShown]
		for i := 0; i < utf8.UTFMax && !utf8.Valid(body[max(0, len(body)-utf8.UTFMax):]) && len(body) > 0; i++ {
			body = body[:len(body)-1] // a character that was cut in two
		}
	}
	a.Size = size(float64(len(body)))
	if a.Binary = !utf8.Valid(body) || bytes.IndexByte(body, 0) >= 0; a.Binary {
		a.Cut = a.Cut || len(body) > maxBinary
		a.Body = hex.Dump(body[:min(len(body), maxBinary)])
		return
	}
	a.Body = string(body)
}
