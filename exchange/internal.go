package exchange

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehound/gatehound/exchange/issuer"
)

// internalTransport is for an issuer with an issInternal. The discovery
// document that is found there is the public one, and so its jwks_uri is at the
// public address, which is not to be used: often it cannot even be reached from
// where we are. What is asked of the public server is asked of the internal one
// instead, below issInternal's path if it is below the issuer's. A jwks_uri on
// another server is left as it is.
type internalTransport struct {
	public, internal *url.URL
	next             http.RoundTripper
}

// newInternalTransport takes the issuer's URL and its issInternal, which may be
// the full URL of a discovery document.
func newInternalTransport(iss, issInternal string, next http.RoundTripper) (http.RoundTripper, error) {
	public, err := url.Parse(iss)
	if err != nil {
		return nil, err
	}
	internal, err := url.Parse(strings.TrimSuffix(issInternal, issuer.DiscoveryPath))
	if err != nil {
		return nil, err
	}
	return internalTransport{public, internal, next}, nil
}

// RoundTrip implements http.RoundTripper.
func (t internalTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != t.public.Scheme || r.URL.Host != t.public.Host {
		return t.next.RoundTrip(r)
	}
	moved := *r.URL
	moved.Scheme, moved.Host = t.internal.Scheme, t.internal.Host
	from, to := strings.TrimRight(t.public.EscapedPath(), "/"), strings.TrimRight(t.internal.EscapedPath(), "/")
	if rest, below := strings.CutPrefix(r.URL.EscapedPath(), from+"/"); below {
		path, err := url.PathUnescape(to + "/" + rest)
		if err != nil {
			return nil, err
		}
		moved.Path, moved.RawPath = path, to+"/"+rest
	}
	r = r.Clone(r.Context())
	r.URL, r.Host = &moved, ""
	return t.next.RoundTrip(r)
}
