package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
)

// claims are a token's, whoever signed it.
type claims map[string]any

var errNotJWT = errors.New("the token is not a JWT, so there is nothing to be seen in it")

// part decodes the header (0) or the payload (1) of a token. Its signature is not
// looked at: this is for showing it.
func part(token string, i int) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errNotJWT
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[i])
	if err != nil || !json.Valid(text) {
		return nil, errNotJWT
	}
	return text, nil
}

func decode(token string) (c claims, err error) {
	text, err := part(token, 1)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, &c) != nil || c == nil {
		return nil, errNotJWT
	}
	return c, nil
}

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

func (c claims) number(name string) (float64, bool) {
	n, ok := c[name].(float64)
	return n, ok
}

// pretty shows a token's header and payload.
func pretty(token string) (string, error) {
	header, err := part(token, 0)
	if err != nil {
		return "", err
	}
	payload, err := part(token, 1)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(`{"header":`+string(header)+`,"payload":`+string(payload)+`}`), "", "  "); err != nil {
		return "", err
	}
	return printable(out.String()), nil
}

// printable is another's text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			return '�'
		}
		return r
	}, text)
}
