package watchdog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/auth/webhook"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/executor"
	"github.com/gatehound/gatehound/executor/reverseproxy"
)

const (
	// secretsInterval is how often the file with the secrets is read.
	secretsInterval = 10 * time.Second
	// maxSecretFile is how large it may be, in bytes.
	maxSecretFile = 64 << 10
	// minUnverified is the least that bodies may take before anybody knows who
	// has sent them, all together, in bytes. Whoever fills it keeps others out
	// for a moment, and not for good as a container without memory would.
	minUnverified = 32 << 20
)

// webhooks lets requests in that are signed with a shared secret.
type webhooks struct {
	verifier   *webhook.Verifier
	file       string
	maxBody    int
	unverified budget
	logf       func(format string, args ...any)

	mu      sync.Mutex // of a reload
	secrets webhook.Secrets
	problem string // the last one, so that it is logged once
}

func newWebhooks(s config.Watchdog, logf func(format string, args ...any)) (*webhooks, error) {
	h := &webhooks{file: s.HMACSecretFile, maxBody: s.HMACMaxBody, logf: logf}
	h.unverified.left = max(minUnverified, 4*s.HMACMaxBody)
	var err error
	if h.secrets, err = readSecrets(h.file); err != nil {
		return nil, fmt.Errorf("hmac_auth_secret_file: %w", err)
	}
	c := webhook.Config{Scheme: webhook.Scheme(s.HMACAuth), Header: s.HMACHeader, Hash: s.HMACHash, Secrets: h.secrets}
	if h.verifier, err = webhook.New(c); err != nil {
		return nil, fmt.Errorf("hmac_auth: %w", err)
	}
	return h, nil
}

// readSecrets' errors name the file.
func readSecrets(file string) (webhook.Secrets, error) {
	info, err := os.Stat(file)
	if err != nil {
		return webhook.Secrets{}, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return webhook.Secrets{}, fmt.Errorf("%s: want a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return webhook.Secrets{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return webhook.Secrets{}, err
	}
	if len(b) > maxSecretFile {
		return webhook.Secrets{}, fmt.Errorf("%s: want at most %d bytes", file, maxSecretFile)
	}
	s, err := webhook.ParseSecrets(b)
	if err != nil {
		return s, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// run reads the secrets again now and then, until ctx ends.
func (h *webhooks) run(ctx context.Context) {
	ticker := time.NewTicker(secretsInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.reload()
		}
	}
}

// reload reads the secrets again. What is wrong with them is logged once, and
// those before stay.
func (h *webhooks) reload() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	secrets, err := readSecrets(h.file)
	switch {
	case err != nil && err.Error() != h.problem:
		h.problem = err.Error()
		h.logf("hmac_auth keeps the secrets it has: %s", h.problem)
	case err != nil:
	case !secrets.Equal(h.secrets):
		h.secrets, h.problem = secrets, ""
		h.verifier.SetSecrets(secrets)
		h.logf("hmac_auth has new secrets: %d", secrets.Len())
	default:
		h.problem = ""
	}
	return err
}

// signed reports whether the signature decides on a request: it has one.
func (h *webhooks) signed(ctx *fasthttp.RequestCtx) bool {
	return len(valuesOf(ctx, h.verifier.Header())) > 0
}

// valuesOf returns all values of a header, whatever the case of its name.
func valuesOf(ctx *fasthttp.RequestCtx, want string) (values []string) {
	for name, value := range ctx.Request.Header.All() {
		if equalFold(name, want) {
			values = append(values, string(value))
		}
	}
	return values
}

// admitHeader reads the signature and checks all that can be checked before the
// body is there, or answers and returns false. The body is admitBody's.
func (w *Watchdog) admitHeader(ctx *fasthttp.RequestCtx, r *request) bool {
	var err error
	r.signature, err = w.webhooks.verifier.Read(func(name string) []string { return valuesOf(ctx, name) })
	if n := ctx.Request.Header.ContentLength(); err == nil && n > w.webhooks.maxBody {
		err = fmt.Errorf("%w: %d bytes, want at most %d", reverseproxy.ErrBodyTooLarge, n, w.webhooks.maxBody)
	}
	if err != nil {
		w.refuseSigned(ctx, r, err)
	}
	return err == nil
}

// admitBody reads the body, checks that it is what was signed and takes the
// request's slot, or answers and returns false. From then on the body is those
// bytes, whoever reads it.
func (w *Watchdog) admitBody(ctx *fasthttp.RequestCtx, r *request) bool {
	if err := w.webhooks.verify(ctx, r.signature); err != nil {
		w.refuseSigned(ctx, r, err)
		return false
	}
	w.metrics.auth["ok"].Inc()
	return w.takeSlot(ctx, r)
}

// verify reads the body and checks that it is what was signed.
func (h *webhooks) verify(ctx *fasthttp.RequestCtx, s *webhook.Signature) error {
	held := 0
	defer func() { h.unverified.give(held) }()
	body, err := reverseproxy.ReadBody(ctx, h.maxBody, func(n int) error {
		if !h.unverified.take(n - held) {
			return errNoRoom
		}
		held = n
		return nil
	})
	if err != nil {
		return err
	}
	return s.Verify(body)
}

// errNoRoom: too many bodies are on their way that nobody has verified.
var errNoRoom = errors.New("too many unverified requests at once")

// refuseSigned answers a request whose signature was to decide.
func (w *Watchdog) refuseSigned(ctx *fasthttp.RequestCtx, r *request, err error) {
	r.outcome = refused
	status, result := http.StatusUnauthorized, "invalid"
	switch {
	case errors.Is(err, webhook.ErrMissing):
		result = "no_signature"
	case errors.Is(err, webhook.ErrRefused):
	case errors.Is(err, errNoRoom):
		status, result = http.StatusServiceUnavailable, "unavailable"
		ctx.Response.Header.Set("Retry-After", "1")
	default: // the body's fault, or its sender's
		err = whose(err, r.client)
		status, _ = executor.Status(err)
		r.outcome = outcomeOf(err)
		if !errors.Is(err, reverseproxy.ErrBodyTooLarge) && !errors.Is(err, reverseproxy.ErrTrailers) {
			err = errors.New(statusText(status)) // it may have addresses in it
		}
	}
	w.metrics.auth[result].Inc()
	if status == http.StatusUnauthorized || status == http.StatusServiceUnavailable {
		ctx.Response.Header.Set(internalHeader, byMiddleware)
	}
	if status == http.StatusUnauthorized {
		// RFC 9110, section 11.6.1, asks for a challenge; no registered scheme
		// is meant here.
		ctx.Response.Header.Set("WWW-Authenticate", `HMAC realm="webhook"`)
	} else {
		ctx.SetConnectionClose() // the body is not read to its end
		r.client.Linger()
	}
	fail(ctx, status, "text/plain; charset=utf-8", err.Error()+"\n")
}

// budget bounds the bytes that are held at once. It is safe for concurrent use.
type budget struct {
	mu   sync.Mutex
	left int
}

// take takes n bytes, or returns false. Who gets true must give them back.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int) {
	b.mu.Lock()
	b.left += n
	b.mu.Unlock()
}
