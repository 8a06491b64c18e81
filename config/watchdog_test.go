package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseWatchdogDefaults(t *testing.T) {
	t.Parallel()
	c, err := ParseWatchdog([]string{"fprocess=cat"})
	require.NoError(t, err)
	require.Equal(t, Watchdog{
		Network: "tcp", Address: ":8080", MetricsPort: 8081,
		Mode: Streaming, Process: []string{"cat"},
		ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, ExecTimeout: 30 * time.Second,
		HealthcheckInterval: 30 * time.Second, ShutdownMin: 5 * time.Second,
		MaxInflightWait: time.Second,
		ServiceName:     "fwatchdog",
		StaticPath:      "/home/app/public",
		ContentType:     "application/octet-stream",
		PrefixLogs:      true, LogBufferSize: 65536,
		JWTAuthority: "http://gateway.openfaas:8080/.well-known/openid-configuration",
		JWTLeeway:    time.Second, JWTRefresh: 5 * time.Minute, JWTKeepKeys: 24 * time.Hour,
	}, c)
}

func TestParseWatchdogVariables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env   string // separated by "; "
		field string
		want  any
	}{
		{"function_process=wc -l", "Process", []string{"wc", "-l"}}, // wins over fprocess
		{"fprocess=", "Process", []string{"cat"}},                   // empty = unset
		{"mode=serializing", "Mode", Serializing},
		{"mode=http; upstream_url=http://127.0.0.1:3000", "Upstream", "http://127.0.0.1:3000"},
		{"upstream_url=http://a:1; http_upstream_url=http://b:2", "Upstream", "http://b:2"},
		{"upstream_url=unix:///run/f.sock", "Upstream", "unix:///run/f.sock"},
		{"port=9000", "Address", ":9000"},
		{"listen=127.0.0.1:1234", "Address", "127.0.0.1:1234"},
		{"listen=unix:///run/w.sock", "Network", "unix"},
		{"listen=unix:///run/w.sock", "Address", "/run/w.sock"},
		{"metrics_port=0", "MetricsPort", 0},
		{"read_timeout=5", "ReadTimeout", 5 * time.Second},
		{"write_timeout=1m30s", "WriteTimeout", 90 * time.Second},
		{"write_timeout=7s", "HealthcheckInterval", 7 * time.Second},
		{"write_timeout=7s; healthcheck_interval=2", "HealthcheckInterval", 2 * time.Second},
		{"exec_timeout=0", "ExecTimeout", time.Duration(0)},
		{"stream_idle_timeout=1h", "StreamIdleTimeout", time.Hour},
		{"mode=static; static_path=/srv", "StaticPath", "/srv"},
		{"mode=inproc", "Mode", InProc},
		{"log_format=json", "LogJSON", true},
		{"log_format=text", "LogJSON", false},
		{"content_type=text/html", "ContentType", "text/html"},
		{"cgi_headers=true", "CGIHeaders", true},
		{"combine_output=true", "CombineOutput", true},
		{"read_debug=true", "ReadDebug", true},
		{"write_debug=1", "WriteDebug", true},
		{"http_buffer_req_body=true", "BufferBody", true},
		{"buffer_http=1", "BufferBody", true},
		{"max_inflight=3", "MaxInflight", 3},
		{"ready_path=/healthz", "ReadyPath", "/healthz"},
		{"suppress_lock=true", "SuppressLock", true},
		{"prefix_logs=false", "PrefixLogs", false},
		{"log_buffer_size=-1", "LogBufferSize", -1},
		{"log_callid=1", "LogCallID", true},
		{"log_call_id=true", "LogCallID", true},
		{"jwt_auth=1; OPENFAAS_NAME=env; OPENFAAS_NAMESPACE=fn", "JWTAuth", true},
		{"jwt_auth_debug=true", "JWTAuthDebug", true},
		{"jwt_auth_local=true", "JWTAuthority", localAuthority},
		{"jwt_auth_local=true; jwt_auth_authority=https://gw.example.com", "JWTAuthority", "https://gw.example.com"},
		{"OPENFAAS_NAME=env", "FunctionName", "env"},
		{"OPENFAAS_NAMESPACE=dev", "FunctionNamespace", "dev"},
		{"healthcheck_interval=2", "ShutdownMin", 2 * time.Second},
		{"shutdown_min=500ms", "ShutdownMin", 500 * time.Millisecond},
		{"max_inflight_queue=5", "MaxInflightQueue", 5},
		{"max_inflight_wait=2s", "MaxInflightWait", 2 * time.Second},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "TracesURL", "http://c:4318/v1/traces"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318/x/", "TracesURL", "http://c:4318/x/v1/traces"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c; OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d/t", "TracesURL", "http://d/t"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=c:4317; OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "TracesURL", "<nil>"}, // the function's own
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c; OTEL_SDK_DISABLED=true", "TracesURL", "<nil>"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c; OTEL_TRACES_EXPORTER=none", "TracesURL", "<nil>"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c; OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b, x=1=2,", "TracesHeaders",
			map[string]string{"api-key": "a b", "x": "1=2"}},
		{"OPENFAAS_NAME=env", "ServiceName", "env"},
		{"OPENFAAS_NAME=env; OTEL_SERVICE_NAME=other", "ServiceName", "other"},
		{"Port=1; PORT=2", "Address", ":8080"}, // names are lower case
	} {
		cfg, err := ParseWatchdog(append([]string{"fprocess=cat"}, strings.Split(c.env, "; ")...))
		if c.env == "fprocess=" {
			cfg, err = ParseWatchdog([]string{"function_process=cat", "fprocess="})
		}
		require.NoError(t, err, c.env)
		got := reflect.ValueOf(cfg).FieldByName(c.field).Interface()
		if u, ok := got.(*url.URL); ok {
			if got = "<nil>"; u != nil {
				got = u.String()
			}
		}
		require.Equal(t, c.want, got, c.env)
	}
}

func TestParseWatchdogBadValues(t *testing.T) {
	t.Parallel()
	for _, env := range []string{
		"fprocess=", "fprocess='cat", "mode=htpp", "mode=http", "port=http", "port=65536", "port=-1",
		"metrics_port=x", "read_timeout=ten", "read_timeout=-1", "write_timeout=0", "write_timeout=1h-",
		"exec_timeout=-5s", "exec_timeout=99999999999999999999", "healthcheck_interval=soon",
		"max_inflight_queue=-1", "max_inflight_wait=x", "shutdown_min=1h", "OTEL_EXPORTER_OTLP_ENDPOINT=c:4318",
		"max_inflight=-1", "max_inflight=many", "ready_path=healthz", "suppress_lock=yes",
		"prefix_logs=no", "log_buffer_size=-2", "log_callid=2", "log_format=logfmt", "jwt_auth=on", "jwt_auth=true",
		"jwt_auth_authority=gateway:8080", "listen=8080", "listen=unix://rel.sock",
		"upstream_url=127.0.0.1:3000", "upstream_url=https://a", "upstream_url=unix://a/b", "upstream_url=http://a?b",
	} {
		_, err := ParseWatchdog([]string{"fprocess=cat", env})
		var e *Error
		require.ErrorAs(t, err, &e, env)
		require.Len(t, e.Problems, 1, env)
		name, value, _ := strings.Cut(env, "=")
		switch env {
		case "jwt_auth=true":
			name, value = "OPENFAAS_NAME", ""
		case "mode=http":
			name, value = "upstream_url", ""
		}
		require.True(t, strings.HasPrefix(e.Problems[0], fmt.Sprintf("%s=%q: want ", name, value)), e.Problems[0])
	}
}

func TestParseWatchdogReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, err := ParseWatchdog([]string{"port=x", "mode=y", "jwt_auth=z", "exec_timeout=w"})
	for _, want := range []string{`port="x"`, `mode="y"`, `jwt_auth="z"`, `exec_timeout="w"`, `fprocess=""`} {
		require.ErrorContains(t, err, want)
	}
}

func TestModesWithoutACommand(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"static", "inproc"} {
		_, err := ParseWatchdog([]string{"mode=" + mode})
		require.NoError(t, err)
	}
}

func TestParseWatchdogHidesPasswords(t *testing.T) {
	t.Parallel()
	_, err := ParseWatchdog([]string{"fprocess=cat", "upstream_url=http://u:hunter2@h/p", "jwt_auth_authority=http://u:hunter2@h"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

// Headers of traces may hold secrets.
func TestParseWatchdogHidesTraceHeaders(t *testing.T) {
	t.Parallel()
	for _, headers := range []string{"hunter2", "=hunter2", "a b=hunter2", "a=hunter2%zz", "a=hunter2%0d%0a"} {
		_, err := ParseWatchdog([]string{"fprocess=cat", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c", "OTEL_EXPORTER_OTLP_HEADERS=" + headers})
		require.ErrorContains(t, err, "OTEL_EXPORTER_OTLP_HEADERS", headers)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func FuzzParseWatchdog(f *testing.F) {
	f.Add("fprocess=cat\x00port=1")
	f.Add("mode=http\x00upstream_url=unix:///a\x00fprocess=x 'y'")
	f.Add("=\x00\x00listen=[::1]:0\x00jwt_auth=1")
	f.Fuzz(func(t *testing.T, env string) {
		c, err := ParseWatchdog(strings.Split(env, "\x00"))
		if err != nil {
			var e *Error
			require.True(t, errors.As(err, &e) && len(e.Problems) > 0)
			return
		}
		if c.Mode != Static && c.Mode != InProc {
			require.NotEmpty(t, c.Process)
			require.NotEmpty(t, c.Process[0])
		}
		require.Positive(t, c.WriteTimeout)
		require.GreaterOrEqual(t, c.ExecTimeout, time.Duration(0))
		require.True(t, c.Mode != HTTP || c.Upstream != nil)
		require.True(t, !c.JWTAuth || c.FunctionName != "")
	})
}

// A fork for each GET /_/ready, which needs no token, would be a way around
// jwt_auth.
func TestReadyPathBesideJWTAuth(t *testing.T) {
	t.Parallel()
	protected := []string{"fprocess=cat", "jwt_auth=true", "OPENFAAS_NAME=f", "ready_path=/ready"}
	for _, mode := range []string{"streaming", "serializing"} {
		_, err := ParseWatchdog(append(protected, "mode="+mode))
		require.ErrorContains(t, err, `ready_path="/ready": want nothing with jwt_auth`, mode)
	}
	_, err := ParseWatchdog(append(protected, "mode=http", "upstream_url=http://127.0.0.1:3000"))
	require.NoError(t, err)
}
