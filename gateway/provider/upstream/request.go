package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehound/gatehound/gateway/provider"
)

const (
	// maxAnswer bounds what is read of one answer, in bytes.
	maxAnswer = 16 << 20
	// maxItems bounds a list: {} has two bytes, and what it becomes hundreds.
	maxItems = 1 << 16
	// maxMessage bounds what is passed on of an error's text.
	maxMessage = 4 << 10
)

// do asks the provider's API and decodes its answer into out unless that is
// nil. The namespace goes into the query also where the body has it: providers
// differ in which of the two they read.
func (p *Provider) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	res, err := p.send(ctx, method, p.base+path, query, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxMessage)) // so that the connection is used again
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("functions provider answered %s %s with bad JSON: %w", method, p.base+path, err)
	}
	return nil
}

// list is a JSON array of at most maxItems.
type list[T any] []T

// UnmarshalJSON implements json.Unmarshaler.
func (l *list[T]) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	switch begin, err := d.Token(); {
	case err != nil:
		return err
	case begin == nil: // null is how Go writes an empty one
		return nil
	case begin != json.Delim('['):
		return fmt.Errorf("want a list, got %.20q", data)
	}
	for d.More() {
		if len(*l) == maxItems {
			return fmt.Errorf("the list has more than %d items", maxItems)
		}
		var item T
		if err := d.Decode(&item); err != nil {
			return err
		}
		*l = append(*l, item)
	}
	return nil
}

// send returns the answer if it is a success. ctx bounds reading it, too.
func (p *Provider) send(ctx context.Context, method, address string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	target := address
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if p.config.User != "" {
		req.SetBasicAuth(p.config.User, p.config.Password)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("functions provider: %w", err)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(method, address, res)
}

// refusal is the error for an answer that is no success.
func refusal(method, url string, res *http.Response) error {
	switch status := res.StatusCode; {
	case status == http.StatusNotFound:
		return provider.ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		// It is us whom the provider does not trust, and not our caller, who
		// would be told to log in again.
		return fmt.Errorf("functions provider answered %s %s with %s: check basic-auth-user and basic-auth-password in secret_mount_path", method, url, res.Status)
	case status >= 400 && status <= 599:
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxMessage))
		message := strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
		return &provider.Error{Status: status, Message: cmp.Or(message, "the functions provider answered "+res.Status)}
	default:
		return fmt.Errorf("functions provider answered %s %s with %s, want 2xx", method, url, res.Status)
	}
}
