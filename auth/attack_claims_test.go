package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestAttackClaims(t *testing.T) {
	t.Parallel()
	var attacks []attack
	n := now.Unix()
	for _, a := range []struct {
		claim  string
		json   string // empty = left out
		status int
		want   string
	}{
		{"iss", ``, 401, wrongIss},
		{"iss", `null`, 401, wrongIss},
		{"iss", `""`, 401, wrongIss},
		{"iss", `["` + issuer + `"]`, 401, wrongIss},
		{"iss", `"` + issuer + `/"`, 401, wrongIss},
		{"iss", `"https://GW.example.com"`, 401, wrongIss},
		{"iss", `"http://gw.example.com"`, 401, wrongIss},
		{"iss", `"https://gw.example.com.evil.example"`, 401, wrongIss},
		{"iss", `"https://gw.example.com\u0000"`, 401, wrongIss},
		{"iss", `" https://gw.example.com"`, 401, wrongIss},
		{"iss", `"https://gw.example.c\u043em"`, 401, wrongIss},
		{"iss", `"*"`, 401, wrongIss},
		{"iss", `"https:\/\/gw.example.com"`, 200, allowed},

		{"aud", ``, 401, badAud},
		{"aud", `null`, 401, badAud},
		{"aud", `1`, 401, badAud},
		{"aud", `{"0":"` + issuer + `"}`, 401, badAud},
		{"aud", `["` + issuer + `",1]`, 401, badAud},
		{"aud", `[["` + issuer + `"]]`, 401, badAud},
		{"aud", `[null]`, 401, badAud},
		{"aud", `""`, 401, wrongAud},
		{"aud", `[]`, 401, wrongAud},
		{"aud", `[""]`, 401, wrongAud},
		{"aud", `"openfaas"`, 401, wrongAud},
		{"aud", `"*"`, 401, wrongAud},
		{"aud", `"HTTPS://gw.example.com"`, 401, wrongAud},
		{"aud", `"` + issuer + ` other"`, 401, wrongAud},
		{"aud", `["` + issuer + `"]`, 200, allowed},
		{"aud", `["other","` + issuer + `"]`, 200, allowed},
		{"aud", `["` + issuer + `","` + issuer + `"]`, 200, allowed},

		{"exp", ``, 401, badExp},
		{"exp", `null`, 401, badExp},
		{"exp", fmt.Sprintf(`"%d"`, n+60), 401, badExp},
		{"exp", `true`, 401, badExp},
		{"exp", fmt.Sprintf(`[%d]`, n+60), 401, badExp},
		{"exp", `-1`, 401, badExp},
		{"exp", `-0.5`, 401, badExp},
		{"exp", `253402300800`, 401, badExp},
		{"exp", `9223372036854775808`, 401, badExp},
		{"exp", `1e12`, 401, badExp},
		{"exp", `1e400`, 401, badExp},
		{"exp", `-1e400`, 401, badExp},
		{"exp", fmt.Sprint(n * 1000), 401, badExp}, // milliseconds
		{"exp", strings.Repeat("9", 400), 401, badExp},
		{"exp", `0`, 401, expired},
		{"exp", `-0`, 401, expired},
		{"exp", `1e-400`, 401, expired},
		{"exp", fmt.Sprint(n - 3600), 401, expired},
		{"exp", fmt.Sprint(n - 1), 401, expired},
		{"exp", fmt.Sprintf("%d.0", n-1), 401, expired},
		{"exp", fmt.Sprintf("%d.5", n-1), 200, allowed}, // within the leeway
		{"exp", fmt.Sprint(n), 200, allowed},
		{"exp", fmt.Sprintf("%d.25", n+60), 200, allowed},
		{"exp", `1.9e9`, 200, allowed},
		{"exp", `253402300799`, 200, allowed},

		{"exp", `NaN`, 401, notJSON},
		{"exp", `Infinity`, 401, notJSON},
		{"exp", `-Infinity`, 401, notJSON},
		{"exp", `"NaN"`, 401, badExp},
		{"exp", `"Infinity"`, 401, badExp},
		{"exp", `1e308`, 401, badExp},
		{"exp", `1E+12`, 401, badExp},
		{"exp", `-1e-400`, 401, expired}, // rounds to zero
		{"exp", `-0.0`, 401, expired},
		{"exp", `.5`, 401, notJSON},
		{"exp", `1.`, 401, notJSON},
		{"exp", `1_900_000_000`, 401, notJSON},
		{"exp", `18446744073709551615`, 401, badExp},
		{"exp", `9223372036854775807`, 401, badExp},
		{"exp", `{"$date":` + fmt.Sprint(n+60) + `}`, 401, badExp},
		{"exp", `"2100-01-01T00:00:00Z"`, 401, badExp},
		{"exp", `253402300799.5`, 401, badExp},
		{"exp", fmt.Sprintf("%d.5", n-61), 401, expired},
		{"exp", `1`, 401, expired},

		{"iat", ``, 401, badIat},
		{"iat", `null`, 401, badIat},
		{"iat", fmt.Sprintf(`"%d"`, n), 401, badIat},
		{"iat", `-1`, 401, badIat},
		{"iat", `1e999`, 401, badIat},
		{"iat", fmt.Sprint(n + 2), 401, future},
		{"iat", fmt.Sprintf("%d.5", n+1), 401, future},
		{"iat", fmt.Sprint(n * 2), 401, future},
		{"iat", fmt.Sprint(n + 1), 200, allowed},
		{"iat", fmt.Sprintf("%d.9", n), 200, allowed},
		{"iat", `0`, 200, allowed},

		{"iat", `NaN`, 401, notJSON},
		{"iat", `Infinity`, 401, notJSON},
		{"iat", `-1e400`, 401, badIat},
		{"iat", `-0.5`, 401, badIat},
		{"iat", `true`, 401, badIat},
		{"iat", fmt.Sprintf(`[%d]`, n), 401, badIat},
		{"iat", `-0`, 200, allowed},
		{"iat", `253402300800`, 401, badIat},
		{"iat", `253402300799`, 401, future},
		{"nbf", `NaN`, 401, notJSON},
		{"nbf", `-Infinity`, 401, notJSON},
		{"nbf", `-1e400`, 401, badNbf},
		{"nbf", `false`, 401, badNbf},
		{"nbf", `[]`, 401, badNbf},
		{"nbf", `-0`, 200, allowed},
		{"nbf", `null`, 401, badNbf},
		{"nbf", `"0"`, 401, badNbf},
		{"nbf", `-1`, 401, badNbf},
		{"nbf", `1e400`, 401, badNbf},
		{"nbf", `{}`, 401, badNbf},
		{"nbf", fmt.Sprint(n + 2), 401, tooEarly},
		{"nbf", `253402300799`, 401, tooEarly},
		{"nbf", fmt.Sprint(n + 1), 200, allowed},
		{"nbf", `0`, 200, allowed},

		{"function", ``, 401, noFunction},
		{"function", `null`, 401, noFunction},
		{"function", `[]`, 401, noFunction},
		{"function", `"openfaas-fn:env"`, 401, noFunction},
		{"function", `true`, 401, noFunction},
		{"Function", `{"permissions":["*"]}`, 200, allowed}, // another claim
		{"function", `{}`, 401, badPerms},
		{"function", `{"permissions":null}`, 401, badPerms},
		{"function", `{"permissions":"*"}`, 401, badPerms},
		{"function", `{"permissions":[1]}`, 401, badPerms},
		{"function", `{"permissions":["*",null]}`, 401, badPerms},
		{"function", `{"permissions":{"0":"*"}}`, 401, badPerms},
		{"function", `{"permissions":[["*"]]}`, 401, badPerms},
		{"function", `{"Permissions":["*"]}`, 401, badPerms},
		{"function", `{"permissions":["*"],"audience":null}`, 401, badFnAud},
		{"function", `{"permissions":["*"],"audience":"*"}`, 401, badFnAud},
		{"function", `{"permissions":["*"],"audience":[1]}`, 401, badFnAud},
		{"function", `{"permissions":["*"],"audience":{}}`, 401, badFnAud},
		{"function", `{"permissions":["*"],"permissions":[]}`, 401, twice},
		{"function", `{"permissions":[]}`, 403, forbidden},
		{"function", `{"permissions":["*"],"Audience":["openfaas-fn:other"]}`, 200, allowed},
		{"sub", `"\udfff"`, 401, halfPair},
		{"sub", ``, 200, allowed},
	} {
		c := withClaim(a.claim, nil)
		payload := marshal(c)
		if a.json != "" {
			payload = payload[:len(payload)-1] + `,"` + a.claim + `":` + a.json + `}`
		}
		attacks = append(attacks, attack{a.claim + " " + a.json, assemble(`{"alg":"ES256","kid":"ES256"}`, payload), a.status, a.want})
	}

	// What golang-jwt's payload cannot be made to say.
	good := marshal(goodClaims())
	apiToken := marshal(jwt.MapClaims{
		"iss": issuer, "aud": issuer, "sub": "fed:alice", "fed:iss": "https://idp.example.com", "policy": []string{"fn-rw"},
		"iat": n, "nbf": n, "exp": n + 3600, "jti": "1",
	})
	idToken := marshal(jwt.MapClaims{
		"iss": "https://idp.example.com", "aud": "gateway-client", "sub": "alice", "nonce": "x", "email": "alice@example.com",
		"iat": n, "exp": n + 3600, "auth_time": n,
	})
	for _, a := range []struct {
		name, payload string
		status        int
		want          string
	}{
		{"as it is", good, 200, allowed},
		{"iat after exp, both within the leeway", marshal(func() jwt.MapClaims { c := withClaim("iat", n+1); c["exp"] = n; return c }()), 401, backwards},
		{"an API token", apiToken, 401, noFunction},
		{"an API token that looks like a function token", strings.Replace(apiToken, `"policy":`, `"Function":{"permissions":["*"]},"permissions":["*"],"policy":`, 1), 401, noFunction},
		{"an ID token of the identity provider", idToken, 401, wrongIss},
		{"an ID token with a function claim", idToken[:len(idToken)-1] + `,"function":{"permissions":["*"]}}`, 401, wrongIss},
		{"an ID token for the gateway by its own issuer", strings.Replace(idToken, "https://idp.example.com", issuer, 1), 401, wrongAud},
		{"a token of another gateway", strings.ReplaceAll(good, issuer, "https://gw2.example.com"), 401, wrongIss},
		{"aud twice", good[:len(good)-1] + `,"aud":"other"}`, 401, twice},
		{"aud twice, other first", `{"aud":"other",` + good[1:], 401, twice},
		{"aud twice, one escaped", good[:len(good)-1] + `,"a\u0075d":["` + issuer + `"]}`, 401, twice},
		{"aud twice, one in capitals", good[:len(good)-1] + `,"AUD":"other"}`, 200, allowed}, // another claim
		{"name twice below", good[:len(good)-1] + `,"x":{"y":[{"z":1,"z":2}]}}`, 401, twice},
		{"permissions twice below", strings.Replace(good, `"permissions":`, `"permissions":[],"permissions":`, 1), 401, twice},
		{"too deep", good[:len(good)-1] + `,"x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, 401, tooDeep},
		{"many values", good[:len(good)-1] + `,"x":[` + strings.Repeat("1,", 970) + `1]}`, 200, allowed},
		{"too many values", good[:len(good)-1] + `,"x":[` + strings.Repeat("1,", 1000) + `1]}`, 401, tooMany},
		{"far too deep", good[:len(good)-1] + `,"x":` + strings.Repeat("[", 2500) + strings.Repeat("]", 2500) + `}`, 401, tooDeep},
		{"__proto__", good[:len(good)-1] + `,"__proto__":{"function":{"permissions":["*"]}}}`, 200, allowed},
		{"exp twice", good[:len(good)-1] + `,"exp":253402300799}`, 401, twice},
		{"iss twice, the same", good[:len(good)-1] + `,"iss":"` + issuer + `"}`, 401, twice},
		{"function twice, one escaped", good[:len(good)-1] + `,"funct\u0069on":{"permissions":["*"]}}`, 401, twice},
		{"claims in capitals", strings.NewReplacer(`"iss"`, `"ISS"`).Replace(good), 401, wrongIss},
		{"Exp", strings.NewReplacer(`"exp"`, `"Exp"`).Replace(good), 401, badExp},
		{"array", `[` + good + `]`, 401, notObject},
		{"null", `null`, 401, notObject},
		{"text", `hello`, 401, notJSON},
		{"two objects", good + good, 401, notJSON},
		{"binary", "\x00\xff", 401, notUTF8},
		{"deflated", "\x4b\xcb\xcf\x07\x00", 401, notUTF8},
		{"a token in the token", mint("ES256", goodClaims(), nil), 401, notJSON},
		{"leading zero", strings.Replace(good, `"exp":1`, `"exp":01`, 1), 401, notJSON},
		{"hexadecimal", strings.Replace(good, `"exp":1`, `"exp":0x1`, 1), 401, notJSON},
		{"plus sign", strings.Replace(good, `"exp":1`, `"exp":+1`, 1), 401, notJSON},
		{"Infinity", strings.Replace(good, `"exp":1`, `"exp":Infinity,"x":1`, 1), 401, notJSON},
	} {
		attacks = append(attacks, attack{"payload: " + a.name, assemble(`{"alg":"ES256","kid":"ES256"}`, a.payload), a.status, a.want})
	}
	check(t, attacks)
}

// Which function a token opens. The function is openfaas-fn:env.
func TestPermissions(t *testing.T) {
	t.Parallel()
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	var attacks []attack
	for _, c := range []struct {
		permissions, audience string
		status                int
		want                  string
	}{
		{"openfaas-fn:env", "", 200, allowed},
		{"openfaas-fn:*", "", 200, allowed},
		{"*", "", 200, allowed},
		{"dev:*,openfaas-fn:env", "", 200, allowed},
		{"*", "openfaas-fn:env", 200, allowed},
		{"*", "dev:env,openfaas-fn:*", 200, allowed},
		{"openfaas-fn:env", "*", 200, allowed},

		// Anchored at both ends; upstream's older releases were not.
		{"openfaas-fn:e", "", 403, forbidden},
		{"openfaas-fn:en", "", 403, forbidden},
		{"openfaas-fn:nv", "", 403, forbidden},
		{"fn:env", "", 403, forbidden},
		{"faas-fn:en", "", 403, forbidden},
		{":env", "", 403, forbidden},
		{"env", "", 403, forbidden},
		{"openfaas-fn:", "", 403, forbidden},
		{"openfaas-fn:env2", "", 403, forbidden},
		{"openfaas-fn:envoy", "", 403, forbidden},
		{"xopenfaas-fn:env", "", 403, forbidden},
		{"openfaas-fn", "", 403, forbidden},
		{"*", "openfaas-fn:e", 403, forbidden},
		{"*", "fn:env", 403, forbidden},

		{"dev:env", "", 403, forbidden},
		{"dev:*", "", 403, forbidden},
		{"openfaas-fn:other", "", 403, forbidden},
		{"*", "openfaas-fn:other", 403, forbidden},
		{"*", "dev:*", 403, forbidden},
		{"openfaas-fn:env", "dev:env,dev:other", 403, forbidden},
		{"openfaas-fn:other", "openfaas-fn:env", 403, forbidden}, // audience never adds
		{"dev:*", "*", 403, forbidden},

		// Patterns are not regular expressions, nor globs of another kind.
		{".*", "", 403, forbidden},
		{"openfaas-fn:.*", "", 403, forbidden},
		{"openfaas.fn:env", "", 403, forbidden},
		{"openfaas-fn:e?v", "", 403, forbidden},
		{"openfaas-fn:[e]nv", "", 403, forbidden},
		{"^openfaas-fn:env$", "", 403, forbidden},
		{"openfaas-fn:env|x", "", 403, forbidden},
		{"openfaas-fn:{env}", "", 403, forbidden},
		{"!dev:env", "", 403, forbidden},
		{"%", "", 403, forbidden},

		// Case, look-alikes, invisible and control characters.
		{"openfaas-fn:ENV", "", 403, forbidden},
		{"OpenFaaS-fn:env", "", 403, forbidden},
		{"openfaas-fn:еnv", "", 403, forbidden}, // Cyrillic
		{"openfaas-fn：env", "", 403, forbidden}, // full-width colon
		{"＊", "", 403, forbidden},               // full-width asterisk
		{"openfaas-fn:e\u200bnv", "", 403, forbidden},
		{"openfaas-fn:env\u0000", "", 403, forbidden},
		{"openfaas-fn:env\n", "", 403, forbidden},
		{" openfaas-fn:env", "", 403, forbidden},
		{"openfaas-fn:env ", "", 403, forbidden},
		{"* ", "", 403, forbidden},
		{"openfaas\u2010fn:env", "", 403, forbidden},

		// "*" within a side is any run of its characters, the empty one too, and
		// the match is anchored all the same; it never reaches over the colon.
		{"openfaas-fn:en*nv", "", 403, forbidden}, // would use the n twice
		{"openfaas-fn:e*n", "", 403, forbidden},
		{"openfaas-fn:*n", "", 403, forbidden},
		{"openfaas-fn:n*", "", 403, forbidden},
		{"*:e", "", 403, forbidden},
		{"*env", "", 403, forbidden},
		{"openfaas*", "", 403, forbidden},
		{"openfaas*env", "", 403, forbidden},
		{"fn*:env", "", 403, forbidden},
		{"dev:e*nv", "", 403, forbidden},
		{"dev:", "", 403, forbidden},
		{"dev:*:env", "", 403, forbidden},
		{"openfaas-fn:e*nv", "", 200, allowed},
		{"openfaas-fn:e*", "", 200, allowed},
		{"openfaas-fn:*nv", "", 200, allowed},
		{"openfaas-fn:env*", "", 200, allowed},
		{"openfaas-*:env", "", 200, allowed},
		{"*:env", "", 200, allowed},
		{"*:*", "", 200, allowed},
		{"**", "", 403, forbidden},
		{"openfaas-fn:**", "", 200, allowed},
		{":", "", 403, forbidden},
		{":*", "", 403, forbidden},
		{"*:", "", 403, forbidden},
		{"openfaas-fn:env,", "", 200, allowed}, // with an empty entry beside
		{"openfaas-fn::env", "", 403, forbidden},
		{"openfaas-fn:/env", "", 403, forbidden},
		{"openfaas-fn:../env", "", 403, forbidden},
		{"openfaas-fn%3Aenv", "", 403, forbidden},
		{"openfaas-fn:%2A", "", 403, forbidden},
		{"openfaas-fn:e\u0301nv", "", 403, forbidden}, // combining accent
		{"openfaas-fn:ｅｎｖ", "", 403, forbidden},       // full width
		{"openfaas-fn:\u202eenv", "", 403, forbidden}, // right to left
		{"openfaas-fn:e\u00adnv", "", 403, forbidden}, // soft hyphen
		{"openfaaſ-fn:env", "", 403, forbidden},       // long s, which folds to s
		{"openfaas-fn:∗", "", 403, forbidden},         // asterisk operator
		{"openfaas-fn\u02d0env", "", 403, forbidden},  // triangular colon
		{"\ufeff*", "", 403, forbidden},               // byte order mark
		{"*\u0000", "", 403, forbidden},
		{"*", "openfaas-fn:e*nv", 200, allowed},
		{"*", "*:env", 200, allowed},
		{"*", "**", 403, forbidden},
		{"*", "openfaas-fn:ENV", 403, forbidden},

		// Malformed patterns match nothing, not even in audience.
		{"**:env:x", "", 403, forbidden},
		{"openfaas-fn:env:x", "", 403, forbidden},
		{"openfaas-fn/env", "", 403, forbidden},
		{"env.openfaas-fn", "", 403, forbidden},
		{"*", "env", 403, forbidden},
		{"*", "openfaas-fn:env:", 403, forbidden},
		{"*", "openfaas-fn:env\t", 403, forbidden},
	} {
		function := map[string]any{"permissions": list(c.permissions)}
		if c.audience != "" {
			function["audience"] = list(c.audience)
		}
		attacks = append(attacks, attack{c.permissions + " for " + c.audience, mint("ES256", withClaim("function", function), nil), c.status, c.want})
	}
	for name, c := range map[string]struct {
		function string
		status   int
		want     string
	}{
		"empty permission":     {`{"permissions":[""]}`, 403, forbidden},
		"empty audience list":  {`{"permissions":["*"],"audience":[]}`, 200, allowed},
		"empty audience entry": {`{"permissions":["*"],"audience":[""]}`, 403, forbidden},
		"escaped":              {`{"permissions":["openfaas-fn\u003aenv"]}`, 200, allowed},
		"unknown entries":      {`{"permissions":["*"],"more":{"x":1}}`, 200, allowed},
	} {
		payload := marshal(withClaim("function", nil))
		attacks = append(attacks, attack{name, assemble(`{"alg":"ES256","kid":"ES256"}`, payload[:len(payload)-1]+`,"function":`+c.function+`}`), c.status, c.want})
	}
	check(t, attacks)
}
