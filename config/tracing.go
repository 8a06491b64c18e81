package config

import (
	"net/url"
	"strings"
)

// tracing reads the variables of OpenTelemetry that say where spans go. They
// are the function's too, which may use what this exporter does not speak: an
// endpoint for gRPC is not ours.
func (e *env) tracing(c *Watchdog) {
	c.ServiceName = e.str("fwatchdog", "OPENFAAS_NAME", "OTEL_SERVICE_NAME")
	protocol := e.str("http/json", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if strings.EqualFold(e.values["OTEL_SDK_DISABLED"], "true") || e.values["OTEL_TRACES_EXPORTER"] == "none" ||
		!strings.HasPrefix(protocol, "http/") {
		return
	}
	if u := e.httpURL("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"); u != nil {
		c.TracesURL = u
	} else if u := e.httpURL("OTEL_EXPORTER_OTLP_ENDPOINT"); u != nil {
		c.TracesURL = u.JoinPath("v1/traces")
	}
	if c.TracesURL == nil {
		return
	}
	name, v, ok := e.lookup("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
	if !ok {
		return
	}
	c.TracesHeaders = map[string]string{}
	for pair := range strings.SplitSeq(v, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || !isToken(key) || err != nil || strings.ContainsFunc(value, isControl) {
			e.bad(name, "[hidden]", `a list like "name=value,name2=value2" with values percent-encoded`)
			return
		}
		c.TracesHeaders[key] = value
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// isToken reports whether s can be the name of a header (RFC 9110, section
// 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
