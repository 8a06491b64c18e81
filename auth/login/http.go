package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"golang.org/x/oauth2"
)

const (
	maxAnswer = 512 << 10 // bytes
	patience  = 30 * time.Second
)

// bounded is c, or http.DefaultClient, for servers that may be slow, broken or
// hostile.
func bounded(c *http.Client) *http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	b := *c
	if b.Timeout == 0 || b.Timeout > patience {
		b.Timeout = patience
	}
	if b.Transport == nil {
		b.Transport = http.DefaultTransport
	}
	b.Transport = shortAnswers{b.Transport}
	b.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		from := via[len(via)-1]
		switch {
		case via[0].Method != http.MethodGet: // codes, secrets and tokens are for that address alone
			return fmt.Errorf("it redirects to %s://%s, which is not followed: is that its address?", req.URL.Scheme, req.URL.Host)
		case from.URL.Scheme == "https" && req.URL.Scheme != "https":
			return fmt.Errorf("it redirects to %s without TLS, which is not followed", req.URL.Host)
		case len(via) == 5:
			return errors.New("it redirects without end")
		}
		return nil
	}
	return &b
}

// shortAnswers ends long answers with an error.
type shortAnswers struct{ http.RoundTripper }

func (s shortAnswers) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(req)
	if err == nil {
		res.Body = &shortBody{res.Body, maxAnswer}
	}
	return res, err
}

type shortBody struct {
	io.ReadCloser
	left int
}

func (b *shortBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is larger than %d KiB", maxAnswer>>10)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func formRequest(ctx context.Context, address string, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// authenticate proves to the provider who we are; form is the request's.
func (c *Client) authenticate(req *http.Request, form url.Values) {
	switch {
	case c.oauth.ClientSecret == "":
	case c.oauth.Endpoint.AuthStyle == oauth2.AuthStyleInHeader: // RFC 6749 section 2.3.1
		req.SetBasicAuth(url.QueryEscape(c.oauth.ClientID), url.QueryEscape(c.oauth.ClientSecret))
	default:
		form.Set("client_secret", c.oauth.ClientSecret)
		body := form.Encode()
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		req.GetBody = nil
	}
}

// refusal makes a *Refusal of x/oauth2's error, which quotes the answer.
func refusal(err error, secrets ...string) error {
	var r *oauth2.RetrieveError
	if !errors.As(err, &r) {
		return tidy(err, secrets...)
	}
	if r.ErrorCode == "" {
		return noOAuth(r.Response)
	}
	return &Refusal{Status: r.Response.StatusCode, Code: clean(r.ErrorCode, secrets...), Description: clean(r.ErrorDescription, secrets...)}
}

// answeredRefusal reads a *Refusal from an answer.
func answeredRefusal(res *http.Response, secrets ...string) error {
	var answer struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.NewDecoder(res.Body).Decode(&answer) != nil || answer.Code == "" {
		return noOAuth(res)
	}
	return &Refusal{Status: res.StatusCode, Code: clean(answer.Code, secrets...), Description: clean(answer.Description, secrets...)}
}

// noOAuth describes an answer that is no OAuth error, such as a proxy's.
func noOAuth(res *http.Response) error {
	at := clean(res.Request.URL.Redacted())
	if res.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s answered %s, without an OAuth error: it, or a proxy before it, is in trouble", at, clean(res.Status))
	}
	return fmt.Errorf("%s answered %s, without an OAuth error", at, clean(res.Status))
}

// tidy makes an error clean that may quote what a server answered.
func tidy(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	return &tidied{clean(err.Error(), secrets...), err}
}

type tidied struct {
	text  string
	cause error
}

func (t *tidied) Error() string { return t.text }
func (t *tidied) Unwrap() error { return t.cause }

// sendable tells whether a token is made of what tokens are made of (RFC 6749
// appendix A.12): nothing that ends a header's line, or that a terminal obeys.
func sendable(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}

// tokenShape is what a JWT looks like, or the beginning of one.
var tokenShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*`)

// clean makes another's text fit for a terminal, a page or a log: without the
// secrets that we sent, tokens, and control sequences, and not too long.
func clean(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[secret]")
			text = strings.ReplaceAll(text, url.QueryEscape(s), "[secret]")
		}
	}
	text = tokenShape.ReplaceAllString(text, "[token]")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > 500 {
		text = string(runes[:500]) + "…"
	}
	return text
}
