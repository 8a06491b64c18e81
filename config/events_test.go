package config

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseEvents(t *testing.T) {
	t.Parallel()
	c, err := ParseGateway([]string{
		"auditing=true", "auditing_http_verbs=get, Post", "auditing_mandatory=1", "metering=true", "metering_exclude_namespaces=openfaas-system, dev,",
		"metering_default_ram=64Mi", "events_url=https://example.com/hook?token=x", "events_secret_file=/s", "events_timeout=5", "events_batch=10",
		"events_batch_wait=100ms", "events_spool_bytes=1G",
	})
	require.NoError(t, err)
	require.Equal(t, Events{
		Auditing: true, AuditingVerbs: []string{"GET", "POST"}, AuditingMandatory: true,
		Metering: true, MeteringExclude: []string{"openfaas-system", "dev"}, MeteringDefaultRAM: 64 << 20,
		URL:        &url.URL{Scheme: "https", Host: "example.com", Path: "/hook", RawQuery: "token=x"},
		SecretFile: "/s", Timeout: 5 * time.Second, Batch: 10, BatchWait: 100 * time.Millisecond, SpoolBytes: 1e9,
	}, c.Events)
	c, err = ParseGateway([]string{"metering=true", "events_file=-"})
	require.NoError(t, err)
	require.Equal(t, "-", c.Events.File)

	for _, bad := range []struct {
		name    string
		environ []string
		says    string
	}{
		{"audit to nowhere", []string{"auditing=true"}, `events_url="": want a webhook`},
		{"meter to nowhere", []string{"metering=true"}, `or events_file, where - is stdout`},
		{"unsigned", []string{"auditing=true", "events_url=http://h"}, `events_secret_file="": want a file`},
		{"a secret for a file", []string{"auditing=true", "events_file=/f", "events_secret_file=/s"}, `events_secret_file="/s": want nothing`},
		{"two places", []string{"auditing=true", "events_file=/f", "events_url=http://h", "events_secret_file=/s"}, `events_file="/f": want nothing while`},
		{"no URL", []string{"auditing=true", "events_url=h", "events_secret_file=/s"}, `events_url="h"`},
		{"a fragment", []string{"auditing=true", "events_url=http://h/?token=hunter2#x", "events_secret_file=/s"}, `events_url="http://h/[hidden]"`},
		{"mandatory nothing", []string{"auditing_mandatory=true"}, `auditing_mandatory="true": want nothing without auditing=true`},
		{"misspelt", []string{"auditing=yes"}, `auditing="yes": want true or false`},
		{"verb", []string{"auditing_http_verbs=PUT;POST"}, `auditing_http_verbs="PUT;POST": want HTTP methods`},
		{"no verb", []string{"auditing_http_verbs=,"}, `auditing_http_verbs=",": want at least one HTTP method`},
		{"namespace", []string{"metering_exclude_namespaces=a b"}, `metering_exclude_namespaces="a b"`},
		{"no RAM", []string{"metering_default_ram=0"}, `metering_default_ram="0"`},
		{"small spool", []string{"events_spool_bytes=1000Ki"}, `events_spool_bytes="1000Ki": want a number of bytes such as 256Mi, at least 1048576`},
		{"no batch", []string{"events_batch=0"}, `events_batch="0"`},
		{"no time", []string{"events_timeout=0"}, `events_timeout="0"`},
		{"no wait", []string{"events_batch_wait=0s"}, `events_batch_wait="0s"`},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseGateway(bad.environ)
			var e *Error
			require.True(t, errors.As(err, &e), "%v", err)
			require.Len(t, e.Problems, 1, "%v", err)
			require.Contains(t, err.Error(), bad.says)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"0", "1k", "1Ki", "512Mi", "8Ti", "9223372036854775807", "9223372036854775807k", "-1", "1.5Gi", "Mi", "1Mk", "1i", "+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseBytes(s); err == nil && n < 0 {
			t.Fatalf("%q became %d", s, n)
		}
	})
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"0": 0, "7": 7, "1k": 1000, "1Ki": 1024, "512Mi": 512 << 20, "2G": 2e9, "8Ti": 8 << 40} {
		n, err := parseBytes(s)
		require.NoError(t, err, s)
		require.Equal(t, want, n, s)
	}
	for _, s := range []string{"", "Mi", "1.5Gi", "-1", "+1", "1i", "1KiB", "1K", "1 Mi", "9223372036854775807k", "99999999999999999999"} {
		_, err := parseBytes(s)
		require.Error(t, err, s)
	}
}
