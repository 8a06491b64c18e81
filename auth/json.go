package auth

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep a header or claims may be nested; the object
// itself is 1.
const maxDepth = 16

// How many names and values there may be. Each costs a hundred times what its
// bytes do, and anybody may have us read a header, and the claims that tell the
// issuer, before a signature says whether it is worth it.
const maxHeaderValues, maxClaimsValues = 100, 1000

// decodeObject reads a JSON object so that no other reader could read it
// differently: names are exact and unique at every depth (RFC 8725 §2.4),
// text is valid Unicode (RFC 7493 §2.1), nothing follows. Numbers stay as
// written. More than so many names and values are refused.
func decodeObject(data []byte, values int) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, refused("the header or the claims are not UTF-8")
	}
	// Decoder.Token forgives some bad syntax and what follows the value.
	if !json.Valid(data) {
		return nil, refused("the header or the claims are not JSON")
	}
	d := &decoder{data, json.NewDecoder(bytes.NewReader(data)), values}
	d.tokens.UseNumber()
	v, err := d.value(1)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, refused("the header or the claims are not a JSON object")
	}
	return m, nil
}

// decoder reads data that is valid JSON.
type decoder struct {
	data   []byte
	tokens *json.Decoder
	left   int // values that may still come
}

func (d *decoder) value(depth int) (any, error) {
	if d.left--; d.left < 0 {
		return nil, refused("the header or the claims have too many values")
	}
	start := d.tokens.InputOffset()
	token, err := d.tokens.Token()
	if err != nil {
		return nil, refused("the header or the claims are not JSON")
	}
	switch t := token.(type) {
	case string:
		return t, d.checkString(t, start)
	case json.Delim:
		if depth > maxDepth {
			return nil, refused("the header or the claims are nested too deeply")
		}
		if t == '{' {
			return d.object(depth)
		}
		return d.array(depth)
	default:
		return t, nil
	}
}

func (d *decoder) object(depth int) (any, error) {
	m := make(map[string]any)
	for d.tokens.More() {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		name, _ := v.(string)
		if _, ok := m[name]; ok {
			return nil, refused("the header or the claims have a name twice")
		}
		if m[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	_, err := d.tokens.Token() // the closing brace
	return m, err
}

func (d *decoder) array(depth int) (any, error) {
	list := []any{}
	for d.tokens.More() {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.tokens.Token() // the closing bracket
	return list, err
}

// checkString refuses half a surrogate pair ("\ud800"), which encoding/json
// turns into U+FFFD: two different names would become one. A string that
// holds both U+FFFD and an escaped pair is refused along with it.
func (d *decoder) checkString(s string, start int64) error {
	if !strings.ContainsRune(s, utf8.RuneError) {
		return nil
	}
	written := bytes.ToLower(d.data[start:d.tokens.InputOffset()])
	if bytes.Contains(written, []byte(`\ud`)) {
		return refused("the header or the claims hold half a surrogate pair")
	}
	return nil
}
