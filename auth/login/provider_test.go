package login

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

const redirectURL = "http://127.0.0.1:31111/oauth/callback"

// fakeProvider is an OpenID provider that can be told to misbehave.
type fakeProvider struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu       sync.Mutex
	metadata map[string]any               // over what is true
	claims   func(c jwt.MapClaims)        // changes an ID token's
	sign     func(c jwt.MapClaims) string // in the place of ES256
	token    http.HandlerFunc             // in the place of the token endpoint
	codes    map[string]url.Values        // the authorization request of each
	refresh  map[string]bool              // live ones
	polls    int                          // of the device flow until it is done
	seen     []*http.Request              // at the token endpoint, forms parsed
}

func newFake(t *testing.T) *fakeProvider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &fakeProvider{key: key, metadata: map[string]any{}, codes: map[string]url.Values{}, refresh: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.serveMetadata)
	mux.HandleFunc("GET /keys", p.serveKeys)
	mux.HandleFunc("GET /authorize", p.serveAuthorize)
	mux.HandleFunc("POST /token", p.serveToken)
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, 200, map[string]any{"device_code": "the-device-code", "user_code": "ABCD-EFGH", "verification_uri": p.URL + "/activate", "expires_in": 60, "interval": 1})
	})
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.refresh, r.FormValue("token"))
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *fakeProvider) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
		"jwks_uri": p.URL + "/keys", "device_authorization_endpoint": p.URL + "/device",
		"end_session_endpoint": p.URL + "/logout?theme=dark", "revocation_endpoint": p.URL + "/revoke",
		"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
	}
	for name, value := range p.metadata {
		m[name] = value
	}
	writeJSON(w, 200, m)
}

func (p *fakeProvider) serveKeys(w http.ResponseWriter, _ *http.Request) {
	point, _ := p.key.PublicKey.Bytes()
	enc := base64.RawURLEncoding.EncodeToString
	writeJSON(w, 200, map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k", "x": enc(point[1:33]), "y": enc(point[33:]),
	}}})
}

func (p *fakeProvider) idToken(client, nonce string) string {
	c := jwt.MapClaims{
		"iss": p.URL, "aud": client, "sub": "alice", "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		"groups": []string{"dev"},
	}
	if nonce != "" {
		c["nonce"] = nonce
	}
	if p.claims != nil {
		p.claims(c)
	}
	if p.sign != nil {
		return p.sign(c)
	}
	return p.signed(c)
}

func (p *fakeProvider) signed(c jwt.MapClaims) string {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	t.Header["kid"] = "k"
	raw, err := t.SignedString(p.key)
	if err != nil {
		panic(err)
	}
	return raw
}

// serveAuthorize logs alice in, without asking.
func (p *fakeProvider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	answer := url.Values{"state": {q.Get("state")}}
	if q.Get("response_type") == "id_token" {
		answer.Set("id_token", p.idToken(q.Get("client_id"), q.Get("nonce")))
		http.Redirect(w, r, q.Get("redirect_uri")+"#"+answer.Encode(), http.StatusFound)
		return
	}
	code := fmt.Sprintf("the-code-%d", len(p.codes))
	p.codes[code] = q
	answer.Set("code", code)
	if p.metadata["authorization_response_iss_parameter_supported"] == true {
		answer.Set("iss", p.URL)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
}

func (p *fakeProvider) serveToken(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = r.ParseForm()
	p.seen = append(p.seen, r)
	if p.token != nil {
		p.token(w, r)
		return
	}
	refuse := func(code, description string) {
		writeJSON(w, 400, map[string]any{"error": code, "error_description": description})
	}
	answer := map[string]any{"access_token": "the-access-token", "token_type": "Bearer", "expires_in": 3600}
	issue := func(client, nonce string) {
		refresh := fmt.Sprintf("the-refresh-token-%d", len(p.seen))
		p.refresh[refresh] = true
		answer["refresh_token"], answer["id_token"] = refresh, p.idToken(client, nonce)
		writeJSON(w, 200, answer)
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		asked, ok := p.codes[r.PostForm.Get("code")]
		delete(p.codes, r.PostForm.Get("code"))
		challenge := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		switch {
		case !ok || asked.Get("redirect_uri") != r.PostForm.Get("redirect_uri"):
			refuse("invalid_grant", "no such code: "+r.PostForm.Get("code"))
		case asked.Get("code_challenge_method") != "S256" || asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]):
			refuse("invalid_grant", "bad verifier "+r.PostForm.Get("code_verifier"))
		default:
			issue(asked.Get("client_id"), asked.Get("nonce"))
		}
	case "refresh_token":
		if old := r.PostForm.Get("refresh_token"); !p.refresh[old] {
			refuse("invalid_grant", "no such refresh token: "+old)
			return
		}
		delete(p.refresh, r.PostForm.Get("refresh_token"))
		issue("cli", "")
	case "urn:ietf:params:oauth:grant-type:device_code":
		if p.polls--; p.polls > 0 {
			refuse("authorization_pending", "")
			return
		}
		issue("cli", "")
	case "client_credentials":
		if id, secret, ok := r.BasicAuth(); !ok || id != "machine" || secret != "s3cret" {
			refuse("invalid_client", "wrong secret: "+secret+r.PostForm.Get("client_secret"))
			return
		}
		answer["access_token"] = p.signed(jwt.MapClaims{"iss": p.URL, "aud": r.PostForm.Get("audience"), "sub": "machine"})
		writeJSON(w, 200, answer)
	default:
		refuse("unsupported_grant_type", "")
	}
}

// client discovers p.
func (p *fakeProvider) client(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	config := Config{Issuer: p.URL, ClientID: "cli"}
	if change != nil {
		change(&config)
	}
	c, err := Discover(t.Context(), config)
	require.NoError(t, err)
	return c
}

// browse goes to page, and returns where it is sent in the end: the query, or
// the fragment.
func browse(t *testing.T, page string) url.Values {
	t.Helper()
	once := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := once.Get(page)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusFound, res.StatusCode)
	location := res.Header.Get("Location")
	_, answer, ok := strings.Cut(location, "#")
	if !ok {
		_, answer, ok = strings.Cut(location, "?")
	}
	require.True(t, ok, location)
	values, err := url.ParseQuery(answer)
	require.NoError(t, err)
	return values
}
