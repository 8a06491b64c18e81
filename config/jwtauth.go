package config

import (
	"fmt"
	"net/textproto"
	"strings"
	"time"
)

// ClaimHeader says in which request header a function finds a claim of its
// caller's token.
type ClaimHeader struct{ Claim, Header string }

// maxClaimHeaders bounds what is added to each request.
const maxClaimHeaders = 16

// jwtAuth reads the settings of jwt_auth beyond upstream's.
func (e *env) jwtAuth(c *Watchdog) {
	c.JWTLeeway = e.duration(time.Second, "jwt_auth_leeway")
	if c.JWTLeeway > time.Minute {
		e.bad("jwt_auth_leeway", e.values["jwt_auth_leeway"], "no more than 60s: an expired token is to be refused")
	}
	c.JWTRefresh = e.duration(5*time.Minute, "jwt_auth_refresh")
	if c.JWTRefresh < time.Second {
		e.bad("jwt_auth_refresh", e.values["jwt_auth_refresh"], "at least 1s: every function asks the gateway so often")
	}
	c.JWTKeepKeys = e.duration(24*time.Hour, "jwt_auth_keep_keys")
	if c.JWTKeepKeys < 2*c.JWTRefresh {
		e.bad("jwt_auth_keep_keys", c.JWTKeepKeys.String(), "at least twice jwt_auth_refresh, which is "+c.JWTRefresh.String())
	}

	c.JWTAuthority = clusterAuthority
	local := e.boolean(false, "jwt_auth_local")
	if local {
		c.JWTAuthority = localAuthority
	}
	authority := e.httpURL("jwt_auth_authority")
	if authority != nil {
		c.JWTAuthority = authority.String()
	}
	if issuer := e.httpURL("jwt_auth_issuer"); issuer != nil {
		c.JWTIssuer = e.values["jwt_auth_issuer"] // compared byte for byte
	}
	if c.JWTKeysFile = e.str("", "jwt_auth_jwks_file"); c.JWTKeysFile != "" {
		c.JWTAuthority = ""
		if authority != nil || local {
			e.bad("jwt_auth_jwks_file", c.JWTKeysFile, "either it or jwt_auth_authority (jwt_auth_local): keys come from one place")
		}
		if _, _, ok := e.lookup("jwt_auth_issuer"); !ok {
			e.bad("jwt_auth_issuer", "", "the issuer whose keys are in jwt_auth_jwks_file")
		}
		if !c.JWTAuth { // which an authority may be without: clusters set that for all
			e.bad("jwt_auth_jwks_file", c.JWTKeysFile, needsJWTAuth)
		}
	}

	c.JWTHideToken = !e.boolean(true, "jwt_auth_forward_token")
	c.JWTHeaders = e.claimHeaders(c.JWTAuth)
	c.JWTSkipPaths = e.skipPaths(c.JWTAuth)
	c.JWTPreflight = e.boolean(false, "jwt_auth_cors_preflight")
	switch {
	case !c.JWTPreflight:
	case !c.JWTAuth:
		e.bad("jwt_auth_cors_preflight", "true", needsJWTAuth)
	case c.Mode != HTTP && c.Mode != InProc:
		// A fork would run the whole function, and a file server sends the file,
		// whatever the method.
		e.bad("jwt_auth_cors_preflight", "true", "false in mode "+string(c.Mode)+", which answers OPTIONS as it does GET")
	}
}

const needsJWTAuth = "nothing without jwt_auth=true"

// claimHeaders reads which claims the function is told, and names their headers.
func (e *env) claimHeaders(jwtAuth bool) (headers []ClaimHeader) {
	name, v, ok := e.lookup("jwt_auth_headers")
	if !ok {
		return nil
	}
	if !jwtAuth {
		e.bad(name, v, needsJWTAuth)
	}
	claimOf := map[string]string{}
	for claim := range strings.SplitSeq(v, ",") {
		claim = strings.TrimSpace(claim)
		header := claimHeader(claim)
		if header == "" {
			e.bad(name, v, "names of claims, separated by commas, each with a letter or digit in it")
			return nil
		}
		if first, taken := claimOf[header]; taken {
			e.bad(name, v, fmt.Sprintf("one claim a header: %q and %q are both %s", first, claim, header))
			return nil
		}
		claimOf[header] = claim
		headers = append(headers, ClaimHeader{claim, header})
	}
	if len(headers) > maxClaimHeaders {
		e.bad(name, v, fmt.Sprintf("at most %d claims", maxClaimHeaders))
	}
	return headers
}

// claimHeader returns the name of a claim's header: "fed:iss" is
// X-Auth-Fed-Iss. "" = the claim has no letter or digit.
func claimHeader(claim string) string {
	switch claim {
	case "sub":
		return "X-Auth-Subject"
	case "iss":
		return "X-Auth-Issuer"
	}
	words := strings.FieldsFunc(claim, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
	if len(words) == 0 {
		return ""
	}
	return textproto.CanonicalMIMEHeaderKey("x-auth-" + strings.Join(words, "-"))
}

// skipPaths reads which paths need no token.
func (e *env) skipPaths(jwtAuth bool) (paths []string) {
	name, v, ok := e.lookup("jwt_auth_skip_paths")
	if !ok {
		return nil
	}
	if !jwtAuth {
		e.bad(name, v, needsJWTAuth)
	}
	for path := range strings.SplitSeq(v, ",") {
		path = strings.TrimSpace(path)
		prefix, isPrefix := strings.CutSuffix(path, "/*")
		switch {
		case path == "/*":
			e.bad(name, v, "jwt_auth=false to open every path, and not /*")
		case !PlainPath(prefix), strings.Contains(prefix, "*"), isPrefix && strings.HasSuffix(prefix, "/"):
			e.bad(name, v, "paths such as /healthz or /public/*, separated by commas, without //, dot segments, escapes or another *")
		}
		paths = append(paths, path)
	}
	return paths
}

// PlainPath reports whether a request's path can be read in one way alone,
// whatever server is asked: it has no escapes, parameters (;), backslashes,
// empty segments or segments of dots. It may end in a slash.
func PlainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for i := range len(path) {
		c := path[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("-_.~!$&'()*+,=:@/", c) >= 0) {
			return false
		}
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "" && i < len(segments)-1 {
			return false
		}
		// Windows once took "..." for a folder further up.
		if s != "" && strings.Trim(s, ".") == "" {
			return false
		}
	}
	return true
}
