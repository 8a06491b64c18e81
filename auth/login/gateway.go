package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Gateway is where tokens are exchanged.
type Gateway struct {
	// URL is the gateway's base URL.
	URL string
	// HTTP reaches it; nil = http.DefaultClient. It is bounded as Config.HTTP is.
	HTTP *http.Client
}

// ErrNoExchange says that a gateway has no IAM, is a federated one, or none at all.
var ErrNoExchange = errors.New("it exchanges no tokens")

// Exchange trades an ID token for an API token (RFC 8693). With functions, which
// are patterns such as "openfaas-fn:env", it is a function token for those; an API
// token is good for that, too. The gateway's refusals are *Refusal.
func (g Gateway) Exchange(ctx context.Context, subjectToken string, functions ...string) (Token, error) {
	form := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		"subject_token":      {subjectToken},
	}
	if len(functions) > 0 {
		form.Set("scope", "function")
		form["audience"] = functions
	}
	address := strings.TrimRight(g.URL, "/") + "/oauth/token"
	req, err := formRequest(ctx, address, form)
	if err != nil {
		return Token{}, fmt.Errorf("the gateway's URL: %w", err)
	}
	sent := time.Now()
	res, err := bounded(g.HTTP).Do(req)
	if err != nil {
		return Token{}, fmt.Errorf("cannot reach the gateway: %w", tidy(err))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		err := answeredRefusal(res, subjectToken)
		var refused *Refusal
		if !errors.As(err, &refused) && res.StatusCode < http.StatusInternalServerError {
			err = fmt.Errorf("%s: %w: it answered %s, without an OAuth error", address, ErrNoExchange, clean(res.Status))
		}
		return Token{}, err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return Token{}, fmt.Errorf("%s: %w: its answer is no token (RFC 8693 section 2.2.1): %w", address, ErrNoExchange, tidy(err))
	}
	if !sendable(answer.AccessToken) {
		return Token{}, fmt.Errorf("%s: %w: its answer is no token (RFC 8693 section 2.2.1)", address, ErrNoExchange)
	}
	if !strings.EqualFold(answer.TokenType, "Bearer") {
		return Token{}, fmt.Errorf("the gateway gave a token of type %q; want Bearer", clean(answer.TokenType))
	}
	t := Token{Access: answer.AccessToken}
	if answer.ExpiresIn > 0 && answer.ExpiresIn < 1<<31 {
		t.Expiry = sent.Add(time.Duration(answer.ExpiresIn) * time.Second)
	}
	return t, nil
}
