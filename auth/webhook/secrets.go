package webhook

import (
	"bytes"
	"errors"
	"fmt"
)

const (
	// MaxSecrets is how many secrets may be valid at once. Each costs a hash of
	// every body.
	MaxSecrets = 16
	// minSecret is how short a secret may be, in bytes: one signed request is
	// enough to guess a shorter one offline. Providers make up much longer ones.
	minSecret = 8
	// maxSecret is how long a secret may be, in bytes.
	maxSecret = 1024
)

// Secrets are shared secrets, which no verb of package fmt shows. The zero value
// has none.
type Secrets struct {
	// A function, of which fmt shows the address alone: in a private field of
	// somebody else's struct it does not ask Format, and follows pointers.
	list func() [][]byte
}

// ParseSecrets reads a file with one secret a line. Spaces around a secret, line
// ends of either kind and blank lines do not count. Each has 8 to 1024 bytes of
// text; there are at most MaxSecrets. Errors name the line and no secret.
func ParseSecrets(file []byte) (Secrets, error) {
	var list [][]byte
	if bytes.HasPrefix(file, []byte("\xef\xbb\xbf")) {
		return Secrets{}, errors.New("the file begins with a byte order mark: want plain text")
	}
	number := 0
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		number++
		line = bytes.Trim(line, " \t\r")
		switch {
		case len(line) == 0:
			continue
		case bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }):
			return Secrets{}, fmt.Errorf("line %d has bytes that are no text: want one secret a line", number)
		case len(line) < minSecret:
			return Secrets{}, fmt.Errorf("the secret in line %d has %d bytes: want at least %d", number, len(line), minSecret)
		case len(line) > maxSecret:
			return Secrets{}, fmt.Errorf("the secret in line %d has %d bytes: want at most %d", number, len(line), maxSecret)
		case len(list) == MaxSecrets:
			return Secrets{}, fmt.Errorf("there are more than %d secrets", MaxSecrets)
		}
		list = append(list, bytes.Clone(line))
	}
	if len(list) == 0 {
		return Secrets{}, errors.New("there is no secret in it: want one a line")
	}
	return Secrets{func() [][]byte { return list }}, nil
}

// Len returns how many secrets there are.
func (s Secrets) Len() int { return len(s.keys()) }

func (s Secrets) keys() [][]byte {
	if s.list == nil {
		return nil
	}
	return s.list()
}

// Equal reports whether both have the same secrets, in the same order.
func (s Secrets) Equal(other Secrets) bool {
	a, b := s.keys(), other.keys()
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Format implements fmt.Formatter: no verb shows a secret.
func (s Secrets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d secrets", s.Len()) }
