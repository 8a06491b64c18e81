package exchange

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Cluster is the Kubernetes cluster that we run in. Its API server issues the
// tokens of ServiceAccounts, and in most clusters tells its keys only to who
// shows such a token, by a certificate of the cluster's own CA. So for an
// issuer whose keys are looked for at the API server, the CA and the token that
// are mounted into our pod are used; the token is sent nowhere else.
type Cluster struct {
	// Address is the API server's host:port, which is connected to whatever name
	// the issuer has: no DNS is needed, and no proxy is asked.
	Address string
	// Dir holds ca.crt and token. Both are read again for each request, as they
	// rotate.
	Dir string
}

// keysPath is where an API server has its keys. Its jwks_uri names an address
// that its nodes know it by, which is of no use to pods in some networks.
const keysPath = "/openid/v1/jwks"

// is reports whether u is at our API server: its address, or a name that the
// cluster's DNS gives it, whatever the domain: nobody else's server is reached
// by such a name, see Address.
func (c *Cluster) is(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	if net.JoinHostPort(u.Hostname(), port) == c.Address {
		return true
	}
	return port == "443" && strings.HasPrefix(u.Hostname()+".", "kubernetes.default.svc.")
}

// clusterTransport is for an issuer whose keys are looked for at the API server.
type clusterTransport struct {
	cluster *Cluster
	others  http.RoundTripper // for requests that are not for it
}

// RoundTrip implements http.RoundTripper. It sees each redirect as a request of
// its own, so one to another server takes no token with it.
func (t clusterTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Path != keysPath && !t.cluster.is(r.URL) {
		return t.others.RoundTrip(r)
	}
	token, err := os.ReadFile(filepath.Join(t.cluster.Dir, "token"))
	if err != nil {
		return nil, fmt.Errorf("our ServiceAccount's token: %w", err)
	}
	roots := x509.NewCertPool()
	if err := addBundle(roots, filepath.Join(t.cluster.Dir, "ca.crt")); err != nil {
		return nil, fmt.Errorf("the cluster's CA: %w", err)
	}
	r = r.Clone(r.Context())
	r.URL.Host, r.Host = t.cluster.Address, ""
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	// Made anew each time, for the CA; there is a request in minutes.
	transport := newTransport(&tls.Config{RootCAs: roots})
	transport.Proxy = nil
	return transport.RoundTrip(r)
}
