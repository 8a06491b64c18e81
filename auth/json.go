package auth

import (
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
	if !json.Valid(data) {
		return nil, refused("the header or the claims are not JSON")
	}
	d := &decoder{data: string(data), left: values}
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

// decoder reads data that is valid JSON, so that it need not look where a value
// ends. json.Decoder, which does, took longer for 8 KiB of claims than several
// signatures. What it returns are parts of data, which lives as long as any.
type decoder struct {
	data string
	at   int // how far it has been read
	left int // names and values that may still come
}

func (d *decoder) value(depth int) (any, error) {
	if d.left--; d.left < 0 {
		return nil, refused("the header or the claims have too many values")
	}
	switch c := d.next(); c {
	case '{', '[':
		if depth > maxDepth {
			return nil, refused("the header or the claims are nested too deeply")
		}
		d.at++
		if c == '{' {
			return d.object(depth)
		}
		return d.array(depth)
	case '"':
		return d.text()
	default:
		return d.literal(), nil
	}
}

// next skips white space and returns the byte behind it, which is still to be
// read.
func (d *decoder) next() byte {
	for {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return c
		}
	}
}

// more reports whether something comes before end, and reads what separates it
// from what came before, or else end.
func (d *decoder) more(end byte) bool {
	switch d.next() {
	case end:
		d.at++
		return false
	case ',':
		d.at++
	}
	return true
}

func (d *decoder) object(depth int) (any, error) {
	m := make(map[string]any)
	for d.more('}') {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		name, _ := v.(string)
		if _, ok := m[name]; ok {
			return nil, refused("the header or the claims have a name twice")
		}
		d.next()
		d.at++ // the colon
		if m[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (d *decoder) array(depth int) (any, error) {
	list := []any{}
	for d.more(']') {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// literal reads what is neither text nor nested.
func (d *decoder) literal() any {
	start := d.at
	for d.at < len(d.data) && strings.IndexByte(" \t\n\r,]}", d.data[d.at]) < 0 {
		d.at++
	}
	switch word := d.data[start:d.at]; word {
	case "true":
		return true
	case "false":
		return false
	case "null":
		return nil
	default:
		return json.Number(word)
	}
}

// text reads a string. It refuses half a surrogate pair ("\ud800"), which
// encoding/json turns into U+FFFD: two different names would become one. A string
// that holds both U+FFFD and an escaped pair is refused along with it.
func (d *decoder) text() (any, error) {
	start, escaped := d.at, false
	for d.at++; d.data[d.at] != '"'; d.at++ {
		if d.data[d.at] == '\\' {
			escaped = true
			d.at++
		}
	}
	d.at++
	written := d.data[start:d.at]
	if !escaped {
		return written[1 : len(written)-1], nil
	}
	var s string
	if err := json.Unmarshal([]byte(written), &s); err != nil {
		return nil, refused("the header or the claims are not JSON")
	}
	if strings.ContainsRune(s, utf8.RuneError) && strings.Contains(strings.ToLower(written), `\ud`) {
		return nil, refused("the header or the claims hold half a surrogate pair")
	}
	return s, nil
}
