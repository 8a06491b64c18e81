package auth

import (
	"slices"
	"strings"
	"testing"
)

func TestAttackHeader(t *testing.T) {
	t.Parallel()
	good := marshal(goodClaims())
	var attacks []attack
	for _, a := range []struct {
		name, header string
		status       int
		want         string
	}{
		{"minimal", `{"alg":"ES256","kid":"ES256"}`, 200, allowed},
		{"typ JWT", `{"alg":"ES256","kid":"ES256","typ":"JWT"}`, 200, allowed},
		{"typ in lower case", `{"alg":"ES256","kid":"ES256","typ":"jwt"}`, 200, allowed},
		{"typ as media type", `{"alg":"ES256","kid":"ES256","typ":"application/JWT"}`, 200, allowed},
		{"white space inside", "\t{ \"alg\" : \"ES256\",\r\n \"kid\" : \"ES256\" } ", 200, allowed},
		{"unknown entry", `{"alg":"ES256","kid":"ES256","x":[{"y":null}]}`, 200, allowed},
		{"typ of an access token", `{"alg":"ES256","kid":"ES256","typ":"at+jwt"}`, 401, wrongTyp},
		{"typ of a logout token", `{"alg":"ES256","kid":"ES256","typ":"logout+jwt"}`, 401, wrongTyp},
		{"typ of a security event", `{"alg":"ES256","kid":"ES256","typ":"secevent+jwt"}`, 401, wrongTyp},
		{"typ of a DPoP proof", `{"alg":"ES256","kid":"ES256","typ":"dpop+jwt"}`, 401, wrongTyp},
		{"typ of a client's assertion", `{"alg":"ES256","kid":"ES256","typ":"client-authentication+jwt"}`, 401, wrongTyp},
		{"typ with a parameter", `{"alg":"ES256","kid":"ES256","typ":"JWT;x=y"}`, 401, wrongTyp},
		{"typ with a look-alike", `{"alg":"ES256","kid":"ES256","typ":"ЈWT"}`, 401, wrongTyp},
		{"typ that only Unicode folds", `{"alg":"ES256","kid":"ES256","typ":"appl\u0130cation/jwt"}`, 401, wrongTyp},
		{"typ empty", `{"alg":"ES256","kid":"ES256","typ":""}`, 401, wrongTyp},
		{"typ null", `{"alg":"ES256","kid":"ES256","typ":null}`, 401, wrongTyp},
		{"typ a list", `{"alg":"ES256","kid":"ES256","typ":["JWT"]}`, 401, wrongTyp},
		{"typ JOSE+JSON", `{"alg":"ES256","kid":"ES256","typ":"JOSE+JSON"}`, 401, wrongTyp},

		{"no kid", `{"alg":"ES256"}`, 401, noKid},
		{"kid empty", `{"alg":"ES256","kid":""}`, 401, noKid},
		{"kid null", `{"alg":"ES256","kid":null}`, 401, noKid},
		{"kid a number", `{"alg":"ES256","kid":256}`, 401, noKid},
		{"kid a list", `{"alg":"ES256","kid":["ES256"]}`, 401, noKid},
		{"kid an object", `{"alg":"ES256","kid":{"ES256":"ES256"}}`, 401, noKid},
		{"kid in capitals", `{"alg":"ES256","KID":"ES256"}`, 401, noKid},
		{"kid unknown", `{"alg":"ES256","kid":"other"}`, 401, unknownKid},
		{"kid in other case", `{"alg":"ES256","kid":"es256"}`, 401, unknownKid},
		{"kid with space", `{"alg":"ES256","kid":"ES256 "}`, 401, unknownKid},
		{"kid with NUL", `{"alg":"ES256","kid":"ES256\u0000"}`, 401, unknownKid},
		{"kid a path", `{"alg":"ES256","kid":"../../../../dev/null"}`, 401, unknownKid},
		{"kid an injection", `{"alg":"ES256","kid":"x' UNION SELECT 'key"}`, 401, unknownKid},
		{"kid a URL", `{"alg":"ES256","kid":"http://evil.example/keys"}`, 401, unknownKid},
		{"kid a look-alike", `{"alg":"ES256","kid":"ЕS256"}`, 401, unknownKid},
		{"kid full width", `{"alg":"ES256","kid":"ＥＳ２５６"}`, 401, unknownKid},
		{"kid escaped", `{"alg":"ES256","kid":"\u0045S256"}`, 200, allowed},

		{"kid NFKC look-alike", `{"alg":"ES256","kid":"ES²56"}`, 401, unknownKid},
		{"kid right to left", `{"alg":"ES256","kid":"\u202eES256"}`, 401, unknownKid},
		{"kid very long", `{"alg":"ES256","kid":"` + strings.Repeat("k", 4000) + `"}`, 401, unknownKid},
		{"no alg", `{"kid":"ES256"}`, 401, noAlg},
		{"alg empty", `{"alg":"","kid":"ES256"}`, 401, noAlg},
		{"alg null", `{"alg":null,"kid":"ES256"}`, 401, noAlg},
		{"alg a list", `{"alg":["ES256"],"kid":"ES256"}`, 401, noAlg},
		{"Alg", `{"Alg":"ES256","kid":"ES256"}`, 401, noAlg},
		{"alg in lower case", `{"alg":"es256","kid":"ES256"}`, 401, wrongAlg},
		{"alg of another curve", `{"alg":"ES384","kid":"ES256"}`, 401, wrongAlg},
		{"alg ES256K", `{"alg":"ES256K","kid":"ES256"}`, 401, wrongAlg},
		{"alg of another kind", `{"alg":"RS256","kid":"ES256"}`, 401, wrongAlg},
		{"alg of another key", `{"alg":"ES256","kid":"RS256"}`, 401, wrongAlg},
		{"alg EdDSA", `{"alg":"EdDSA","kid":"ES256"}`, 401, wrongAlg},
		{"alg HS256", `{"alg":"HS256","kid":"ES256"}`, 401, wrongAlg},
		{"alg dir", `{"alg":"dir","kid":"ES256"}`, 401, wrongAlg},
		{"alg with space", `{"alg":"ES256 ","kid":"ES256"}`, 401, wrongAlg},
		{"alg with NUL", `{"alg":"ES256\u0000","kid":"ES256"}`, 401, wrongAlg},

		{"crit", `{"alg":"ES256","kid":"ES256","crit":["exp"]}`, 401, extension},
		{"crit empty", `{"alg":"ES256","kid":"ES256","crit":[]}`, 401, extension},
		{"crit null", `{"alg":"ES256","kid":"ES256","crit":null}`, 401, extension},
		{"crit b64", `{"alg":"ES256","kid":"ES256","crit":["b64"],"b64":false}`, 401, extension},
		{"b64 false", `{"alg":"ES256","kid":"ES256","b64":false}`, 401, extension},
		{"b64 true", `{"alg":"ES256","kid":"ES256","b64":true}`, 401, extension},
		{"zip", `{"alg":"ES256","kid":"ES256","zip":"DEF"}`, 401, extension},
		{"enc", `{"alg":"ES256","kid":"ES256","enc":"A128GCM"}`, 401, extension},
		{"cty JWT", `{"alg":"ES256","kid":"ES256","cty":"JWT"}`, 401, nested},
		{"cty jwt", `{"alg":"ES256","kid":"ES256","cty":"jwt"}`, 401, nested},

		{"alg twice", `{"alg":"none","alg":"ES256","kid":"ES256"}`, 401, twice},
		{"alg twice, last none", `{"alg":"ES256","kid":"ES256","alg":"none"}`, 401, twice},
		{"alg twice, one escaped", `{"alg":"ES256","\u0061lg":"none","kid":"ES256"}`, 401, twice},
		{"kid twice", `{"alg":"ES256","kid":"ES256","kid":"ES256"}`, 401, twice},
		{"name twice at the bottom", `{"alg":"ES256","kid":"ES256","x":{"y":{"z":[[{"alg":1,"\u0061lg":2}]]}}}`, 401, twice},
		{"name twice in jwk", `{"alg":"ES256","kid":"ES256","jwk":{"kty":"EC","kty":"oct"}}`, 401, twice},
		{"name twice below", `{"alg":"ES256","kid":"ES256","x":[{"y":1,"y":2}]}`, 401, twice},
		{"empty name twice", `{"alg":"ES256","kid":"ES256","":1,"":1}`, 401, twice},
		{"alg beside ALG", `{"ALG":"none","alg":"ES256","kid":"ES256"}`, 200, allowed},
		{"deep", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, 200, allowed},
		{"too deep", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, 401, tooDeep},
		{"too deep in objects", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat(`{"x":`, 16) + "1" + strings.Repeat("}", 16) + `}`, 401, tooDeep},
		{"many values", `{"alg":"ES256","kid":"ES256","x":[` + strings.Repeat("1,", 90) + `1]}`, 200, allowed},
		{"too many values", `{"alg":"ES256","kid":"ES256","x":[` + strings.Repeat("1,", 2800) + `1]}`, 401, tooMany},
		{"far too deep", strings.Repeat("[", 1500) + strings.Repeat("]", 1500), 401, tooDeep},
		{"array", `["ES256"]`, 401, notObject},
		{"string", `"ES256"`, 401, notObject},
		{"null", `null`, 401, notObject},
		{"number", `1`, 401, notObject},
		{"two objects", `{"alg":"ES256","kid":"ES256"}{}`, 401, notJSON},
		{"trailing comma", `{"alg":"ES256","kid":"ES256",}`, 401, notJSON},
		{"trailing NUL", "{\"alg\":\"ES256\",\"kid\":\"ES256\"}\x00", 401, notJSON},
		{"comment", `{"alg":"ES256"/**/,"kid":"ES256"}`, 401, notJSON},
		{"single quotes", `{'alg':'ES256','kid':'ES256'}`, 401, notJSON},
		{"byte order mark", "\uFEFF" + `{"alg":"ES256","kid":"ES256"}`, 401, notJSON},
		{"NaN", `{"alg":"ES256","kid":"ES256","x":NaN}`, 401, notJSON},
		{"raw line end in a string", "{\"alg\":\"ES256\",\"kid\":\"ES256\",\"x\":\"\n\"}", 401, notJSON},
		{"cut off", `{"alg":"ES256","kid":"ES256"`, 401, notJSON},
		{"not UTF-8", "{\"alg\":\"ES256\",\"kid\":\"ES256\",\"x\":\"\xff\"}", 401, notUTF8},
		{"overlong UTF-8", "{\"alg\":\"ES256\",\"kid\":\"ES256\xc0\x80\"}", 401, notUTF8},
		{"UTF-8 surrogate", "{\"alg\":\"ES256\",\"kid\":\"\xed\xa0\x80\"}", 401, notUTF8},
		{"half a surrogate pair", `{"alg":"ES256","kid":"ES256","x":"\ud800"}`, 401, halfPair},
		{"half a pair as name", `{"alg":"ES256","kid":"ES256","\uDC00":1}`, 401, halfPair},
		{"half a pair in hiding", `{"alg":"ES256","kid":"ES256","x":"\\ufffd \ufffd \uD83D"}`, 401, halfPair},
		{"whole pair", `{"alg":"ES256","kid":"ES256","x":"\ud83d\ude00"}`, 200, allowed},
		{"replacement character", `{"alg":"ES256","kid":"ES256","x":"\ufffd` + "\uFFFD" + `"}`, 200, allowed},
	} {
		attacks = append(attacks, attack{a.name, assemble(a.header, good), a.status, a.want})
	}
	check(t, attacks)
}

func TestAttackAuthorization(t *testing.T) {
	t.Parallel()
	good := mint("ES256", goodClaims(), nil)
	v := newVerifier(t, nil)
	for _, c := range []struct {
		name   string
		values []string
		status int
		want   string
	}{
		{"Bearer", []string{"Bearer " + good}, 200, allowed},
		{"bearer", []string{"bearer " + good}, 200, allowed},
		{"BEARER", []string{"BEARER " + good}, 200, allowed},
		{"no header", nil, 401, noBearer},
		{"empty", []string{""}, 401, noBearer},
		{"scheme alone", []string{"Bearer"}, 401, noBearer},
		{"scheme and space", []string{"Bearer "}, 401, noBearer},
		{"no scheme", []string{good}, 401, noBearer},
		{"Basic", []string{"Basic YWRtaW46YWRtaW4="}, 401, noBearer},
		{"token under Basic", []string{"Basic " + good}, 401, noBearer},
		{"token under DPoP", []string{"DPoP " + good}, 401, noBearer},
		{"longer scheme", []string{"BearerX " + good}, 401, noBearer},
		{"shorter scheme", []string{"Beare " + good}, 401, noBearer},
		{"look-alike scheme", []string{"Bеarer " + good}, 401, noBearer},
		{"space in front", []string{" Bearer " + good}, 401, noBearer},
		{"tab for space", []string{"Bearer\t" + good}, 401, noBearer},
		{"no space", []string{"Bearer" + good}, 401, noBearer},
		{"colon", []string{"Bearer: " + good}, 401, noBearer},
		{"two spaces", []string{"Bearer  " + good}, 401, notBase64},
		{"space and tab", []string{"Bearer \t" + good}, 401, notBase64},
		{"two schemes", []string{"Bearer Bearer " + good}, 401, notBase64},
		{"a parameter behind", []string{"Bearer " + good + ", realm=x"}, 401, notBase64},
		{"NUL for space", []string{"Bearer\x00" + good}, 401, noBearer},
		{"no-break space", []string{"Bearer\u00a0" + good}, 401, noBearer},
		{"quoted", []string{`Bearer "` + good + `"`}, 401, notBase64},
		{"space behind", []string{"Bearer " + good + " "}, 401, notBase64},
		{"tab behind", []string{"Bearer " + good + "\t"}, 401, notBase64},
		{"CR LF and a header behind", []string{"Bearer " + good + "\r\nX: y"}, 401, notBase64},
		{"NUL behind", []string{"Bearer " + good + "\x00"}, 401, notBase64},
		{"a second token behind", []string{"Bearer " + good + " " + good}, 401, notThree},
		{"a list in one header", []string{"Bearer " + good + ", Bearer " + good}, 401, notThree},
		{"a list with Basic first", []string{"Basic YTpi, Bearer " + good}, 401, noBearer},
		{"good, then garbage", []string{"Bearer " + good, "Bearer x"}, 401, several},
		{"a hundred headers", slices.Repeat([]string{"Bearer " + good}, 100), 401, several},
		{"scheme and 8 KiB of spaces", []string{"Bearer " + strings.Repeat(" ", MaxToken)}, 401, notThree},
		{"one byte too long", []string{"Bearer " + strings.Repeat("A", MaxToken+1)}, 401, tooLong},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, 401, several},
		{"Basic, then Bearer", []string{"Basic YTpi", "Bearer " + good}, 401, several},
		{"Bearer, then empty", []string{"Bearer " + good, ""}, 401, several},
		{"two empty ones", []string{"", ""}, 401, several},
		{"not a token", []string{"Bearer undefined"}, 401, notThree},
	} {
		values := make([][]byte, len(c.values))
		for i, s := range c.values {
			values[i] = []byte(s)
		}
		requireAnswer(t, c.name, verify(t.Context(), v, values...), c.status, c.want)
	}
}
