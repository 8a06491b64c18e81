package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseGatewayDefaults(t *testing.T) {
	t.Parallel()
	c, err := ParseGateway(nil)
	require.NoError(t, err)
	require.Equal(t, Gateway{
		Address:           "127.0.0.1:8080",
		MetricsAddress:    "127.0.0.1:8082",
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		UpstreamTimeout:   time.Minute,
		DataDir:           ".gatehound",
		IAMDir:            ".gatehound/iam",
		IssuerKeyPath:     ".gatehound/keys",
		SecretMountPath:   ".gatehound/secrets",
		GenerateIAM:       true,
		GenerateKey:       true,
		GenerateSecrets:   true,
		BasicAuth:         true,
		FunctionNamespace: "openfaas-fn",
		IAMNamespace:      "openfaas",
		Dashboard:         true,
		OAuthScopes:       []string{"openid", "profile", "email"},

		Events: Events{AuditingVerbs: []string{"PUT", "POST", "DELETE"}, MeteringDefaultRAM: 512 << 20,
			Timeout: 30 * time.Second, Batch: 1000, BatchWait: time.Second, SpoolBytes: 256 << 20},
		ScaleFromZero:       true,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024,
	}, c)
}

func TestParseGatewayValues(t *testing.T) {
	t.Parallel()
	c, err := ParseGateway([]string{
		"port=9000", "metrics_port=0", "data_dir=/d", "issuer_key_path=/k", "secret_mount_path=/s",
		"base_host=https://other", "system_issuer=https://gw.example.com/", "functions_provider_url=http://provider:8081",
		"upstream_timeout=90", "log_encoding=json", "debug=1", "ca_bundle_path=/ca.pem", "insecure_tls=true",
		"KUBERNETES_SERVICE_HOST=fd00::1", "KUBERNETES_SERVICE_PORT=6443",
	})
	require.NoError(t, err)
	require.Equal(t, ":9000", c.Address, "all interfaces in front of a provider")
	require.Empty(t, c.MetricsAddress)
	require.Equal(t, "/d/iam", c.IAMDir)
	require.True(t, c.GenerateIAM)
	require.False(t, c.GenerateKey, "a path that was given is not ours to fill")
	require.False(t, c.GenerateSecrets)
	require.Equal(t, "https://gw.example.com", c.SystemIssuer)
	require.Equal(t, "provider:8081", c.FunctionsProvider.Host)
	require.Equal(t, 90*time.Second, c.UpstreamTimeout)
	require.True(t, c.LogJSON)
	require.True(t, c.Debug)
	require.Equal(t, "/ca.pem", c.CABundlePath)
	require.True(t, c.InsecureTLS)
	require.Equal(t, "[fd00::1]:6443", c.KubernetesAddress)
	require.False(t, c.IAMKubernetes)

	require.True(t, c.BasicAuth)
	require.False(t, c.AuthPassBody)
	require.False(t, c.ScaleFromZero, "as upstream, in front of a provider")

	c, err = ParseGateway([]string{"auth_proxy_url=https://plugin:8443/validate?v=1", "auth_proxy_pass_body=true", "basic_auth=true"})
	require.NoError(t, err)
	require.Equal(t, "https://plugin:8443/validate?v=1", c.AuthProxyURL.String())
	require.True(t, c.AuthPassBody)
	c, err = ParseGateway([]string{"auth_proxy_pass_body=true", "auth_pass_body=false", "validate_forwarded=true"})
	require.NoError(t, err)
	require.Nil(t, c.AuthProxyURL)
	require.False(t, c.AuthPassBody, "the last of the aliases wins")
	require.True(t, c.ValidateForwarded)

	c, err = ParseGateway([]string{
		"functions_provider_url=http://provider:8081", "system_issuer=https://gw.example.com", "scale_from_zero=true", "probe_functions=true",
		"direct_functions=true", "direct_functions_suffix=svc.cluster.local", "max_idle_conns=7", "max_idle_conns_per_host=3",
	})
	require.NoError(t, err)
	require.True(t, c.ScaleFromZero)
	require.True(t, c.ProbeFunctions)
	require.True(t, c.DirectFunctions)
	require.Equal(t, 7, c.MaxIdleConns)
	require.Equal(t, 3, c.MaxIdleConnsPerHost)
	for suffix, want := range map[string]string{
		"":                         "",
		"svc.cluster.local":        "svc.cluster.local",
		"fn.svc.cluster.local":     "svc.cluster.local",
		"fn":                       "",
		"fnx.svc":                  "fnx.svc",
		"svc.fn.svc.cluster.local": "svc.fn.svc.cluster.local",
	} {
		c, err := ParseGateway([]string{"function_namespace=fn", "direct_functions_suffix=" + suffix})
		require.NoError(t, err)
		require.Equal(t, want, c.DirectFunctionsSuffix, suffix)
	}

	c, err = ParseGateway([]string{"functions_provider_url=http://p", "system_issuer=http://a", "logs_provider_url=https://loki:9191/x",
		"faas_prometheus_host=prometheus.openfaas"})
	require.NoError(t, err)
	require.Equal(t, "https://loki:9191/x", c.LogsProvider.String())
	require.Equal(t, "prometheus.openfaas:9090", c.Prometheus)
	for _, host := range []string{"fd00::1", "[fd00::1]"} {
		c, err = ParseGateway([]string{"faas_prometheus_host=" + host, "faas_prometheus_port=80"})
		require.NoError(t, err)
		require.Equal(t, "[fd00::1]:80", c.Prometheus)
	}

	c, err = ParseGateway([]string{"async=false", "faas_nats_address=nats", "faas_nats_port=4222", "faas_nats_channel="})
	require.NoError(t, err)
	require.Equal(t, []string{"faas_nats_address", "faas_nats_port"}, c.AsyncIgnored)
	c, err = ParseGateway([]string{"async=true"})
	require.NoError(t, err)
	require.Equal(t, []string{"async"}, c.AsyncIgnored)

	c, err = ParseGateway([]string{"basic_auth=false"})
	require.NoError(t, err)
	require.False(t, c.BasicAuth)
	require.False(t, c.GenerateSecrets, "there is no password to make")

	c, err = ParseGateway([]string{"iam_store=kubernetes", "iam_namespace=iam", "KUBECONFIG=/a:/b"})
	require.NoError(t, err)
	require.True(t, c.IAMKubernetes)
	require.Equal(t, "iam", c.IAMNamespace)
	require.Equal(t, "/a:/b", c.Kubeconfig)
}

func TestParseGatewayErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		environ []string
		says    string
	}{
		{"port", []string{"port=70000"}, `port="70000": want a whole number from 0 to 65535`},
		{"basic_auth misspelt", []string{"basic_auth=off"}, `basic_auth="off": want true or false`},
		{"listen without port", []string{"listen=127.0.0.1"}, `listen="127.0.0.1"`},
		{"listen with a name as port", []string{"listen=127.0.0.1:http"}, `listen="127.0.0.1:http"`},
		{"listen on a socket", []string{"listen=unix:///x"}, `listen="unix:///x"`},
		{"embedded beyond loopback", []string{"listen=192.0.2.1:80"}, "want a loopback address"},
		{"embedded on a name", []string{"listen=example.com:80"}, "want a loopback address"},
		{"embedded on all interfaces", []string{"listen=:80"}, "want a loopback address"},
		{"issuer beyond loopback", []string{"functions_provider_url=http://p"}, `system_issuer="": want the URL`},
		{"issuer with query", []string{"system_issuer=http://a?b"}, "without a query"},
		{"issuer without scheme", []string{"system_issuer=gw.example.com"}, `system_issuer="gw.example.com"`},
		{"credentials in a URL", []string{"system_issuer=http://u:secret@a/"}, `"http://[hidden]@a/"`},
		{"a slash in the password", []string{"system_issuer=http://u:se/cret@a:8081"}, `"http://[hidden]@a:8081"`},
		{"no scheme", []string{"system_issuer=u:secret@a:8081"}, `"[hidden]@a:8081"`},
		{"stack file with a provider", []string{"functions_provider_url=http://p", "system_issuer=http://a", "stack_file=x"}, `stack_file="x"`},
		{"provider by https", []string{"functions_provider_url=https://p", "system_issuer=http://a"}, `functions_provider_url="https://p": want an http:// URL`},
		{"provider with query", []string{"functions_provider_url=http://p?x", "system_issuer=http://a"}, `functions_provider_url="http://p?x"`},
		{"plugin without scheme", []string{"auth_proxy_url=plugin/validate"}, `auth_proxy_url="plugin/validate": want an http:// or https:// URL`},
		{"credentials for the plugin", []string{"auth_proxy_url=http://u:secret@p/validate"}, `auth_proxy_url="http://[hidden]@p/validate"`},
		{"plugin with fragment", []string{"auth_proxy_url=http://p/#x"}, `auth_proxy_url="http://p/#x": want a URL without a fragment`},
		{"pass body", []string{"auth_pass_body=on"}, `auth_pass_body="on": want true or false`},
		{"plugin of others and of its own", []string{"auth_proxy_url=http://p", "validate_forwarded=1"}, `validate_forwarded="true": want nothing while auth_proxy_url is set`},
		{"logs without a provider", []string{"logs_provider_url=http://l"}, `logs_provider_url="http://l": want nothing without functions_provider_url`},
		{"logs with query", []string{"functions_provider_url=http://p", "system_issuer=http://a", "logs_provider_url=http://l?x"}, `logs_provider_url="http://l?x"`},
		{"Prometheus by URL", []string{"faas_prometheus_host=http://p"}, `faas_prometheus_host="http://p": want a host name`},
		{"Prometheus with a port", []string{"faas_prometheus_host=p:9090"}, `faas_prometheus_host="p:9090": want a host name`},
		{"Prometheus with a path", []string{"faas_prometheus_host=p/x"}, `faas_prometheus_host="p/x"`},
		{"Prometheus with a password", []string{"faas_prometheus_host=u:secret@p"}, `faas_prometheus_host="[hidden]@p"`},
		{"Prometheus' port", []string{"faas_prometheus_port=0"}, `faas_prometheus_port="0"`},
		{"insecure", []string{"insecure_tls=yes"}, `insecure_tls="yes": want true or false`},
		{"namespace", []string{"function_namespace=a.b"}, `function_namespace="a.b"`},
		{"store", []string{"iam_store=etcd"}, `iam_store="etcd": want folder or kubernetes`},
		{"a folder beside the cluster", []string{"iam_store=kubernetes", "iam_dir=/iam"}, `iam_dir="/iam": want nothing while iam_store=kubernetes`},
		{"namespace of the objects", []string{"iam_namespace=a/b"}, `iam_namespace="a/b"`},
		{"scale_from_zero", []string{"scale_from_zero=zero"}, `scale_from_zero="zero": want true or false`},
		{"direct without a provider", []string{"direct_functions=true"}, `direct_functions="true": want false while functions run here`},
		{"suffix with a port", []string{"direct_functions_suffix=svc:80"}, `direct_functions_suffix="svc:80": want a DNS name`},
		{"suffix with a dot", []string{"direct_functions_suffix=.svc"}, `direct_functions_suffix=".svc"`},
		{"suffix that ends an IP address", []string{"direct_functions_suffix=0.1"}, `direct_functions_suffix="0.1"`},
		{"suffix with a credential", []string{"direct_functions_suffix=a@b"}, `direct_functions_suffix="a@b"`},
		{"no idle connections", []string{"max_idle_conns_per_host=0"}, `max_idle_conns_per_host="0": want a whole number from 1`},
		{"no time to write", []string{"write_timeout=0"}, `write_timeout="0"`},
		{"negative duration", []string{"read_timeout=-1s"}, `read_timeout="-1s"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseGateway(c.environ)
			var bad *Error
			require.True(t, errors.As(err, &bad), "%v", err)
			require.Len(t, bad.Problems, 1, "%v", err)
			require.Contains(t, err.Error(), c.says)
			require.NotContains(t, err.Error(), "cret@")
		})
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "hello", "a-b", "0", "x1"} {
		require.True(t, ValidName(name), name)
	}
	for _, name := range []string{"", "-a", "a-", "A", "a.b", "a/b", "a_b", "é", "a\n", "..", string(make([]byte, 64))} {
		require.False(t, ValidName(name), "%q", name)
	}
}

func TestValidSecretName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "api-key", "tls.crt", "a.b-c.d9", strings.Repeat("a", 253)} {
		require.True(t, ValidSecretName(name), name)
	}
	for _, name := range []string{"", ".", "..", "a.", ".a", "a..b", "-a", "a-", "a.-b", "A", "a/b", "a b", "a\n", "*", strings.Repeat("a", 254)} {
		require.False(t, ValidSecretName(name), name)
	}
}
