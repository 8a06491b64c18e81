package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Federated is the federated gateway's configuration. The comments name the
// variables and their defaults.
type Federated struct {
	// Address is "host:port" to listen on (listen, else port; 8080, all
	// interfaces). Port 0 takes a free one.
	Address string
	// MetricsAddress serves /metrics and /healthz on the same host
	// (metrics_port, 8082); "" when metrics_port is 0.
	MetricsAddress string

	ReadTimeout     time.Duration // read_timeout, 60s: reading one request
	WriteTimeout    time.Duration // write_timeout, 60s: one write to a client, and draining at shutdown
	UpstreamTimeout time.Duration // upstream_timeout, 60s: waiting for the gateway

	// Gateway is the local gateway (gateway_url, http://gateway.openfaas:8080):
	// http, and neither a path nor a query.
	Gateway *url.URL
	// Issuer must be the iss of tokens, to the letter, and is where discovery is
	// looked for (issuer).
	Issuer string
	// Audience must be in the aud of tokens (audience).
	Audience string
	// AllowInvoke lets calls to functions through (allow_invoke, false).
	AllowInvoke bool
	// SecretMountPath has the local gateway's basic-auth-user and
	// basic-auth-password (secret_mount_path).
	SecretMountPath string

	// CABundlePath is a PEM file of certificates to trust besides the system's
	// when the issuer's keys are fetched (ca_bundle_path).
	CABundlePath string
	// InsecureTLS takes any certificate there (insecure_tls).
	InsecureTLS bool

	LogJSON bool // log_encoding: json, or console (the default)
	Debug   bool // debug: log every request
}

// ParseFederated reads the federated gateway's configuration from environ, a
// list of "name=value". The error is an [*Error] that names every bad variable.
func ParseFederated(environ []string) (Federated, error) {
	e := newEnv(environ)
	c := Federated{
		ReadTimeout:     e.duration(60*time.Second, "read_timeout"),
		WriteTimeout:    e.duration(60*time.Second, "write_timeout"),
		UpstreamTimeout: e.duration(60*time.Second, "upstream_timeout"),
		Gateway:         e.httpURL("gateway_url"),
		Issuer:          e.str("", "issuer"),
		Audience:        e.str("", "audience"),
		AllowInvoke:     e.boolean(false, "allow_invoke"),
		SecretMountPath: e.str("", "secret_mount_path"),
		CABundlePath:    e.str("", "ca_bundle_path"),
		InsecureTLS:     e.boolean(false, "insecure_tls"),
		LogJSON:         e.oneOf("console", "json", "log_encoding"),
		Debug:           e.boolean(false, "debug"),
	}
	if c.WriteTimeout == 0 {
		e.bad("write_timeout", e.values["write_timeout"], "more than 0s")
	}
	network, address := e.listen("", e.port(8080, "port"))
	c.Address = address
	if network != "tcp" {
		e.bad("listen", e.values["listen"], `"host:port"`)
	}
	if n := e.port(8082, "metrics_port"); n != 0 {
		host, _, _ := net.SplitHostPort(c.Address)
		c.MetricsAddress = net.JoinHostPort(host, strconv.Itoa(n))
	}

	if u := c.Gateway; u == nil {
		c.Gateway = &url.URL{Scheme: "http", Host: "gateway.openfaas:8080"}
	} else if u.Scheme != "http" {
		e.bad("gateway_url", u.String(), "an http:// URL: for a gateway behind TLS put a proxy that speaks it beside this program")
	} else if u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		// A path before what was judged could make another one of it.
		e.bad("gateway_url", u.String(), "an http:// URL of a host alone, as in http://gateway.openfaas:8080")
	}
	if u := e.httpURL("issuer"); u != nil && (u.RawQuery != "" || u.ForceQuery || u.Fragment != "") {
		e.bad("issuer", c.Issuer, "a URL without a query or fragment")
	} else if c.Issuer == "" || strings.TrimSpace(c.Issuer) != c.Issuer {
		e.bad("issuer", c.Issuer, "the URL of the OpenID provider, exactly as it is in the iss of its tokens")
	}
	if c.Audience == "" || strings.TrimSpace(c.Audience) != c.Audience {
		e.bad("audience", c.Audience, "what the provider puts into the aud of tokens for this gateway, without white space around it")
	}
	if c.SecretMountPath == "" {
		e.bad("secret_mount_path", "", "the folder with basic-auth-user and basic-auth-password of the local gateway")
	}
	return c, e.err()
}
