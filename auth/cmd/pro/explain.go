package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth/login"
)

// explain adds to an error what would help.
func (l *session) explain(err error) error {
	if err == nil {
		return nil
	}
	var refused *login.Refusal
	var expired *login.ExpiredError
	var advice string
	switch {
	case errors.As(err, &refused) && l.subject != "" && refused.Status >= http.StatusInternalServerError:
		advice = "The token is not to blame. The gateway's log says why; try again later."
		err = fmt.Errorf("the gateway cannot exchange it: %w", err)
	case errors.As(err, &refused) && l.subject != "": // the gateway's
		advice = l.explainGateway(refused)
		err = fmt.Errorf("the gateway refuses the token: %w", err)
	case errors.As(err, &refused):
		advice = providerAdvice[refused.Code]
		err = fmt.Errorf("the provider refuses: %w", err)
	case errors.As(err, &expired):
		advice = l.clocks.text()
	case errors.Is(err, login.ErrNoExchange):
		advice = "Is this an OpenFaaS gateway with IAM (--gateway)? A federated one takes the provider's token: --no-exchange keeps that."
	case errors.Is(err, login.ErrAnother):
		advice = "It is refused, and the refresh token forgotten. Log in again: faas-cli pro auth --gateway " + l.settings.Gateway
	default:
		if advice = networkAdvice(err); advice == "" {
			advice = l.clocks.text() // it may be why
		}
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%w\n%s", err, strings.TrimRight(advice, "\n"))
}

var providerAdvice = map[string]string{
	"access_denied":          "Somebody, or the provider's rules, said no at the login.",
	"invalid_client":         "The provider does not know --client-id, or its secret is another (--client-secret-file).",
	"unauthorized_client":    "The provider does not let this client use this --grant.",
	"unsupported_grant_type": "The provider has no such --grant.",
	"invalid_scope":          "The provider does not give this client one of --scope.",
	"invalid_target":         "The provider knows no such --audience.",
	"server_error":           "The provider is in trouble: try again later.",

	"temporarily_unavailable": "The provider is in trouble: try again later.",
}

// maxShown is how much of a claim is shown beside a refusal, in characters.
const maxShown = 500

// explainGateway says what the gateway saw, and what would have it say yes.
func (l *session) explainGateway(r *login.Refusal) string {
	var out strings.Builder
	c, err := decode(l.subject)
	if err != nil {
		fmt.Fprintln(&out, "The provider's token is not a JWT, which is what gateways take: have the provider give one, for instance by --audience.")
		return out.String()
	}
	if len(c) > 0 {
		fmt.Fprintln(&out, "It saw")
	}
	for _, name := range c.names() {
		value, _ := json.Marshal(c[name])
		text := []rune(printable(string(value)))
		if len(text) > maxShown {
			text = append(text[:maxShown], []rune("… (--no-exchange --pretty shows all of it)")...)
		}
		fmt.Fprintf(&out, "  %s: %s\n", printable(name), string(text))
	}
	iss, _ := json.Marshal(c["iss"])
	sub, _ := json.Marshal(c["sub"])
	aud, _ := json.Marshal(c["aud"])
	said := strings.ToLower(r.Description)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	switch {
	case has("no policies", "no function:invoke"):
		fmt.Fprintf(&out, "No Role grants this subject anything that was asked for. One that does has, for example\n"+
			"  principal: {\"jwt:sub\": [%s]}\n  condition: {StringEqual: {\"jwt:iss\": [%s]}}\n"+
			"To be somebody else, log out at the provider in the browser, and here by faas-cli pro logout.", sub, c.issuer(iss))
	case has("covered"):
		fmt.Fprint(&out, "You may not call these functions (--function).")
	case has("audience", "aud "):
		fmt.Fprintf(&out, "The token is for %s. Have that in the JwtIssuer's spec.aud, or log in with the client that is there (--client-id, --audience).", aud)
	case has("keys of"):
		fmt.Fprintf(&out, "The gateway cannot reach the provider at %s; its log says why.", iss)
	case has("jwtissuer", "issuer"):
		fmt.Fprintf(&out, "Who administers the gateway adds a JwtIssuer with\n  iss: %s\n  aud: [%s]\nor you log in at a provider that has one (--authority).", iss, strings.Trim(string(aud), "[]"))
	case has("expire", "before", "future", "exp", "iat", "nbf"):
		fmt.Fprint(&out, "The clocks of provider and gateway may differ. ", l.clocks.text())
	}
	return printable(out.String())
}

// issuer is that of who logged in, also in our API token.
func (c claims) issuer(iss []byte) []byte {
	if federated, ok := c["fed:iss"]; ok {
		text, _ := json.Marshal(federated)
		return text
	}
	return iss
}

// names are those of the claims that roles may ask for.
func (c claims) names() (names []string) {
	for name := range c {
		switch name {
		case "at_hash", "c_hash", "nonce", "jti", "sid", "session_state", "auth_time":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// networkAdvice is for who was not reached.
func networkAdvice(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		plain     tls.RecordHeaderError
		dns       *net.DNSError
		op        *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &authority):
		return "Its certificate is by an authority that is not known here: give that one's certificate by --ca."
	case errors.As(err, &name):
		return fmt.Sprintf("Its certificate is for %s: use one of these names.", printable(strings.Join(name.Certificate.DNSNames, ", ")))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "Its certificate has ended, or this computer's clock is wrong."
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "It does not speak TLS: is it http:// in place of https://?"
	case errors.As(err, &dns):
		return fmt.Sprintf("Nobody knows a computer of the name %s: is it spelt right, and is the VPN on?", printable(dns.Name))
	case errors.As(err, &op) && op.Op == "dial" && strings.Contains(err.Error(), "refused"):
		return fmt.Sprintf("Nobody listens at %s: is it running, and is its port forwarded?", op.Addr)
	case errors.As(err, &timeout) && timeout.Timeout():
		return "It did not answer in time."
	}
	return ""
}

// clocks asks servers, and remembers how far their clocks are from this one's.
type clocks struct {
	http.RoundTripper
	mu    sync.Mutex
	ahead map[string]time.Duration // by host
}

func (c *clocks) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ahead == nil {
			c.ahead = map[string]time.Duration{}
		}
		c.ahead[req.URL.Host] = time.Until(date)
	}
	return res, nil
}

// text says which of the clocks is not this one's; "" = none.
func (c *clocks) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for host, ahead := range c.ahead {
		if ahead.Abs() < 30*time.Second {
			continue
		}
		direction := "ahead of"
		if ahead < 0 {
			direction = "behind"
		}
		lines = append(lines, fmt.Sprintf("The clock of %s is %s %s this computer's.", host, ahead.Abs().Round(time.Second), direction))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// newTransport trusts a file's authorities, too.
func newTransport(ca string, insecure bool) (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: insecure}
	if ca == "" {
		return transport, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca: there is no certificate in %s", ca)
	}
	transport.TLSClientConfig.RootCAs = roots
	return transport, nil
}
