package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehound/gatehound/auth/iam"
)

// amiss notes what is wrong with a field of the form that was sent. It is shown
// beside the field.
func (v *visit) amiss(field, format string, args ...any) {
	if v.wrongs == nil {
		v.wrongs = map[string]string{}
	}
	v.wrongs[field] = fmt.Sprintf(format, args...)
	v.problem = "Nothing was done yet: look at the fields that are marked."
}

// refused notes what the API says of a form, be it that something is not granted. The
// form is then shown again, with that and with what was typed. refused returns the
// status for it, or an error if the form cannot be shown.
func (v *visit) refused(err error) (status int, other error) {
	var r *refusal
	if !errors.As(err, &r) || r.Status == http.StatusUnauthorized {
		return 0, err
	}
	v.problem = r.Message
	return r.Status, nil
}

// maySome reports whether the person is granted an action on something in a
// namespace; "*" = in any.
func (v *visit) maySome(action, namespace string) bool {
	if c, err := v.session.current(); err != nil || c.token == "" || v.d.config.Foreign {
		return err == nil
	}
	for _, r := range v.granted(action) {
		if r.Overlaps(iam.Resource(namespace + ":*")) {
			return true
		}
	}
	return false
}

// mayAll reports whether the person is known to be granted everything.
func (v *visit) mayAll() bool {
	return !v.d.config.Foreign && !slices.ContainsFunc(iam.Actions(), func(action string) bool { return !v.may(action, "*", "*") })
}

// functionPath is the page of a function, or what is below it.
func functionPath(namespace, name, below string) string {
	return "/ui/functions/" + url.PathEscape(namespace) + "/" + url.PathEscape(name) + below
}

// typed is a text of several lines as it was typed: browsers end lines with CRLF
// in forms, whatever was pasted.
func typed(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// formatPairs writes m for a field of a form, a line NAME=value for each. What
// would not be read back as it is stands in quotes, as JSON.
func formatPairs(m map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := m[name]
		if strings.ContainsAny(name, "=\"\n\r") || strings.TrimSpace(name) != name || name == "" {
			name = quoted(name)
		}
		if strings.ContainsAny(value, "\n\r") || strings.HasPrefix(value, `"`) {
			value = quoted(value)
		}
		lines = append(lines, name+"="+value)
	}
	return strings.Join(lines, "\n")
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

// parsePairs is the reverse of formatPairs. The error names the line, and nothing
// of its value.
func parsePairs(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if strings.HasPrefix(line, `"`) {
			d := json.NewDecoder(strings.NewReader(line))
			if err := d.Decode(&name); err != nil {
				return nil, fmt.Errorf("line %d: the name's quotation marks do not end", i+1)
			}
			value, found = strings.CutPrefix(line[d.InputOffset():], "=")
		} else {
			name = strings.TrimSpace(name)
		}
		if !found || name == "" && !strings.HasPrefix(line, `"`) {
			return nil, fmt.Errorf("line %d: want NAME=value", i+1)
		}
		if strings.HasPrefix(value, `"`) {
			if err := json.Unmarshal([]byte(value), &value); err != nil {
				return nil, fmt.Errorf("line %d: a value that begins with a quotation mark is read as JSON, and this is none", i+1)
			}
		}
		if _, twice := pairs[name]; twice {
			return nil, fmt.Errorf("line %d: %.60q is there twice", i+1, name)
		}
		pairs[name] = value
	}
	return pairs, nil
}

// pointer is what the API's types want for labels and annotations; nil = none.
func pointer(m map[string]string) *map[string]string {
	if len(m) == 0 {
		return nil
	}
	return &m
}
