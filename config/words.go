package config

import (
	"errors"
	"strings"
)

// splitWords splits a command as a shell does, without expanding anything:
// white space separates, '…' is literal, "…" allows \" and \\, and a backslash
// outside quotes takes the next character as it is.
func splitWords(s string) ([]string, error) {
	var (
		words []string
		word  strings.Builder
		open  bool // a word has begun; "" is a word too
		quote rune
		rs    = []rune(s)
	)
	for i := 0; i < len(rs); i++ {
		switch r := rs[i]; {
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote != 0 && r == quote:
			quote = 0
		case r == '\\' && quote != '\'':
			if i++; i == len(rs) {
				return nil, errors.New("a command that does not end in a backslash")
			}
			if quote == '"' && rs[i] != '"' && rs[i] != '\\' {
				word.WriteRune('\\')
			}
			word.WriteRune(rs[i])
			open = true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a command whose " + string(quote) + " quote is closed")
	}
	if open {
		words = append(words, word.String())
	}
	return words, nil
}
