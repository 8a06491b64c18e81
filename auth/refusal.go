package auth

import (
	"errors"
	"net/http"
)

// Status maps an error of this package to the contract's HTTP status: 403 for
// ErrForbidden, 503 for ErrUnavailable, 401 for every other error and 200
// for none.
func Status(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	default:
		return http.StatusUnauthorized
	}
}

// Refusal returns the whole answer to a request that Verify refused with err,
// byte for byte as OpenFaaS' tools expect it. The body is err's text, which
// holds nothing of a token as long as err is this package's.
func Refusal(err error) (status int, header [][2]string, body string) {
	status = Status(err)
	header = append(make([][2]string, 0, 3), [2]string{"Content-Type", "text/plain; charset=utf-8"})
	switch status {
	case http.StatusUnauthorized: // faas-cli compares the realm
		header = append(header,
			[2]string{"WWW-Authenticate", "Bearer realm=IAM function invoke"},
			[2]string{"X-OpenFaaS-Internal", "faas-middleware"})
	case http.StatusForbidden:
		header = append(header, [2]string{"X-OpenFaaS-Internal", "faas-middleware"})
	case http.StatusServiceUnavailable:
		header = append(header,
			[2]string{"Retry-After", "1"},
			[2]string{"X-OpenFaaS-Internal", "of-watchdog"})
	default: // no error, no refusal
		return status, nil, ""
	}
	return status, header, err.Error() + "\n"
}
