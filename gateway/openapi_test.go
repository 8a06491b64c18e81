package gateway

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestDescription: the description and the table have the same routes, with the
// same actions, and what needs no credentials in one needs none in the other.
func TestDescription(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	res, body := a.sendRaw(t, "GET", "/openapi.json", "", "")
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	res, text := a.sendRaw(t, "GET", "/openapi.yaml", "", "")
	require.Equal(t, "application/yaml", res.Header.Get("Content-Type"))
	converted, err := yaml.YAMLToJSONStrict([]byte(text)) // no name twice
	require.NoError(t, err)
	require.JSONEq(t, string(converted), body)

	type operation struct {
		Action    string                     `json:"x-action"`
		Security  *[]map[string][]string     `json:"security"` // nil = the document's
		Responses map[string]json.RawMessage `json:"responses"`
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &document))
	described := map[string]operation{}
	parameter := regexp.MustCompile(`\{\w+\}$`)
	for path, item := range document.Paths {
		if strings.HasPrefix(path, "/function/") || strings.HasPrefix(path, "/async-function/") {
			continue // they are in no table
		}
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var o operation
			require.NoError(t, json.Unmarshal(raw, &o), path)
			described[strings.ToUpper(method)+" "+parameter.ReplaceAllString(path, "{}")] = o
		}
	}
	for _, r := range a.gateway.routes {
		route := r.method + " " + r.path
		o, ok := described[route]
		delete(described, route)
		if !ok {
			t.Errorf("%s is not in openapi.yaml: describe it there, with x-action: %q", route, r.action)
			continue
		}
		if r.answer != nil && r.path != "/validate" {
			require.Equal(t, &[]map[string][]string{}, o.Security, "%s is public: want security: []", route)
			require.Empty(t, o.Action, "%s is public: want no x-action", route)
			continue
		}
		require.Nil(t, o.Security, "%s asks for what all of /system/ does: want no security of its own", route)
		require.Equal(t, r.action, strings.TrimPrefix(o.Action, "-"), "%s: x-action", route)
		require.NotEmpty(t, o.Action, "%s: want x-action, or - where any caller who is known may", route)
		for _, status := range []string{"401", "403", "429", "5XX"} {
			require.Contains(t, o.Responses, status, route)
		}
	}
	for route := range described {
		t.Errorf("%s is in openapi.yaml and not in the table of routes: take it out, or serve it", route)
	}
}
