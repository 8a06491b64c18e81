package events

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"
)

// WebhookConfig says where events are posted to. Every field is needed unless its
// comment says otherwise.
type WebhookConfig struct {
	URL *url.URL
	// SecretFile holds the key of the signatures, at least 8 bytes; white space
	// around it is dropped. It is read for each delivery, so that it can be
	// replaced.
	SecretFile string
	// Client decides on proxies and certificates. Its Timeout and redirects are
	// ours.
	Client *http.Client
	// Timeout bounds one delivery; 0 = 30s.
	Timeout time.Duration
}

// Webhook posts batches as arrays of JSON, signed.
type Webhook struct {
	url, secretFile string
	client          *http.Client
}

// minSecret is the least length of a secret, in bytes: fewer can be guessed.
const minSecret = 8

// NewWebhook returns a webhook. The error says that there is no good secret.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	client := *c.Client
	if client.Timeout = c.Timeout; client.Timeout == 0 {
		client.Timeout = 30 * time.Second
	}
	// Events are for whom the operator named, and for nobody whom that one names.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w := &Webhook{url: c.URL.String(), secretFile: c.SecretFile, client: &client}
	_, err := w.secret()
	return w, err
}

func (w *Webhook) secret() ([]byte, error) {
	data, err := os.ReadFile(w.secretFile)
	if err != nil {
		return nil, err
	}
	secret := bytes.TrimSpace(data)
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%s holds %d bytes, want a secret of at least %d", w.secretFile, len(secret), minSecret)
	}
	return secret, nil
}

// Deliver implements Destination. Anything but 2xx is an error.
func (w *Webhook) Deliver(ctx context.Context, b Batch) error {
	secret, err := w.secret()
	if err != nil {
		return err
	}
	body := array(b.Lines)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's URL cannot be used") // which may have a secret in its query
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "gatehound")
	req.Header.Set("X-Openfaas-Event", b.Type)
	req.Header.Set("X-Openfaas-Delivery", b.ID)
	req.Header.Set("X-Openfaas-Signature-256", sign(secret, body))
	res, err := w.client.Do(req)
	if err != nil {
		var wrapped *url.Error // its text has the whole URL
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("the webhook at %s gave no answer: %w", req.URL.Host, err)
	}
	_ = res.Body.Close() // the status says it all
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the webhook at %s answered %d, want 2xx", req.URL.Host, res.StatusCode)
	}
	return nil
}

// array makes an array of lines of JSON.
func array(lines []byte) []byte {
	lines = bytes.TrimSuffix(lines, []byte("\n"))
	body := make([]byte, 0, len(lines)+2)
	body = append(append(append(body, '['), lines...), ']')
	for i, b := range body {
		if b == '\n' { // none is within an event
			body[i] = ','
		}
	}
	return body
}

func sign(secret, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
