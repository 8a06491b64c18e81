//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// errMissing is a peer that is not on this machine.
var errMissing = errors.New("MISSING")

// A starter starts one program in front of the function.
type starter func(ctx context.Context) (*subject, error)

// port is the port of a host:port.
func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// watchdog starts an fwatchdog, ours or upstream's; both know these variables.
// In http mode it starts the function itself, on a port of its own.
func (b *bench) watchdog(ours, auth bool, mode string, extra ...string) starter {
	return func(ctx context.Context) (*subject, error) {
		listen, metrics, upstream := freeAddress(), freeAddress(), freeAddress()
		env := append([]string{
			"port=" + port(listen), "mode=" + mode, "OPENFAAS_NAME=function", "OPENFAAS_NAMESPACE=openfaas-fn",
			"healthcheck_interval=1ms", fmt.Sprintf("jwt_auth=%t", auth),
		}, extra...)
		switch {
		case mode != "http":
			env = append(env, "fprocess=cat")
		case len(extra) == 0:
			env = append(env, "fprocess="+b.self, "upstream_url=http://"+upstream, functionVariable+"="+upstream)
		default: // a Unix socket, ours alone
			socket := filepath.Join(b.dir, "function.sock")
			os.Remove(socket)
			env = append(env, "fprocess="+b.self, "upstream_url=unix://"+socket, functionVariable+"="+socket)
		}
		program := b.upstream
		if ours {
			program = filepath.Join(b.binaries, "fwatchdog")
			env = append(env, "metrics_port="+port(metrics), "jwt_auth_authority="+b.issuer.URL)
		} else {
			if err := b.needsUpstream(); err != nil {
				return nil, err
			}
			env = append(env, "jwt_auth_local=true")
		}
		s, err := start(filepath.Join(b.dir, "watchdog"), program, nil, env)
		if err != nil {
			return nil, err
		}
		s.address, s.metrics, s.token, s.checks = listen, metrics, b.token, auth
		return s, nil
	}
}

// needsUpstream reports why of-watchdog cannot be measured.
func (b *bench) needsUpstream() error {
	if b.upstream == "" {
		return fmt.Errorf("%w: PEER_WATCHDOG names no of-watchdog binary", errMissing)
	}
	if b.issuer.URL != localAuthority {
		return fmt.Errorf("%w: of-watchdog asks %s for keys, and that port is taken", errMissing, localAuthority)
	}
	ln, err := net.Listen("tcp", ":8081")
	if err != nil {
		return fmt.Errorf("%w: of-watchdog serves its metrics on port 8081: %w", errMissing, err)
	}
	return ln.Close()
}

// localAuthority is where of-watchdog looks for keys with jwt_auth_local.
const localAuthority = "http://127.0.0.1:8000"

// raw starts the function alone: the limit.
func (b *bench) raw(ctx context.Context) (*subject, error) {
	address := freeAddress()
	s, err := start(filepath.Join(b.dir, "raw"), b.self, nil, []string{functionVariable + "=" + address})
	if err != nil {
		return nil, err
	}
	s.address, s.token = address, b.token
	return s, nil
}

// before starts the function, then proxy in front of it.
func (b *bench) before(function starter, proxy func(upstream *subject) (*subject, error)) starter {
	return func(ctx context.Context) (*subject, error) {
		upstream, err := function(ctx)
		if err != nil {
			return nil, err
		}
		if err := upstream.ready(ctx); err != nil {
			upstream.stop()
			return nil, err
		}
		s, err := proxy(upstream)
		if err != nil {
			upstream.stop()
			return nil, err
		}
		s.behind = upstream
		s.checks = s.checks || upstream.checks
		return s, nil
	}
}

// nginx as a plain proxy: kept-alive connections to the function and to the
// client without a limit, an access log, a worker for each processor, and bodies
// passed on as they come, which it is better at than with a file in between.
func (b *bench) nginx(upstream *subject) (*subject, error) {
	if b.programs["nginx"] == "" {
		return nil, fmt.Errorf("%w: nginx is not installed", errMissing)
	}
	address := freeAddress()
	dir := filepath.Join(b.dir, "nginx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := `
daemon off; pid ` + dir + `/pid; error_log stderr; worker_processes auto; worker_rlimit_nofile 32768; ` + user + `
events { worker_connections 16384; }
http {
	access_log ` + dir + `/access.log;
	client_body_temp_path ` + dir + `; proxy_temp_path ` + dir + `; fastcgi_temp_path ` + dir + `; uwsgi_temp_path ` + dir + `; scgi_temp_path ` + dir + `;
	sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000000; client_max_body_size 0;
	upstream function { server ` + upstream.address + `; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen ` + address + ` backlog=16384;
		location / {
			proxy_pass http://function; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_request_buffering off; proxy_max_temp_file_size 0;
		}
	}
}`
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	s, err := start(dir, b.programs["nginx"], []string{"-e", "stderr", "-c", file}, nil)
	if err != nil {
		return nil, err
	}
	s.address, s.token = address, b.token
	return s, nil
}

// haproxy checks what it can of a token: algorithm, signature, issuer, expiry. It
// has no way to say which functions a token is good for.
func (b *bench) haproxy(upstream *subject) (*subject, error) {
	if b.programs["haproxy"] == "" {
		return nil, fmt.Errorf("%w: haproxy is not installed", errMissing)
	}
	address := freeAddress()
	dir := filepath.Join(b.dir, "haproxy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, file := filepath.Join(dir, "key.pem"), filepath.Join(dir, "haproxy.cfg")
	config := `
global
	nbthread 2
	log stdout format raw local0
defaults
	mode http
	log global
	option httplog
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend function
	bind ` + address + `
	http-request set-var(txn.bearer) http_auth_bearer
	http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
	http-request deny deny_status 401 unless { var(txn.alg) -m str ES256 }
	http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify(txn.alg,"` + key + `") 1 }
	http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.iss') -m str ` + b.issuer.URL + ` }
	http-request set-var(txn.now) date()
	http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }
	default_backend function
backend function
	http-reuse always
	server function ` + upstream.address + `
`
	if err := errors.Join(os.WriteFile(key, b.issuer.PublicKey(), 0o600), os.WriteFile(file, []byte(config), 0o600)); err != nil {
		return nil, err
	}
	s, err := start(dir, b.programs["haproxy"], []string{"-db", "-f", file}, nil)
	if err != nil {
		return nil, err
	}
	s.address, s.token, s.checks = address, b.token, true
	return s, nil
}

// gateway starts our gateway with the function, which it runs behind an
// fwatchdog. It trusts the issuer as an identity provider, and its calls take a
// function token that it exchanged itself.
func (b *bench) gateway(ctx context.Context) (*subject, error) {
	listen, metrics, upstream := freeAddress(), freeAddress(), freeAddress()
	dir := filepath.Join(b.dir, "gateway")
	if err := os.MkdirAll(filepath.Join(dir, "iam"), 0o700); err != nil {
		return nil, err
	}
	stack := `
version: 1.0
provider: {name: openfaas}
functions:
  function:
    image: function
    fprocess: ` + b.self + `
    environment: {mode: http, jwt_auth: "true", upstream_url: "http://` + upstream + `", ` + functionVariable + `: "` + upstream + `"}
`
	const header = "apiVersion: iam.openfaas.com/v1\nmetadata: {name: benchmarks, namespace: openfaas}\n"
	objects := header + `kind: JwtIssuer
spec: {iss: "` + b.issuer.URL + `", aud: ["` + b.issuer.URL + `"], tokenExpiry: 1h}
---
` + header + `kind: Policy
spec: {statement: [{sid: invoke, effect: Allow, action: ["Function:Invoke"], resource: ["openfaas-fn:*"]}]}
---
` + header + `kind: Role
spec: {policy: [benchmarks], principal: {"jwt:sub": [alice]}, condition: {StringEqual: {"jwt:iss": "` + b.issuer.URL + `"}}}
`
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "stack.yml"), []byte(stack), 0o600),
		os.WriteFile(filepath.Join(dir, "iam", "iam.yaml"), []byte(objects), 0o600)); err != nil {
		return nil, err
	}
	s, err := start(dir, filepath.Join(b.binaries, "gateway"), nil, []string{
		"listen=" + listen, "metrics_port=" + port(metrics), "data_dir=" + filepath.Join(dir, "data"),
		"iam_dir=" + filepath.Join(dir, "iam"), "stack_file=" + filepath.Join(dir, "stack.yml"),
	})
	if err != nil {
		return nil, err
	}
	s.address, s.metrics, s.path, s.checks = listen, metrics, "/function/function", true
	if s.token, err = b.functionToken(ctx, s); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// exchangeForm is the body of a request for a function token.
func exchangeForm(subjectToken string) string {
	return url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		"subject_token":      {subjectToken},
		"scope":              {"function"},
	}.Encode()
}

func (b *bench) functionToken(ctx context.Context, gateway *subject) (string, error) {
	c := gateway.client()
	defer c.CloseIdleConnections()
	var answer struct {
		Token       string `json:"access_token"`
		Description string `json:"error_description"`
	}
	err := until(ctx, func() error {
		res, err := c.Post("http://gateway/oauth/token", "application/x-www-form-urlencoded", strings.NewReader(exchangeForm(b.issuer.IDToken("alice"))))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, %q: %w", res.StatusCode, answer.Description, err)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("cannot get a function token: %w; the gateway's log: %s", err, gateway.log())
	}
	return answer.Token, nil
}
