package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// entries is a YAML file with a list of entries, each of a gateway. What we do
// not know in it stays as it is, comments too.
type entries struct {
	document yaml.Node
	list     *yaml.Node // nil = there is none yet
	name     string
}

func parseEntries(data []byte, list string) (*entries, error) {
	e := &entries{name: list}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&e.document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one YAML document in it")
	}
	if e.document.Kind == 0 {
		e.document = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}}
	}
	root := e.document.Content[0]
	if root.Tag == "!!null" {
		comments := *root
		*root = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", HeadComment: comments.HeadComment, FootComment: comments.FootComment}
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping with %s", root.Line, list)
	}
	e.list = value(root, list)
	if e.list != nil && e.list.Tag == "!!null" {
		*e.list = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", LineComment: e.list.LineComment}
	}
	if e.list != nil && e.list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("line %d: %s is no list", e.list.Line, list)
	}
	return e, nil
}

// value is that of a mapping's key; nil = there is none.
func value(mapping *yaml.Node, key string) *yaml.Node {
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// find returns the place in the list of the gateway's entry, the first as
// faas-cli takes it; -1 = there is none.
func (e *entries) find(gateway string) int {
	if e.list == nil {
		return -1
	}
	for i, entry := range e.list.Content {
		if v := value(entry, "gateway"); v != nil && v.Kind == yaml.ScalarNode && v.Value == gateway {
			return i
		}
	}
	return -1
}

// get reads the gateway's entry into v.
func (e *entries) get(gateway string, v any) (found bool, err error) {
	i := e.find(gateway)
	if i < 0 {
		return false, nil
	}
	return true, e.list.Content[i].Decode(v)
}

// put writes v's fields into the gateway's entry, or makes one.
func (e *entries) put(gateway string, v any) error {
	var fields yaml.Node
	if err := fields.Encode(v); err != nil {
		return err
	}
	if e.list == nil {
		e.list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		root := e.document.Content[0]
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.name}, e.list)
	}
	e.list.Style &^= yaml.FlowStyle // `auths: []`
	i := e.find(gateway)
	if i < 0 {
		e.list.Content = append(e.list.Content, &fields)
		return nil
	}
	entry := e.list.Content[i]
	for j := 0; j+1 < len(fields.Content); j += 2 {
		key, changed := fields.Content[j], fields.Content[j+1]
		old := value(entry, key.Value)
		if old == nil {
			entry.Content = append(entry.Content, key, changed)
			continue
		}
		if old.Anchor != "" {
			return fmt.Errorf("line %d: %s has an anchor, and others may mean it", old.Line, key.Value)
		}
		changed.HeadComment, changed.LineComment, changed.FootComment = old.HeadComment, old.LineComment, old.FootComment
		*old = *changed
	}
	return nil
}

// remove takes the gateway's entries out: behind the first, there may be an older.
func (e *entries) remove(gateway string) (found bool) {
	for i := e.find(gateway); i >= 0; i = e.find(gateway) {
		e.list.Content = append(e.list.Content[:i], e.list.Content[i+1:]...)
		found = true
	}
	return found
}

// bytes is the file as it is now. It is an error if it does not read as it is
// meant, but for the gateway's entry: the YAML library gets a few odd things wrong.
func (e *entries) bytes(gateway string) ([]byte, error) {
	spellNulls(&e.document, false)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2) // as faas-cli
	if err := encoder.Encode(&e.document); err != nil {
		return nil, err
	}
	written, err := parseEntries(out.Bytes(), e.name)
	if err != nil {
		return nil, err
	}
	want, err := e.others(gateway)
	if err != nil {
		return nil, err
	}
	if got, err := written.others(gateway); err != nil || got != want {
		return nil, errors.New("it cannot be written so that everything in it stays as it is")
	}
	return out.Bytes(), written.checkRead(gateway)
}

// checkRead tells whether the gateway's entry is found by who reads the file into
// structs, as faas-cli does: that follows aliases, and refuses keys that come twice.
func (e *entries) checkRead(gateway string) error {
	if e.list == nil {
		return nil
	}
	for i, entry := range e.list.Content {
		var read struct {
			Gateway string `yaml:"gateway"`
		}
		if err := entry.Decode(&read); err != nil {
			return fmt.Errorf("faas-cli could not read it: %w", err)
		}
		if read.Gateway != gateway {
			continue
		}
		if i != e.find(gateway) {
			return fmt.Errorf("the entry of %s has aliases, which are not followed here", gateway)
		}
		return nil
	}
	return nil
}

// others is all but the gateway's entry, for comparing.
func (e *entries) others(gateway string) (string, error) {
	root := *e.document.Content[0]
	root.Content = slices.Clone(root.Content)
	if i := e.find(gateway); i >= 0 {
		list := *e.list
		list.Content = slices.Delete(slices.Clone(list.Content), i, i+1)
		for j := range root.Content {
			if root.Content[j] == e.list {
				root.Content[j] = &list
			}
		}
	}
	var all any
	err := root.Decode(&all)
	return fmt.Sprintf("%#v", all), err
}

// spellNulls names those in braces: the library writes nothing as "" there.
func spellNulls(n *yaml.Node, flow bool) {
	flow = flow || n.Style&yaml.FlowStyle != 0
	if flow && n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == "" {
		n.Value = "null"
	}
	for _, child := range n.Content {
		spellNulls(child, flow)
	}
}
