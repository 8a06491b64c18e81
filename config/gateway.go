package config

import (
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Gateway is the gateway's configuration. The comments name the variables and
// their defaults.
type Gateway struct {
	// Address is "host:port" to listen on (listen, else port; 8080). The host
	// is 127.0.0.1 by default while the gateway runs functions itself, and all
	// interfaces in front of another provider. Port 0 takes a free one.
	Address string
	// MetricsAddress serves /metrics and /healthz on the same host
	// (metrics_port, 8082); "" when metrics_port is 0.
	MetricsAddress string

	ReadTimeout     time.Duration // read_timeout, 60s: reading one request
	WriteTimeout    time.Duration // write_timeout, 60s: one write to a client, and draining at shutdown
	UpstreamTimeout time.Duration // upstream_timeout, 60s: one function call

	// SystemIssuer is our own issuer URL, without a trailing slash
	// (system_issuer, base_host). "" = http:// and the address listened on,
	// which is only allowed on loopback.
	SystemIssuer string

	// DataDir holds all state (data_dir, .gatehound).
	DataDir string
	// IAMKubernetes says that the IAM objects are custom resources, of
	// IAMNamespace, and not files (iam_store: kubernetes, or folder, the default).
	IAMKubernetes bool
	// IAMNamespace is where the custom resources are (iam_namespace, openfaas).
	IAMNamespace string
	// Kubeconfig is a list of files that say how to reach the cluster
	// (KUBECONFIG); "" = the cluster in a pod of which the gateway runs.
	Kubeconfig string
	// IAMDir holds the IAM objects (iam_dir). When it is not set, iam in DataDir
	// is used, and made at the first start.
	IAMDir string
	// IssuerKeyPath is a file with the signing key, or a folder of such files
	// (issuer_key_path). When it is not set, keys in DataDir is used, and made at
	// the first start.
	IssuerKeyPath string
	// SecretMountPath holds basic-auth-user and basic-auth-password
	// (secret_mount_path). When it is not set, secrets in DataDir is used, and
	// made at the first start.
	SecretMountPath string
	// BasicAuth says that the administrator's password opens /system/ (basic_auth,
	// true). Without it API tokens do; and where there cannot be any, as iam_dir
	// is not set and empty, everybody who can reach the gateway.
	BasicAuth bool
	// AuthProxyURL is asked who may do what below /system/, in the place of all
	// that we know (auth_proxy_url); nil = we decide.
	AuthProxyURL *url.URL
	// AuthPassBody sends it the request bodies, too (auth_pass_body,
	// auth_proxy_pass_body).
	AuthPassBody bool
	// ValidateForwarded says that the gateways that ask our /validate describe
	// their requests themselves (validate_forwarded).
	ValidateForwarded bool
	// GenerateIAM, GenerateKey and GenerateSecrets say that the three paths above
	// are ours to fill: a path the operator gave must hold what it should
	// already, so that one that is misspelt is noticed.
	GenerateIAM, GenerateKey, GenerateSecrets bool

	// CABundlePath is a PEM file of certificates to trust besides the system's
	// when issuers' keys are fetched (ca_bundle_path).
	CABundlePath string
	// InsecureTLS takes any certificate there (insecure_tls).
	InsecureTLS bool
	// KubernetesAddress is the API server's host:port, as Kubernetes tells every
	// pod (KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT); "" = we run in none.
	KubernetesAddress string

	// FunctionsProvider is a faas-provider's base URL (functions_provider_url);
	// nil = the functions run here, as processes.
	FunctionsProvider *url.URL
	// ScaleFromZero has a call to a function at zero replicas start it
	// (scale_from_zero; true while functions run here, else false).
	ScaleFromZero bool
	// ProbeFunctions has the first call wait until the function answers its
	// readiness check (probe_functions, false; functions that run here are always
	// waited for).
	ProbeFunctions bool
	// DirectFunctions has calls in front of a provider go to the functions by
	// their DNS names (direct_functions, false).
	DirectFunctions bool
	// DirectFunctionsSuffix is what follows <name>.<namespace> in those names
	// (direct_functions_suffix). OpenFaaS' charts put FunctionNamespace in front,
	// which is left out here.
	DirectFunctionsSuffix string
	// MaxIdleConns and MaxIdleConnsPerHost bound the idle connections to the
	// provider and to direct functions, together and each (max_idle_conns,
	// max_idle_conns_per_host; 1024).
	MaxIdleConns, MaxIdleConnsPerHost int
	// LogsProvider is where logs are asked for in the place of FunctionsProvider
	// (logs_provider_url); nil = there.
	LogsProvider *url.URL
	// Prometheus is the "host:port" of the Prometheus that counts invocations
	// (faas_prometheus_host, faas_prometheus_port, 9090); "" = we count our own.
	Prometheus string
	// FunctionNamespace is meant when a name has none (function_namespace,
	// openfaas-fn).
	FunctionNamespace string
	// StackFile is a stack.yml whose functions are run (stack_file).
	StackFile string
	// FunctionsDir has folders in which functions are started whose image names
	// one of them (functions_dir); "" = none has.
	FunctionsDir string

	// Dashboard serves pages for people below /ui/ (dashboard, true).
	Dashboard bool
	// PrimaryIssuer is the OpenID provider where they log in (primary_issuer); ""
	// = with the administrator's password alone.
	PrimaryIssuer string
	// OAuthClientID names the dashboard there (oauth_client_id), and the file
	// OAuthClientSecretFile has its secret (oauth_client_secret_file); "" = it has
	// none.
	OAuthClientID, OAuthClientSecretFile string
	// OAuthScopes are asked for (oauth_scopes: openid profile email).
	OAuthScopes []string
	// PublicURL is the dashboard's scheme and host as browsers see them
	// (public_url); nil = those of each request.
	PublicURL *url.URL

	// Events says what is recorded.
	Events Events

	// AsyncIgnored names the variables of OpenFaaS' gateway that are set and have
	// no effect here: those of async calls.
	AsyncIgnored []string

	LogJSON bool // log_encoding: json, or console (the default)
	Debug   bool // debug: log every request
}

// ValidName reports whether name can name a function or a namespace: whether it
// is a DNS label (RFC 1123).
func ValidName(name string) bool { return len(name) <= 63 && isLabel(name) }

// ValidSecretName reports whether name can name a secret in Kubernetes: whether
// it is a DNS subdomain (RFC 1123), labels of any length with dots between them.
// No path can be made of it.
func ValidSecretName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return len(name) <= 253
}

// isLabel is by hand: a regular expression is compiled at every start, of
// fwatchdog too, which has to be quick.
func isLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

// ParseGateway reads the gateway's configuration from environ, a list of
// "name=value". The error is an [*Error] that names every bad variable.
func ParseGateway(environ []string) (Gateway, error) {
	e := newEnv(environ)
	c := Gateway{
		ReadTimeout:       e.duration(60*time.Second, "read_timeout"),
		WriteTimeout:      e.duration(60*time.Second, "write_timeout"),
		UpstreamTimeout:   e.duration(60*time.Second, "upstream_timeout"),
		DataDir:           e.str(".gatehound", "data_dir"),
		FunctionsProvider: e.httpURL("functions_provider_url"),
		LogsProvider:      e.httpURL("logs_provider_url"),
		Prometheus:        e.prometheus(),
		AsyncIgnored:      e.ignored("async", "faas_nats_address", "faas_nats_port", "faas_nats_channel"),
		Events:            e.events(),
		FunctionNamespace: e.str("openfaas-fn", "function_namespace"),
		StackFile:         e.str("", "stack_file"),
		FunctionsDir:      e.str("", "functions_dir"),
		CABundlePath:      e.str("", "ca_bundle_path"),
		InsecureTLS:       e.boolean(false, "insecure_tls"),
		IAMNamespace:      e.str("openfaas", "iam_namespace"),
		Kubeconfig:        e.str("", "KUBECONFIG"),
		BasicAuth:         e.boolean(true, "basic_auth"),
		AuthProxyURL:      e.httpURL("auth_proxy_url"),
		AuthPassBody:      e.boolean(false, "auth_proxy_pass_body", "auth_pass_body"),
		ValidateForwarded: e.boolean(false, "validate_forwarded"),
		Debug:             e.boolean(false, "debug"),

		ScaleFromZero:       e.boolean(e.values["functions_provider_url"] == "", "scale_from_zero"),
		ProbeFunctions:      e.boolean(false, "probe_functions"),
		DirectFunctions:     e.boolean(false, "direct_functions"),
		MaxIdleConns:        e.integer(1024, 1, 1_000_000, "max_idle_conns"),
		MaxIdleConnsPerHost: e.integer(1024, 1, 1_000_000, "max_idle_conns_per_host"),
	}
	e.dashboard(&c)
	if c.WriteTimeout == 0 {
		e.bad("write_timeout", e.values["write_timeout"], "more than 0s")
	}
	_, _, given := e.lookup("iam_dir")
	c.IAMDir = e.str(filepath.Join(c.DataDir, "iam"), "iam_dir")
	c.GenerateIAM = !given
	switch v := e.str("folder", "iam_store"); v {
	case "kubernetes":
		c.IAMKubernetes = true
		if given {
			e.bad("iam_dir", c.IAMDir, "nothing while iam_store=kubernetes: apply the objects to the cluster instead")
		}
	case "folder":
	default:
		e.bad("iam_store", v, "folder or kubernetes")
	}
	if !ValidName(c.IAMNamespace) {
		e.bad("iam_namespace", c.IAMNamespace, "a DNS label: lower case letters, digits and -")
	}
	_, _, given = e.lookup("issuer_key_path")
	c.IssuerKeyPath = e.str(filepath.Join(c.DataDir, "keys"), "issuer_key_path")
	c.GenerateKey = !given
	_, _, given = e.lookup("secret_mount_path")
	c.SecretMountPath = e.str(filepath.Join(c.DataDir, "secrets"), "secret_mount_path")
	c.GenerateSecrets = !given && c.BasicAuth

	embedded := e.values["functions_provider_url"] == ""
	host := ""
	if embedded {
		host = "127.0.0.1"
	}
	var network string
	network, c.Address = e.listen(host, e.port(8080, "port"))
	host, _, err := net.SplitHostPort(c.Address)
	switch {
	case network != "tcp":
		e.bad("listen", e.values["listen"], `"host:port"`)
	case err == nil && embedded && !loopback(host):
		e.bad("listen", e.values["listen"], "a loopback address such as 127.0.0.1:8080, "+
			"because this gateway runs functions as local processes (no functions_provider_url)")
	}
	if n := e.port(8082, "metrics_port"); n != 0 {
		c.MetricsAddress = net.JoinHostPort(host, strconv.Itoa(n))
	}

	if u := e.httpURL("base_host", "system_issuer"); u != nil {
		if u.RawQuery != "" || u.Fragment != "" {
			e.bad("system_issuer", u.String(), "a URL without a query or fragment")
		}
		c.SystemIssuer = strings.TrimSuffix(u.String(), "/")
	} else if _, _, given := e.lookup("base_host", "system_issuer"); !given && !embedded && !loopback(host) {
		e.bad("system_issuer", "", "the URL under which callers reach this gateway, as in https://gateway.example.com")
	}
	if u := c.FunctionsProvider; u != nil && (u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "") {
		e.bad("functions_provider_url", u.String(), "an http:// URL without a query or fragment")
	}
	if u := c.AuthProxyURL; u != nil && u.Fragment != "" {
		e.bad("auth_proxy_url", u.String(), "a URL without a fragment")
	}
	if c.AuthProxyURL != nil && c.ValidateForwarded {
		e.bad("validate_forwarded", "true", "nothing while auth_proxy_url is set: a gateway that asks another one answers none itself")
	}
	if u := c.LogsProvider; u != nil && embedded {
		e.bad("logs_provider_url", u.String(), "nothing without functions_provider_url: logs of functions that run here are kept here")
	} else if u != nil && (u.RawQuery != "" || u.Fragment != "") {
		e.bad("logs_provider_url", u.String(), "a URL without a query or fragment")
	}
	if !embedded && c.StackFile != "" {
		e.bad("stack_file", c.StackFile, "nothing while functions_provider_url is set: deploy to that provider instead")
	}
	if !ValidName(c.FunctionNamespace) {
		e.bad("function_namespace", c.FunctionNamespace, "a DNS label: lower case letters, digits and -")
	}
	if embedded && c.DirectFunctions {
		e.bad("direct_functions", e.values["direct_functions"], "false while functions run here (no functions_provider_url): calls go straight to them anyway")
	}
	c.DirectFunctionsSuffix = e.directSuffix(c.FunctionNamespace)
	if host := e.str("", "KUBERNETES_SERVICE_HOST"); host != "" {
		c.KubernetesAddress = net.JoinHostPort(host, e.str("443", "KUBERNETES_SERVICE_PORT"))
	}
	switch v := e.str("console", "log_encoding"); v {
	case "json":
		c.LogJSON = true
	case "console":
	default:
		e.bad("log_encoding", v, "json or console")
	}
	return c, e.err()
}

// directSuffix returns direct_functions_suffix without the namespace that it may
// begin with: names of functions bring theirs.
func (e *env) directSuffix(namespace string) string {
	suffix := e.str("", "direct_functions_suffix")
	// With a digit in front the last label might make an IP address of a name.
	last := suffix[strings.LastIndexByte(suffix, '.')+1:]
	if suffix != "" && (!ValidSecretName(suffix) || last[0] < 'a') {
		e.bad("direct_functions_suffix", suffix, "a DNS name such as svc.cluster.local")
		return ""
	}
	if suffix == namespace {
		return ""
	}
	return strings.TrimPrefix(suffix, namespace+".")
}

// prometheus returns the "host:port" to ask; "" = none. The name becomes part of
// a URL.
func (e *env) prometheus() string {
	host := strings.Trim(e.str("", "faas_prometheus_host"), "[]")
	port := e.integer(9090, 1, 65535, "faas_prometheus_port")
	if host == "" {
		return ""
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	if u, err := url.Parse("http://" + address); err != nil || u.Host != address || u.Hostname() != host {
		e.bad("faas_prometheus_host", redactURL(host), "a host name or an IP address, and the port in faas_prometheus_port")
	}
	return address
}

// ignored returns those of names that ask for something. One that is false asks
// for nothing.
func (e *env) ignored(names ...string) (set []string) {
	for _, name := range names {
		_, v, given := e.lookup(name)
		if on, err := strconv.ParseBool(v); given && (err != nil || on) {
			set = append(set, name)
		}
	}
	return set
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
