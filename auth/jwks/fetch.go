package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
)

const (
	// wellKnown is where OpenID Connect Discovery 1.0 §4 puts the document.
	wellKnown = "/.well-known/openid-configuration"
	// maxDocument bounds what is read of a document, in bytes.
	maxDocument = 1 << 20
	// maxRedirects bounds the redirects of one request.
	maxRedirects = 3
)

// discover reads the discovery document and the key set it points at. Its
// errors name the URL and what was wrong there.
func (r *Remote) discover(ctx context.Context) (issuer string, keys []*Key, skipped []string, err error) {
	fail := func(url string, err error) (string, []*Key, []string, error) {
		return "", nil, nil, fmt.Errorf("%s: %w", url, err)
	}

	body, err := r.get(ctx, r.discovery)
	if err != nil {
		return fail(r.discovery, err)
	}
	doc, err := object(body)
	if err != nil {
		return fail(r.discovery, err)
	}
	issuer, _ = doc["issuer"].(string)
	if _, err := httpURL(issuer); err != nil {
		return fail(r.discovery, fmt.Errorf("issuer %.200q: %w", issuer, err))
	}
	if r.issuer != "" && issuer != r.issuer {
		// Discovery §4.3: else anyone who can serve a document here could
		// vouch for somebody else's issuer.
		return fail(r.discovery, fmt.Errorf("issuer is %.200q, expected exactly %q", issuer, r.issuer))
	}
	jwksURI, _ := doc["jwks_uri"].(string)
	to, err := httpURL(jwksURI)
	if err != nil {
		return fail(r.discovery, fmt.Errorf("jwks_uri %.200q: %w", jwksURI, err))
	}
	if to.Scheme == "http" && strings.HasPrefix(r.discovery, "https:") {
		return fail(r.discovery, fmt.Errorf("jwks_uri %.200q: a document fetched by https must not point at http", jwksURI))
	}

	body, err = r.get(ctx, jwksURI)
	if err != nil {
		return fail(jwksURI, err)
	}
	keys, skipped, err = Parse(body)
	if err != nil {
		return fail(jwksURI, err)
	}
	return issuer, keys, skipped, nil
}

func (r *Remote) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Kubernetes' API server has its keys as the first alone (RFC 7517, 8.5.2),
	// and answers 406 to who does not name it.
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("Cache-Control", "no-cache") // a proxy's copy may still have a withdrawn key
	res, err := r.client.Do(req)
	if err != nil {
		return nil, reason(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, expected 200", res.StatusCode)
	}
	body, err := readAll(res.Body)
	if err != nil {
		return nil, reason(err)
	}
	return body, nil
}

// read reads the key set from the file, and names it in its errors.
func (r *Remote) read(context.Context) (issuer string, keys []*Key, skipped []string, err error) {
	body, err := readFile(r.file)
	if err == nil {
		keys, skipped, err = Parse(body)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", r.file, reason(err))
	}
	return r.issuer, keys, skipped, nil
}

func readFile(path string) ([]byte, error) {
	// Not blocking: the opening of a FIFO would last until somebody writes.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return readAll(f)
}

// readAll bounds what is kept in memory, which is also what a compressed
// answer unfolds to.
func readAll(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("longer than %d bytes", maxDocument)
	}
	return body, err
}

// newClient returns c with our redirect policy.
func newClient(c *http.Client) *http.Client {
	ours := http.Client{}
	if c != nil {
		ours = *c
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		// A connection that has gone dead would be used again for every
		// attempt (HTTP/2), for minutes after the issuer's return.
		t = t.Clone()
		t.DisableKeepAlives = true
		ours.Transport = t
	}
	ours.CheckRedirect = checkRedirect
	return &ours
}

// reason strips the method and URL, or the path, from an error, which ours
// name already, and our own address, and says a timeout plainly.
func reason(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no complete answer in time")
	}
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	// Our own address in an error of a connection, to the issuer or to a name
	// server. Its port is another at each attempt, and would make the same
	// failure look new. Compiled here, since fwatchdog's start has to be quick.
	local := regexp.MustCompile(`\S+:\d+->`)
	if s := err.Error(); local.MatchString(s) {
		return errors.New(local.ReplaceAllString(s, ""))
	}
	return err
}

// checkRedirect keeps a fetch that began with https on https: a redirect to
// http would let the network choose our keys.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	switch {
	case req.URL.Scheme == "https":
	case req.URL.Scheme == "http" && via[len(via)-1].URL.Scheme == "http":
	default:
		return fmt.Errorf("redirect from %s to %.20q is not followed", via[len(via)-1].URL.Scheme, req.URL.Scheme)
	}
	return nil
}

// checkAuthority says what is wrong with an authority, without repeating a
// password someone put in it.
func checkAuthority(s string) error {
	u, err := httpURL(s)
	if err == nil && (u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("must have no query and no fragment")
	}
	if err == nil {
		return nil
	}
	if u, parseErr := url.Parse(s); parseErr == nil && !strings.Contains(u.Opaque, "@") {
		return fmt.Errorf("authority %q: %w", u.Redacted(), err)
	}
	return fmt.Errorf("authority: %w", err)
}

// httpURL parses an absolute http or https URL.
func httpURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, errors.New("must be an absolute http or https URL without user information")
	}
	return u, nil
}

// object decodes a JSON object. It decodes to a map because struct fields
// would match names in any case; of a name given twice the last counts, which
// RFC 7517 §4 allows.
func object(data []byte) (map[string]any, error) {
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return m, nil
}
