package config

import (
	"net/url"
	"strings"
	"time"
)

// Mode says how the watchdog runs its function.
type Mode string

// The modes of upstream's of-watchdog that this watchdog has.
const (
	// HTTP starts one process and forwards each request to its HTTP server.
	HTTP Mode = "http"
	// Streaming forks a process for each request and streams its output.
	Streaming Mode = "streaming"
	// Serializing forks a process for each request and buffers its output, so
	// that a non-zero exit becomes a 500.
	Serializing Mode = "serializing"
	// Static serves the files of a folder.
	Static Mode = "static"
	// InProc calls a handler in the watchdog's own process, for functions that
	// import package watchdog.
	InProc Mode = "inproc"
)

// Watchdog is fwatchdog's configuration. The comments name the variables;
// their defaults are upstream's.
type Watchdog struct {
	// Network and Address say where to listen: "tcp" and "host:port", or
	// "unix" and a socket path (listen, else port; 8080 on all interfaces).
	Network, Address string
	// MetricsPort serves /metrics on the same host as Address; 0 turns it off
	// (metrics_port, 8081).
	MetricsPort int

	Mode     Mode     // mode
	Process  []string // function_process, else fprocess, split like a shell does
	Upstream *url.URL // http_upstream_url, else upstream_url; http:// or unix://

	ReadTimeout  time.Duration // read_timeout: reading one request
	WriteTimeout time.Duration // write_timeout: writing one response
	ExecTimeout  time.Duration // exec_timeout: one invocation; 0 = no limit
	// StreamIdleTimeout bounds the silence between two pieces of a response in
	// http mode; 0 = ExecTimeout (stream_idle_timeout).
	StreamIdleTimeout time.Duration
	// HealthcheckInterval is how long to stay up, unready, after SIGTERM
	// before the listener closes (healthcheck_interval, write_timeout).
	HealthcheckInterval time.Duration
	// ShutdownMin ends that earlier: for so long no request has been under way
	// (shutdown_min; 5s, or HealthcheckInterval if that is less).
	ShutdownMin time.Duration

	StaticPath  string // static_path: the folder that static mode serves
	ContentType string // content_type: of responses in the fork modes
	// CGIHeaders has the output begin with a CGI header (cgi_headers).
	CGIHeaders bool
	// CombineOutput has stderr join the response (combine_output).
	CombineOutput bool
	// ReadDebug and WriteDebug log the begin of bodies in the fork modes: of
	// requests and of responses (read_debug, write_debug).
	ReadDebug, WriteDebug bool

	BufferBody  bool // http_buffer_req_body, buffer_http
	MaxInflight int  // max_inflight: 429 beyond it; 0 = no limit
	// MaxInflightQueue requests beyond it wait for MaxInflightWait first
	// (max_inflight_queue, 0; max_inflight_wait, 1s).
	MaxInflightQueue int
	MaxInflightWait  time.Duration
	ReadyPath        string // ready_path: /_/ready also asks the function
	// SuppressLock leaves the lock file out (suppress_lock).
	SuppressLock bool

	PrefixLogs    bool // prefix_logs: time and stream name before function output
	LogBufferSize int  // log_buffer_size: bytes of one log line; -1 = unlimited
	LogCallID     bool // log_call_id, log_callid
	LogJSON       bool // log_format: our own lines are JSON, not upstream's text

	// JWTAuth lets only callers with a function token in (jwt_auth).
	JWTAuth      bool
	JWTAuthDebug bool // jwt_auth_debug
	// JWTAuthority is the issuer's base URL or its discovery document's
	// (jwt_auth_authority, else by jwt_auth_local); "" = JWTKeysFile.
	JWTAuthority string
	// JWTKeysFile is a key set on disk in the place of an authority, whose name
	// JWTIssuer then is; with an authority it is the one that discovery must
	// name, "" = any (jwt_auth_jwks_file, jwt_auth_issuer).
	JWTKeysFile, JWTIssuer string
	JWTLeeway              time.Duration // jwt_auth_leeway: on exp, nbf and iat
	JWTRefresh             time.Duration // jwt_auth_refresh: between two fetches of the keys
	JWTKeepKeys            time.Duration // jwt_auth_keep_keys: use of keys after the last fetch
	// JWTHeaders tell the function who calls; nil = it is told nothing, and
	// X-Auth-* is anybody's (jwt_auth_headers).
	JWTHeaders []ClaimHeader
	// JWTHideToken takes Authorization out of requests (jwt_auth_forward_token=false).
	JWTHideToken bool
	// JWTSkipPaths need no token: paths, or what is below one that ends in "/*"
	// (jwt_auth_skip_paths).
	JWTSkipPaths []string
	JWTPreflight bool // jwt_auth_cors_preflight: nor do CORS preflights
	// FunctionName and FunctionNamespace say which function this is
	// (OPENFAAS_NAME, OPENFAAS_NAMESPACE). The namespace may be empty here:
	// the watchdog then asks the mounted service account.
	FunctionName, FunctionNamespace string

	// HMACAuth lets only requests in that are signed by this scheme: github,
	// stripe, slack or generic; "" = off (hmac_auth). With JWTAuth, a request
	// without the scheme's signature needs a token.
	HMACAuth       string
	HMACSecretFile string // hmac_auth_secret_file: one secret a line
	HMACHeader     string // hmac_auth_header, for generic
	HMACHash       string // hmac_auth_hash, for generic: sha256, sha512, sha1, md5
	HMACMaxBody    int    // hmac_auth_max_body: bytes; 413 beyond it

	// TracesURL takes spans by OTLP/HTTP; nil = no tracing
	// (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT).
	TracesURL *url.URL
	// TracesHeaders go with them, and may hold secrets
	// (OTEL_EXPORTER_OTLP_TRACES_HEADERS, OTEL_EXPORTER_OTLP_HEADERS).
	TracesHeaders map[string]string
	// ServiceName is the resource that spans are of (OTEL_SERVICE_NAME, else
	// FunctionName, else fwatchdog).
	ServiceName string
}

// Where the gateway's discovery document is unless jwt_auth_authority says.
const (
	clusterAuthority = "http://gateway.openfaas:8080/.well-known/openid-configuration"
	localAuthority   = "http://127.0.0.1:8000/.well-known/openid-configuration"
)

// ParseWatchdog reads fwatchdog's configuration from environ, a list of
// "name=value". The error is an [*Error] that names every bad variable.
func ParseWatchdog(environ []string) (Watchdog, error) {
	e := newEnv(environ)
	c := Watchdog{
		MetricsPort:   e.port(8081, "metrics_port"),
		Mode:          Mode(e.str(string(Streaming), "mode")),
		ReadTimeout:   e.duration(30*time.Second, "read_timeout"),
		WriteTimeout:  e.duration(30*time.Second, "write_timeout"),
		ExecTimeout:   e.duration(30*time.Second, "exec_timeout"),
		StaticPath:    e.str("/home/app/public", "static_path"),
		ContentType:   e.str("application/octet-stream", "content_type"),
		CGIHeaders:    e.boolean(false, "cgi_headers"),
		CombineOutput: e.boolean(false, "combine_output"),
		ReadDebug:     e.boolean(false, "read_debug"),
		WriteDebug:    e.boolean(false, "write_debug"),
		BufferBody:    e.boolean(false, "buffer_http", "http_buffer_req_body"),
		MaxInflight:   e.integer(0, 0, 1<<30, "max_inflight"),

		MaxInflightQueue: e.integer(0, 0, 1<<30, "max_inflight_queue"),
		MaxInflightWait:  e.duration(time.Second, "max_inflight_wait"),

		ReadyPath:     e.str("", "ready_path"),
		SuppressLock:  e.boolean(false, "suppress_lock"),
		PrefixLogs:    e.boolean(true, "prefix_logs"),
		LogBufferSize: e.integer(64<<10, -1, 1<<30, "log_buffer_size"),
		LogCallID:     e.boolean(false, "log_callid", "log_call_id"),
		LogJSON:       e.oneOf("text", "json", "log_format"),
		JWTAuth:       e.boolean(false, "jwt_auth"),
		JWTAuthDebug:  e.boolean(false, "jwt_auth_debug"),

		FunctionName:      e.str("", "OPENFAAS_NAME"),
		FunctionNamespace: e.str("", "OPENFAAS_NAMESPACE"),
	}
	c.Network, c.Address = e.listen("", e.port(8080, "port"))
	c.HealthcheckInterval = e.duration(c.WriteTimeout, "healthcheck_interval")
	c.StreamIdleTimeout = e.duration(0, "stream_idle_timeout")
	c.ShutdownMin = e.duration(min(c.HealthcheckInterval, 5*time.Second), "shutdown_min")
	if c.ShutdownMin > c.HealthcheckInterval {
		e.bad("shutdown_min", e.values["shutdown_min"], "no more than healthcheck_interval, which is "+c.HealthcheckInterval.String())
	}
	e.tracing(&c)
	e.webhooks(&c)

	switch c.Mode {
	case HTTP, Streaming, Serializing, Static, InProc:
	default:
		e.bad("mode", string(c.Mode), "http, streaming, serializing, static or inproc")
	}
	if name, v, ok := e.lookup("fprocess", "function_process"); ok {
		words, err := splitWords(v)
		switch {
		case err != nil:
			e.bad(name, v, err.Error())
		case len(words) == 0 || words[0] == "":
			e.bad(name, v, "the command that runs the function")
		}
		c.Process = words
	} else if c.Mode != Static && c.Mode != InProc {
		e.bad("fprocess", "", "the command that runs the function")
	}
	c.Upstream = e.upstream(c.Mode)
	switch {
	case c.ReadyPath == "":
	case !strings.HasPrefix(c.ReadyPath, "/"):
		e.bad("ready_path", c.ReadyPath, "a path that begins with /")
	case c.JWTAuth && (c.Mode == Streaming || c.Mode == Serializing):
		e.bad("ready_path", c.ReadyPath, "nothing with jwt_auth in this mode: each GET /_/ready, which needs no token, would run the function")
	case c.HMACAuth != "" && (c.Mode == Streaming || c.Mode == Serializing):
		e.bad("ready_path", c.ReadyPath, "nothing with hmac_auth in this mode: each GET /_/ready, which needs no signature, would run the function")
	}
	if c.WriteTimeout == 0 {
		e.bad("write_timeout", e.values["write_timeout"], "more than 0s")
	}

	e.jwtAuth(&c)
	if c.JWTAuth && c.FunctionName == "" {
		e.bad("OPENFAAS_NAME", "", "the function's name, which jwt_auth=true needs to check permissions")
	}
	return c, e.err()
}

// upstream reads where http mode forwards to, which only that mode needs.
func (e *env) upstream(mode Mode) *url.URL {
	name, v, ok := e.lookup("upstream_url", "http_upstream_url")
	if !ok {
		if mode == HTTP {
			e.bad(name, "", "the function's address in http mode, as in http://127.0.0.1:3000 or unix:///tmp/function.sock")
		}
		return nil
	}
	u, err := url.Parse(v)
	switch {
	case err != nil, u.User != nil, u.RawQuery != "", u.Fragment != "",
		u.Scheme == "http" && u.Host == "",
		u.Scheme == "unix" && (u.Host != "" || u.Path == ""),
		u.Scheme != "http" && u.Scheme != "unix":
		e.bad(name, redactURL(v), "http://host:port, http://host:port/prefix or unix:///path.sock")
		return nil
	}
	return u
}
