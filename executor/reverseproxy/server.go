package reverseproxy

import (
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// NewServer returns a server set up as an exact hop needs it: bodies are
// streams, and requests and answers pass through as they came. It serves the
// connections of a [Listener] and nothing else; the caller adds time limits.
// Requests whose end is uncertain never reach handler: they are answered with
// 400 and the connection closed. Answers that have no Date get one (RFC 9110,
// section 6.6.1).
func NewServer(handler fasthttp.RequestHandler, log fasthttp.Logger) *fasthttp.Server {
	s := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Conn().(*Client).lingerFor(ctx.Request.Header.ContentLength())
			// fasthttp lets some of it pass, and takes what follows for the next
			// request: with nobody's checks behind it, if a proxy before us took
			// it for the body.
			if f, err := checkFraming(&ctx.Request.Header); err != nil {
				ctx.Error(err.Error()+"\n", fasthttp.StatusBadRequest)
				ctx.SetConnectionClose()
			} else {
				ctx.SetUserValue(framingKey{}, f)
				handler(ctx)
			}
			addDate(&ctx.Response.Header)
		},
		HeaderReceived: knownExpect,
		Logger:         unquoted{log},
		// One header block must fit: tokens with many claims, and cookies.
		ReadBufferSize:  64 << 10,
		CloseOnShutdown: true,
		// Goroutines wait that long for another connection, with large stacks.
		MaxIdleWorkerDuration: 2 * time.Second,

		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		NoDefaultDate:                 true,
		// Of a stream this limits only what fasthttp waits for before it calls
		// the handler: a byte instead of 8 KiB, so that an early answer reaches
		// who sends little, or slowly. None at all cannot be said.
		MaxRequestBodySize: 1,
		// Header contents, and so tokens, stay out of error messages.
		SecureErrorLogMessage: true,
	}
	s.ConnState = func(nc net.Conn, state fasthttp.ConnState) {
		if c := nc.(*Client); state == fasthttp.StateNew && canPeek(c.Conn) {
			c.server = s
		}
		connState(nc, state)
	}
	return s
}

// unquoted leaves out what fasthttp quotes, even so, of a header that it cannot
// read, which may be "Authorization Bearer …" without the colon.
type unquoted struct{ fasthttp.Logger }

// Printf implements fasthttp.Logger.
func (l unquoted) Printf(format string, args ...any) {
	for i, arg := range args {
		if err, is := arg.(error); is {
			args[i] = unquotedError{err}
		}
	}
	l.Logger.Printf(format, args...)
}

// unquotedError is still the error that it says less of.
type unquotedError struct{ error }

func (e unquotedError) Error() string {
	reason, _, quotes := strings.Cut(e.error.Error(), `"`)
	if quotes {
		reason += "[hidden]"
	}
	return reason
}

func (e unquotedError) Unwrap() error { return e.error }

// addDate adds a Date unless there is one.
func addDate(h *fasthttp.ResponseHeader) {
	for name := range h.All() {
		if is(name, "date") {
			return
		}
	}
	setDate(h, fasthttp.AppendHTTPDate(nil, time.Now()))
}

// setDate adds Date, which Set and Add drop. It goes in by a name that nobody can
// have sent, and that is written over where fasthttp keeps it: to announce it as a
// trailer, and take that back, did the same at 3% of what a call costs.
func setDate(h *fasthttp.ResponseHeader, value []byte) {
	h.AddBytesV("Dat\x00", value)
	for name := range h.All() {
		if string(name) == "Dat\x00" {
			name[3] = 'e'
			return
		}
	}
}
