package watchdog

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/gatehound/gatehound/config"
)

// public reports whether a request needs no token: see jwt_auth_skip_paths and
// jwt_auth_cors_preflight.
func (w *Watchdog) public(ctx *fasthttp.RequestCtx) bool {
	return w.settings.JWTPreflight && isPreflight(ctx) ||
		len(w.settings.JWTSkipPaths) > 0 && skips(w.settings.JWTSkipPaths, ctx)
}

// skips reports whether the path of a request is one of paths. It has to be so
// for every server, however that reads paths: one that can be read in two ways
// needs a token, and so does a request that names another path besides. An
// upgrade needs one too: whoever has a tunnel to the function's server could
// try to send it requests that nobody checks.
func skips(paths []string, ctx *fasthttp.RequestCtx) bool {
	path := string(pathOf(ctx)) // in absolute form it begins with no slash
	if !skipsPath(paths, path) {
		return false
	}
	for name := range ctx.Request.Header.All() {
		if routes(plainName(name)) {
			return false
		}
	}
	return true
}

func skipsPath(paths []string, path string) bool {
	if !config.PlainPath(path) {
		return false
	}
	for _, p := range paths {
		prefix, isPrefix := strings.CutSuffix(p, "*") // and so ends in a slash
		if path == p && !isPrefix || isPrefix && len(path) > len(prefix) && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// routes reports whether some server lets a header of that name change which
// path a request is for: CVE-2018-14773, SCRIPT_NAME in gunicorn, the
// destination of WebDAV's COPY. Names are as plainName has them.
func routes(name string) bool {
	switch name {
	case "x-original-url", "x-original-uri", "x-original-path",
		"x-rewrite-url", "x-rewrite-uri", "x-rewrite-path",
		"x-forwarded-prefix", "x-forwarded-path", "x-forwarded-uri", "x-forwarded-url", "x-forwarded-script-name",
		"x-envoy-original-path", "x-replaced-path", "x-ms-original-url", "x-waws-unencoded-url",
		"x-script-name", "script-name", "x-path-info", "path-info", "x-request-uri", "request-uri",
		"x-invoke-path", "x-matched-path", "x-path", "x-uri", "x-url", "destination",
		"upgrade":
		return true
	}
	return false
}

// isPreflight reports whether a browser asks, before a request across origins,
// whether that may be made (Fetch, section 3.2.2). It cannot send a token with
// that. Anything a preflight does not have makes it none.
func isPreflight(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	if !h.IsOptions() || h.ContentLength() > 0 || h.ContentLength() == -1 {
		return false
	}
	origins, methods := 0, 0
	for name := range bytes.SplitSeq(h.RawHeaders(), []byte("\n")) {
		name, _, _ = bytes.Cut(name, []byte(":"))
		switch plainName(name) {
		case "origin":
			origins++
		case "access-control-request-method":
			methods++
		case "transfer-encoding", "upgrade", "x-http-method", "x-http-method-override", "x-method-override", "x-original-method":
			return false
		}
	}
	return origins == 1 && methods == 1
}
