package exchange

import (
	"fmt"
	"net/http"
	"strings"
)

// The codes of an [Error].
const (
	InvalidRequest       = "invalid_request"        // RFC 6749, 5.2; RFC 8693, 2.2.2
	InvalidScope         = "invalid_scope"          // RFC 6749, 5.2
	UnsupportedGrantType = "unsupported_grant_type" // RFC 6749, 5.2
	InvalidTarget        = "invalid_target"         // RFC 8693, 2.2.2
	// TemporarilyUnavailable: the subject token could not be judged, because
	// its issuer's keys or the IAM objects cannot be had. RFC 6749 knows the code in 4.1.2.1 only;
	// a client that retries on 503 need not know it.
	TemporarilyUnavailable = "temporarily_unavailable"
)

// Error is the answer to a request that is refused: the JSON of RFC 6749, 5.2.
type Error struct {
	Code string `json:"error"`
	// Description tells a person what to mend. It is printable ASCII without
	// quotation mark and backslash, at most 512 bytes, and holds no token.
	Description string `json:"error_description"`
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Status returns the HTTP status to answer with: 400, or 503 for
// [TemporarilyUnavailable].
func (e *Error) Status() int {
	if e.Code == TemporarilyUnavailable {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

const (
	maxDescription = 512
	// A name that a person has to recognize, such as a subject or an issuer.
	maxName = 256
	// A parameter's value. The shortest token is longer, so that one that was
	// pasted into the wrong parameter does not come back whole.
	maxValue = 64
)

// refuse returns an Error. Values from outside go through name or value first.
func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: printable(fmt.Sprintf(format, args...), maxDescription)}
}

func name(s string) string  { return printable(s, maxName) }
func value(s string) string { return "'" + printable(s, maxValue) + "'" }

// printable replaces what RFC 6749, 5.2 does not allow in a description, and
// with it whatever could forge a line in a log or act on a terminal.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit-3] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7E || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}
