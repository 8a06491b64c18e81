package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehound/gatehound/auth/iam"
)

const apiVersion = "iam.openfaas.com/v1"

// decode reads the objects of one file, which may hold several documents. A
// faulty object is left out, with problems; the error is for a file that is no
// YAML, of which nothing can be told.
//
// It works on YAML's nodes, as decoding into structs by way of JSON loses the
// line, takes `Resource` for `resource`, and rewrites what the author typed: an
// unquoted no becomes "false", 16777217.5 becomes "1.6777218e+07".
func decode(path string, data []byte) (iam.Objects, []iam.Problem, error) {
	var objects iam.Objects
	var problems []iam.Problem
	documents := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := documents.Decode(&doc); errors.Is(err, io.EOF) {
			return objects, problems, nil
		} else if err != nil {
			return iam.Objects{}, nil, err
		}
		d := decoder{path: path}
		d.object(doc.Content[0], &objects)
		problems = append(problems, d.problems...)
	}
}

// decoder decodes one document.
type decoder struct {
	path     string
	problems []iam.Problem
}

// object adds the document's object to objects, unless it has a problem.
func (d *decoder) object(doc *yaml.Node, objects *iam.Objects) {
	if doc.Kind == yaml.ScalarNode && doc.Tag == "!!null" {
		return // nothing but comments, as templates leave behind
	}
	if doc.Kind != yaml.MappingNode {
		d.problem(doc, "this is no object: want apiVersion, kind, metadata and spec")
		return
	}
	if d.refuse(doc); len(d.problems) > 0 {
		return
	}
	if v := valueOf(doc, "apiVersion"); v != apiVersion {
		d.problem(doc, "apiVersion is %q: want %q", v, apiVersion)
		return
	}
	switch kind := valueOf(doc, "kind"); kind {
	case "JwtIssuer":
		var o iam.JwtIssuer
		d.envelope(doc, &o.Metadata, fields{
			"iss":         d.text(&o.Spec.Iss),
			"aud":         list(d, &o.Spec.Aud),
			"tokenExpiry": d.text(&o.Spec.TokenExpiry),
			"issInternal": d.text(&o.Spec.IssInternal),
		})
		if len(d.problems) == 0 {
			objects.Issuers = append(objects.Issuers, o)
		}
	case "Policy":
		var o iam.Policy
		d.envelope(doc, &o.Metadata, fields{"statement": d.statements(&o.Spec.Statement)})
		if len(d.problems) == 0 {
			objects.Policies = append(objects.Policies, o)
		}
	case "Role":
		var o iam.Role
		d.envelope(doc, &o.Metadata, fields{
			"policy":    list(d, &o.Spec.Policy),
			"principal": d.match(&o.Spec.Principal),
			"condition": d.condition(&o.Spec.Condition),
		})
		if len(d.problems) == 0 {
			objects.Roles = append(objects.Roles, o)
		}
	default:
		d.problem(doc, "kind is %q: want JwtIssuer, Policy or Role", kind)
	}
}

// reader reads a node into what it was made for; path is the node's, for
// problems.
type reader func(n *yaml.Node, path string)

type fields map[string]reader

// envelope reads what all kinds share, and spec. Metadata is Kubernetes', and
// may hold what it likes; status is for controllers to write.
func (d *decoder) envelope(doc *yaml.Node, m *iam.Metadata, spec fields) {
	m.Source = d.at(doc)
	ignore := func(*yaml.Node, string) {}
	d.fields(fields{
		"apiVersion": ignore,
		"kind":       ignore,
		"status":     ignore,
		"metadata": func(n *yaml.Node, path string) {
			for key, value := range d.pairs(n, path) {
				switch key.Value {
				case "name":
					d.text(&m.Name)(value, path+".name")
				case "namespace":
					d.text(&m.Namespace)(value, path+".namespace")
				}
			}
		},
		"spec": d.fields(spec),
	})(doc, "")
}

// fields reads a mapping of known keys.
func (d *decoder) fields(known fields) reader {
	return func(n *yaml.Node, path string) {
		for key, value := range d.pairs(n, path) {
			field := strings.TrimPrefix(path+"."+key.Value, ".")
			if read, ok := known[key.Value]; ok {
				read(value, field)
			} else {
				d.problem(key, "the field %s is unknown: want one of %s", field, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			}
		}
	}
}

func (d *decoder) statements(into *[]iam.Statement) reader {
	return func(n *yaml.Node, path string) {
		for i, item := range d.items(n, path) {
			var s iam.Statement
			d.fields(fields{
				"sid":       d.text(&s.Sid),
				"effect":    d.text(&s.Effect),
				"action":    list(d, &s.Action),
				"resource":  list(d, &s.Resource),
				"condition": d.condition(&s.Condition),
			})(item, fmt.Sprintf("%s[%d]", path, i))
			*into = append(*into, s)
		}
	}
}

func (d *decoder) condition(into *iam.Condition) reader {
	return func(n *yaml.Node, path string) {
		*into = iam.Condition{} // one that is there but empty is not one left out
		for key, value := range d.pairs(n, path) {
			var m iam.Match
			d.match(&m)(value, path+"."+key.Value)
			(*into)[key.Value] = m
		}
	}
}

// match reads keys with a list of values each, or one value for a list of one.
func (d *decoder) match(into *iam.Match) reader {
	return func(n *yaml.Node, path string) {
		*into = iam.Match{}
		for key, value := range d.pairs(n, path) {
			var values []string
			if value.Kind == yaml.ScalarNode {
				values = []string{""}
				d.text(&values[0])(value, path+"."+key.Value)
			} else {
				list(d, &values)(value, path+"."+key.Value)
			}
			(*into)[key.Value] = values
		}
	}
}

func list[S ~string](d *decoder, into *[]S) reader {
	return func(n *yaml.Node, path string) {
		for i, item := range d.items(n, path) {
			var s string
			d.text(&s)(item, fmt.Sprintf("%s[%d]", path, i))
			*into = append(*into, S(s))
		}
	}
}

var integer = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// text reads a scalar as text. Unquoted, YAML has its own ideas of 0123, 1e3,
// 1.10, 2024-01-01 and the like, which differ between its versions: the author
// has to say by quotes that the text is meant. Whole numbers and booleans leave
// no doubt.
func (d *decoder) text(into *string) reader {
	return func(n *yaml.Node, path string) {
		switch {
		case n.Kind != yaml.ScalarNode:
			d.problem(n, "%s is a %s: want text", path, kindName(n))
		case n.Tag == "!!null":
			d.problem(n, "%s has no value: give one or remove the line", path)
		case n.Tag == "!!str",
			(n.Tag == "!!int" || n.Tag == "!!float") && integer.MatchString(n.Value): // a float when too long for an int
			*into = n.Value
		case n.Tag == "!!bool":
			*into = strings.ToLower(n.Value)
		default:
			d.problem(n, "%s is %q, which YAML does not take for text (%s): put it in quotes", path, n.Value, n.Tag)
		}
	}
}

// pairs yields the keys and values of a mapping.
func (d *decoder) pairs(n *yaml.Node, path string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			d.problem(n, "%s is a %s: want a mapping", path, kindName(n))
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// items returns the items of a list.
func (d *decoder) items(n *yaml.Node, path string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, "%s is a %s: want a list", path, kindName(n))
		return nil
	}
	return n.Content
}

// refuse reports what YAML allows and a policy must not hold, anywhere below n:
// a key given twice, of which readers of the file and of the YAML may each see
// another, and aliases, which let a small file stand for gigabytes.
func (d *decoder) refuse(n *yaml.Node) {
	switch n.Kind {
	case yaml.AliasNode:
		d.problem(n, "the alias *%s: aliases are not supported, write out what it stands for", n.Value)
	case yaml.MappingNode:
		lines := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				d.problem(key, "a key is a %s: want text", kindName(key))
			} else if len(key.Value) > maxKey { // it would stand in the path of all below it
				d.problem(key, "the key %.64q... is longer than %d bytes", key.Value, maxKey)
			} else if first, ok := lines[key.Value]; ok {
				d.problem(key, "the key %q is here twice, first on line %d: remove one", key.Value, first)
			} else {
				lines[key.Value] = key.Line
			}
		}
	}
	for _, child := range n.Content {
		d.refuse(child)
	}
}

// valueOf returns the text of a mapping's key, empty if it has none.
func valueOf(n *yaml.Node, key string) string {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1].Value
		}
	}
	return ""
}

func (d *decoder) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", d.path, n.Line) }

// Bounds of what is said of one document: a file of 1 MiB, in which half is a
// key and the other half faults below it, would make gigabytes.
const maxProblems, maxMessage, maxKey = 100, 1000, 1000

func (d *decoder) problem(n *yaml.Node, format string, args ...any) {
	if len(d.problems) == maxProblems {
		return
	}
	message := fmt.Sprintf(format, args...)
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
	}
	message += "; the object is ignored"
	d.problems = append(d.problems, iam.Problem{Source: d.at(n), Message: message, Ignored: true})
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.AliasNode:
		return "alias"
	}
	return "single value"
}
