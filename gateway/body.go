package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/gateway/provider"
)

const (
	// maxForm bounds what is read of a token request; package exchange is
	// stricter about what is in it.
	maxForm = 64 << 10
	// maxBody bounds the body of a request to /system/: what etcd, and so
	// Kubernetes, takes for a secret or a deployment.
	maxBody = 1 << 20
)

var errBodyTooLarge = errors.New("the request body is too large")

// readBody reads a request body of at most limit bytes. fasthttp's own limit
// does not hold for streamed bodies.
func readBody(ctx *fasthttp.RequestCtx, limit int) ([]byte, error) {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		body := ctx.Request.Body()
		if len(body) > limit {
			return nil, errBodyTooLarge
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, int64(limit)+1))
	switch {
	case err != nil:
		return nil, errors.New("the request body is broken or ended early")
	case len(body) > limit:
		return nil, errBodyTooLarge
	}
	return body, nil
}

// decode reads the request body into v. Fields that v does not have are
// ignored, and so not forwarded: clients may be newer than we are. An empty
// body is an empty object, from which what is needed will be missing.
func (r *request) decode(v any) error {
	body, err := r.body()
	if err != nil {
		return bodyError(err, maxBody)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		if r.needsBody {
			return badRequest("what this request is about stands in its body, and none has come: set auth_pass_body=true on the gateway that asks this one")
		}
		return nil
	}
	if err := checkJSON(body); err != nil {
		return badRequest("request body: %s", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return badRequest("request body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// bodyError is what to answer when a request body cannot be read.
func bodyError(err error, limit int) error {
	if errors.Is(err, errBodyTooLarge) {
		return &provider.Error{Status: http.StatusRequestEntityTooLarge, Message: fmt.Sprintf("the request body is larger than %d bytes", limit)}
	}
	return badRequest("%s", err)
}

// checkJSON refuses what is no JSON object, and one in which a name stands
// twice: of those encoding/json takes the last, others the first. It also takes
// "Namespace" for "namespace", so at the top, where names are ours, case does
// not make a difference.
func checkJSON(data []byte) error {
	switch {
	case !utf8.Valid(data):
		return errors.New("it is not UTF-8")
	case !json.Valid(data): // Decoder.Token forgives some bad syntax
		return errors.New("it is not one JSON value")
	case bytes.TrimLeft(data, " \t\r\n")[0] != '{':
		return errors.New("it is not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // 1e999 is JSON, too
	if err := checkNames(d, foldName); err != nil {
		return err
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return err
	}
	for name := range top {
		for _, want := range identifying {
			if name != want && foldName(name) == foldName(want) {
				return fmt.Errorf("it has the name %q: want %q", clip(name), want)
			}
		}
	}
	return nil
}

// identifying are the names by which a body says what it is about. An auth plugin
// that does not take "Namespace" for one of them would judge another request.
var identifying = []string{"namespace", "name", "service", "serviceName", "functionName", "alerts"}

// foldName returns what names have in common that encoding/json takes for one.
func foldName(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// checkNames reads one value from d. fold returns what two names of an object
// may not have in common.
func checkNames(d *json.Decoder, fold func(string) string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	exact := func(name string) string { return name }
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := token.(string)
			if seen[fold(name)] {
				return fmt.Errorf("it has the name %q twice", clip(name))
			}
			seen[fold(name)] = true
		}
		if err := checkNames(d, exact); err != nil {
			return err
		}
	}
	_, err = d.Token() // the closing one
	return err
}
