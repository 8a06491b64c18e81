package watchdog

import (
	"strconv"

	"github.com/gatehound/gatehound/config"
)

// The JSON form of an OTLP ExportTraceServiceRequest, as far as we fill it:
// field names in lowerCamelCase, ids in hex, 64-bit integers as strings
// (OTLP 1.x, "JSON Protobuf Encoding").
type (
	otlpExport struct {
		ResourceSpans []otlpResourceSpans `json:"resourceSpans"`
	}
	otlpResourceSpans struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []otlpScopeSpans `json:"scopeSpans"`
	}
	otlpScopeSpans struct {
		Scope struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		ParentID   string          `json:"parentSpanId,omitempty"`
		State      string          `json:"traceState,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes"`
		Status     struct {
			Code int `json:"code,omitempty"`
		} `json:"status"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		String *string `json:"stringValue,omitempty"`
		Int    string  `json:"intValue,omitempty"`
	}
)

const (
	otlpKindServer  = 2
	otlpStatusError = 2
)

func otlpString(key, value string) otlpAttribute {
	return otlpAttribute{key, otlpValue{String: &value}}
}

// otlpRequest puts spans into OTLP's form, with the attributes that
// OpenTelemetry's conventions for HTTP servers and for functions name.
func otlpRequest(service, function string, batch []*span) otlpExport {
	var scope otlpScopeSpans
	scope.Scope.Name = "github.com/gatehound/gatehound/watchdog"
	scope.Scope.Version, _ = config.Version()
	for _, s := range batch {
		method, name := s.method, s.method
		if !knownMethod(method) {
			method, name = "_OTHER", "HTTP"
		}
		o := otlpSpan{
			TraceID: s.trace, SpanID: s.id, ParentID: s.parent, State: s.state,
			Name: name, Kind: otlpKindServer,
			Start: strconv.FormatInt(s.start.UnixNano(), 10), End: strconv.FormatInt(s.end.UnixNano(), 10),
			Attributes: []otlpAttribute{
				otlpString("http.request.method", method),
				otlpString("url.path", s.path),
				{"http.response.status_code", otlpValue{Int: strconv.Itoa(s.status)}},
			},
		}
		if function != "" {
			o.Attributes = append(o.Attributes, otlpString("faas.name", function))
		}
		if s.status >= 500 {
			o.Status.Code = otlpStatusError
		}
		scope.Spans = append(scope.Spans, o)
	}
	var resource otlpResourceSpans
	resource.Resource.Attributes = []otlpAttribute{otlpString("service.name", service)}
	resource.ScopeSpans = []otlpScopeSpans{scope}
	return otlpExport{[]otlpResourceSpans{resource}}
}
