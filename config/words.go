package config

import "errors"

// splitWords splits a command as a shell does, without expanding anything:
// white space separates, '…' is literal, "…" allows \" and \\, and a backslash
// outside quotes takes the next character as it is. It works on bytes: all that
// is special is ASCII, and a file name need not be UTF-8.
func splitWords(s string) ([]string, error) {
	var (
		words []string
		word  []byte
		open  bool // a word has begun; "" is a word too
		quote byte
	)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote, open = c, true
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'':
			if i++; i == len(s) {
				return nil, errors.New("a command that does not end in a backslash")
			}
			if quote == '"' && s[i] != '"' && s[i] != '\\' {
				word = append(word, '\\')
			}
			word = append(word, s[i])
			open = true
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			if open {
				words = append(words, string(word))
				word, open = word[:0], false
			}
		default:
			word = append(word, c)
			open = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a command whose " + string(quote) + " quote is closed")
	}
	if open {
		words = append(words, string(word))
	}
	return words, nil
}
