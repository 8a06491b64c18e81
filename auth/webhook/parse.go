package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	// maxHeader is how long a header may be, in bytes: Stripe's grows with the
	// secrets that are valid there.
	maxHeader = 4 << 10
	// maxMACs is how many signatures one header may have. Each costs a
	// comparison for every secret.
	maxMACs = 16
)

func parseGitHub(value string) ([][]byte, error) {
	text, ok := strings.CutPrefix(value, "sha256=")
	if !ok {
		return nil, refused("it does not begin with sha256=")
	}
	return parseHex(text)
}

func parseSlack(value string) ([][]byte, error) {
	text, ok := strings.CutPrefix(value, "v0=")
	if !ok {
		return nil, refused("it does not begin with v0=")
	}
	return parseHex(text)
}

// parseStripe reads "t=timestamp,v1=…,v1=…". Other names are passed over, as
// Stripe asks for: v0 is what it signs test events with, and proves nothing.
func parseStripe(value string) (timestamp string, macs [][]byte, err error) {
	if len(value) > maxHeader {
		return "", nil, refused("the header is too long")
	}
	times := 0
	for element := range strings.SplitSeq(value, ",") {
		name, text, ok := strings.Cut(element, "=")
		switch {
		case !ok || name == "":
			return "", nil, refused("an element is not name=value")
		case name == "t":
			timestamp = text
			times++
		case name == "v1":
			mac, err := parseHex(text)
			if err != nil {
				return "", nil, err
			}
			macs = append(macs, mac...)
		}
	}
	switch {
	case times != 1:
		return "", nil, refused("there is not exactly one t")
	case len(macs) == 0:
		return "", nil, refused("there is no v1")
	case len(macs) > maxMACs:
		return "", nil, refused("there are too many v1")
	}
	return timestamp, macs, nil
}

// parseGeneric reads a MAC of size bytes. Hexadecimal and padded base64 of it
// never have the same length.
func parseGeneric(value, hashName string, size int) ([][]byte, error) {
	text := strings.TrimPrefix(value, hashName+"=")
	var mac []byte
	var err error
	switch len(text) {
	case hex.EncodedLen(size):
		mac, err = hex.DecodeString(text)
	case base64.StdEncoding.EncodedLen(size):
		// Line ends would be skipped: the size tells.
		mac, err = base64.StdEncoding.Strict().DecodeString(text)
	}
	if err != nil || len(mac) != size {
		return nil, refused("it is not a signature by this hash in hexadecimal or padded base64")
	}
	return [][]byte{mac}, nil
}

// parseHex reads a MAC by SHA-256.
func parseHex(text string) ([][]byte, error) {
	if mac, err := hex.DecodeString(text); err == nil && len(mac) == 32 {
		return [][]byte{mac}, nil
	}
	return nil, refused("it is not 64 hexadecimal digits")
}

// parseTime reads seconds since 1970: digits, no sign, space or leading zero, so
// that there is one way to write a time, and few enough to hold it.
func parseTime(s string) (seconds int64, ok bool) {
	if s == "" || len(s) > 12 || s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	seconds, err := strconv.ParseInt(s, 10, 64)
	return seconds, err == nil
}
