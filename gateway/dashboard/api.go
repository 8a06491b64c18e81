package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehound/gatehound/gateway/basicauth"
)

const (
	// maxAnswer bounds what is read of the API's answers that are not streams.
	maxAnswer = 16 << 20
	// askTimeout bounds the wait for such an answer; the gateway's own limits are
	// shorter.
	askTimeout = 2 * time.Minute
)

// ask sends a request to the API as the person who visits, with body as JSON, and
// reads the answer into answer; nil = there is none to send, or to read. What the
// API refuses is a *refusal.
func (v *visit) ask(method, path string, query url.Values, body, answer any) error {
	ctx, cancel := context.WithTimeout(v.r.Context(), askTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	response, err := v.open(ctx, method, path, query, content)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("the answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}

// open is ask for who reads the answer by himself: a stream, say. Only answers of
// 2xx are returned, and those the caller closes.
func (v *visit) open(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	c, err := v.session.current()
	if err != nil {
		return nil, err
	}
	response, err := v.d.send(ctx, method, path, query, body, func(r *http.Request) {
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if !v.d.config.Open {
			forwardFor(r, v.r)
			return
		}
		// An open API goes by how a request has come: see the gateway's authenticate.
		r.Host = v.r.Host
		for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"} {
			if values := v.r.Header.Values(name); len(values) > 0 {
				r.Header[name] = values
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	line, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	message := strings.TrimSpace(string(line))
	if message == "" {
		message = http.StatusText(response.StatusCode)
	}
	return nil, &refusal{Status: response.StatusCode, Message: message}
}

// forwardFor tells the API, and by it an auth plugin, where the person's own request
// has come from. What a header says of that is left out, as at the API: anybody may
// have written it, and a plugin may go by addresses.
func forwardFor(asking, own *http.Request) {
	address, _, _ := net.SplitHostPort(own.RemoteAddr)
	asking.Header.Set("X-Forwarded-For", address)
}

func (d *Dashboard) send(ctx context.Context, method, path string, query url.Values, body io.Reader, change func(*http.Request)) (*http.Response, error) {
	target := "http://gateway" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "gatehound-dashboard")
	r.Header.Set(basicauth.PassHeader, d.config.Guesses.Pass())
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	change(r)
	response, err := d.api.Do(r)
	if err != nil {
		return nil, &refusal{http.StatusBadGateway, "The gateway's API cannot be reached. Try again in a moment."}
	}
	return response, nil
}

// apiPath is the path below root that names something. Names come from the
// browser, and the API judges them.
func apiPath(root, name string) string { return root + url.PathEscape(name) }
