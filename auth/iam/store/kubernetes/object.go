package kubernetes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store"
)

// object is what one object of the cluster contributes.
type object struct {
	version  string
	objects  iam.Objects // one at most
	problems []iam.Problem
}

// reflected is the side of one kind to which client-go's reflector writes.
type reflected struct {
	*Store
	kind kind
}

// Add implements cache.ReflectorStore.
func (r reflected) Add(o any) error { return r.put(o.(*unstructured.Unstructured)) }

// Update implements cache.ReflectorStore.
func (r reflected) Update(o any) error { return r.put(o.(*unstructured.Unstructured)) }

// Delete implements cache.ReflectorStore.
func (r reflected) Delete(o any) error {
	r.mu.Lock()
	delete(r.objects[r.kind], o.(*unstructured.Unstructured).GetName())
	r.mu.Unlock()
	r.change()
	return nil
}

// Replace implements cache.ReflectorStore: the list is all there is.
func (r reflected) Replace(list []any, _ string) error {
	r.mu.Lock()
	last := r.objects[r.kind]
	r.mu.Unlock()
	next := make(map[string]object, len(list))
	same := last != nil && len(list) == len(last) // as after an outage in which nothing happened
	for _, item := range list {
		u := item.(*unstructured.Unstructured)
		// Nobody else writes to this kind: last does not change meanwhile.
		if o, ok := last[u.GetName()]; ok && o.version == u.GetResourceVersion() && o.version != "" {
			next[u.GetName()] = o
		} else {
			next[u.GetName()] = r.read(u)
			same = false
		}
	}
	if same {
		return nil
	}
	r.mu.Lock()
	r.objects[r.kind] = next
	r.mu.Unlock()
	r.change()
	return nil
}

// Resync implements cache.ReflectorStore.
func (r reflected) Resync() error { return nil }

func (r reflected) put(u *unstructured.Unstructured) error {
	o := r.read(u)
	r.mu.Lock()
	r.objects[r.kind][u.GetName()] = o // listed first: the map is there
	r.mu.Unlock()
	r.change()
	return nil
}

func (s *Store) change() {
	select {
	case s.changed <- struct{}{}:
	default: // there is a load to come anyway
	}
}

// read decodes an object. Of its metadata the names alone go to the decoder,
// which need not choke on what an annotation holds.
func (r reflected) read(u *unstructured.Unstructured) object {
	o := object{version: u.GetResourceVersion()}
	source := r.source(r.kind, u.GetName())
	ignore := func(format string, args ...any) object {
		o.problems = []iam.Problem{{Source: source, Message: fmt.Sprintf(format, args...) + "; the object is ignored", Ignored: true}}
		return o
	}
	document := maps.Clone(u.Object)
	document["metadata"] = map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}
	if path, number, ok := inexact("spec", document["spec"]); ok {
		return ignore("%s is the number %v, of which the cluster may have kept only the first digits: put it in quotes", path, number)
	}
	data, err := json.Marshal(document)
	if err != nil {
		return ignore("%v", err)
	}
	// To JSON it is a character like others, to YAML the end of a line, which
	// becomes a space: a role would be for another subject.
	data = bytes.ReplaceAll(data, []byte("\u0085"), []byte(`\u0085`))
	o.objects, o.problems = store.Object(source, data)
	return o
}

// inexact finds a number that is no integer of 64 bits: the API server has
// rounded it, and one account's number may have become another's.
func inexact(path string, value any) (where string, number float64, found bool) {
	switch v := value.(type) {
	case float64:
		return path, v, true
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if where, number, found = inexact(path+"."+key, v[key]); found {
				return where, number, true
			}
		}
	case []any:
		for i, item := range v {
			if where, number, found = inexact(fmt.Sprintf("%s[%d]", path, i), item); found {
				return where, number, true
			}
		}
	}
	return "", 0, false
}
