package dashboard

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// CookieMark is part of the names of all our cookies, and of no others: the
// gateway keeps cookies with it from functions, and functions from setting such.
const CookieMark = "gatehound-"

// cookieName has the prefix __Host- where pages come over TLS: only our host, and
// only over TLS, can set such a cookie.
func (v *visit) cookieName(name string) string {
	if v.secure() {
		return "__Host-" + CookieMark + name
	}
	return CookieMark + name
}

// secure reports whether the browser speaks TLS, be it to a proxy before us. Who
// says so wrongly harms nobody but himself.
func (v *visit) secure() bool { return v.origin().Scheme == "https" }

// origin is ours as the browser sees it.
func (v *visit) origin() *url.URL {
	if u := v.d.config.PublicURL; u != nil {
		return &url.URL{Scheme: u.Scheme, Host: u.Host}
	}
	scheme := "http"
	first, _, _ := strings.Cut(v.r.Header.Get("X-Forwarded-Proto"), ",") // the proxy that the browser speaks to
	if v.r.TLS != nil || strings.EqualFold(strings.TrimSpace(first), "https") {
		scheme = "https"
	}
	return &url.URL{Scheme: scheme, Host: v.r.Host}
}

// cookie returns a cookie of ours; "" = the browser has none, or two. Of two a host
// beside ours has set one, and nobody can tell which: by the wrong one a person would
// work in a stranger's session. Without TLS nothing prevents that, so people cannot
// log in there until one is gone.
func (v *visit) cookie(name string) string {
	all := v.r.CookiesNamed(v.cookieName(name))
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// setCookie sets a cookie of ours for path, or over TLS for all paths, as the prefix
// __Host- demands; the gateway then takes it out of calls to functions. With a
// lifetime of 0 it ends with the browser's session, and a negative one removes it.
// Lax, not Strict: whoever comes from the provider's page, or by a link in a mail, is
// still logged in.
func (v *visit) setCookie(name, value, path string, lifetime time.Duration) {
	if v.secure() {
		path = "/"
	}
	http.SetCookie(v.w, &http.Cookie{
		Name: v.cookieName(name), Value: value, Path: path, MaxAge: int(lifetime / time.Second),
		HttpOnly: true, Secure: v.secure(), SameSite: http.SameSiteLaxMode,
	})
}

// protect sets the headers that browsers go by. Scripts and styles are admitted
// by a nonce, not by 'self', which is also every function.
func (v *visit) protect() {
	h := v.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+v.nonce+"'; style-src 'nonce-"+v.nonce+"'; "+
		"img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would make the Origin of our forms "null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// ownForm refuses what another page, or one of a function's, which has the origin
// "null", had the browser send.
func (v *visit) ownForm() error {
	if site := v.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return errStrangeForm
	}
	origins := v.r.Header.Values("Origin")
	if len(origins) == 0 {
		return nil
	}
	u, err := url.Parse(origins[0])
	own := v.origin()
	if err != nil || len(origins) > 1 || !strings.EqualFold(u.Host, own.Host) || v.d.config.PublicURL != nil && u.Scheme != own.Scheme {
		return errStrangeForm
	}
	return nil
}

// ownPage returns target if it is the path of one of our pages, with or without a
// query, and "/ui/" otherwise: nobody is led elsewhere (open redirects).
func ownPage(target string) string {
	const home = "/ui/"
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" ||
		!strings.HasPrefix(target, home) || strings.ContainsAny(target, "\\\r\n\t") ||
		!strings.HasPrefix(path.Clean(u.Path)+"/", home) || strings.Contains(u.Path, "//") {
		return home
	}
	if strings.HasPrefix(u.Path, "/ui/login") || strings.HasPrefix(u.Path, "/ui/logout") || strings.HasPrefix(u.Path, "/ui/assets") {
		return home
	}
	return u.RequestURI()
}

// seal keeps what a browser holds for us between two requests, and may neither
// read nor change.
type seal struct{ aead cipher.AEAD }

func newSeal(secret string) seal {
	key := sha256.Sum256([]byte(secret))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key's length is right
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return seal{aead}
}

// close seals v for a purpose.
func (s seal) close(purpose string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(purpose))), nil
}

// open is the reverse of close.
func (s seal) open(purpose, sealed string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil {
		b, err = s.aead.Open(nil, nil, b, []byte(purpose))
	}
	if err != nil {
		return errors.New("it is not sealed by us")
	}
	return json.Unmarshal(b, v)
}

// newNonce is for one answer.
func newNonce() string { return rand.Text() }
