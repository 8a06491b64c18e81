package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// The reasons a token can be refused for, once each.
const (
	noBearer   = "Bearer must be present in Authorization header"
	prefix     = "failed to parse JWT token: "
	several    = prefix + "several Authorization headers"
	tooLong    = prefix + "longer than 8192 bytes"
	notThree   = prefix + "not a compact JWS of three parts"
	emptyPart  = prefix + "a part is empty"
	notBase64  = prefix + "a part is not canonical unpadded base64url"
	notUTF8    = prefix + "the header or the claims are not UTF-8"
	notJSON    = prefix + "the header or the claims are not JSON"
	notObject  = prefix + "the header or the claims are not a JSON object"
	tooDeep    = prefix + "the header or the claims are nested too deeply"
	twice      = prefix + "the header or the claims have a name twice"
	halfPair   = prefix + "the header or the claims hold half a surrogate pair"
	noKid      = prefix + "kid is missing or not a string"
	noAlg      = prefix + "alg is missing or not a string"
	wrongAlg   = prefix + "alg is not the key's"
	unknownKid = prefix + "kid names no key of the issuer"
	extension  = prefix + "the header has an unsupported extension: crit, b64, zip or enc"
	nested     = prefix + "cty is set: nested tokens are not supported"
	wrongTyp   = prefix + "typ is not JWT"
	badSig     = prefix + "signature does not verify"
	wrongIss   = prefix + "iss is not the expected issuer"
	badAud     = prefix + "aud is missing or neither a string nor an array of strings"
	wrongAud   = prefix + "aud does not name the expected audience"
	badExp     = prefix + "exp is missing or not a date"
	expired    = prefix + "the token has expired"
	badIat     = prefix + "iat is missing or not a date"
	future     = prefix + "the token was issued in the future"
	badNbf     = prefix + "nbf is not a date"
	tooEarly   = prefix + "the token is not valid yet"
	noFunction = prefix + "no function claim: not a function token"
	badPerms   = prefix + "permissions of the function claim are not an array of strings"
	badFnAud   = prefix + "audience of the function claim is not an array of strings"
	forbidden  = "insufficient permissions"
	allowed    = ""
)

// attack is a token, signed by the issuer unless the attack is about the
// signature, so that only what its name says can be what refuses it.
type attack struct {
	name  string
	token string
	want  string // the error; allowed = none
}

// check runs each attack twice, since a verdict is cached, and through both
// ways in.
func check(t *testing.T, attacks []attack) {
	t.Helper()
	v := newVerifier(t, nil)
	names := map[string]bool{}
	for _, a := range attacks {
		require.False(t, names[a.name], "two attacks named %q", a.name)
		names[a.name] = true
		for range 2 {
			err := verify(t.Context(), v, []byte("Bearer "+a.token))
			if a.want == allowed {
				require.NoError(t, err, a.name)
				continue
			}
			require.EqualError(t, err, a.want, a.name)
			requireStatus(t, err)
		}
	}
}

func requireStatus(t *testing.T, err error) {
	t.Helper()
	if err.Error() == forbidden {
		require.ErrorIs(t, err, ErrForbidden)
		require.Equal(t, http.StatusForbidden, Status(err))
		return
	}
	if err.Error() == noBearer {
		require.ErrorIs(t, err, ErrNoBearer)
	} else {
		require.ErrorIs(t, err, ErrInvalidToken)
	}
	require.Equal(t, http.StatusUnauthorized, Status(err))
}

func TestAttackHeader(t *testing.T) {
	t.Parallel()
	good := marshal(goodClaims())
	var attacks []attack
	for _, a := range []struct{ name, header, want string }{
		{"minimal", `{"alg":"ES256","kid":"ES256"}`, allowed},
		{"typ JWT", `{"alg":"ES256","kid":"ES256","typ":"JWT"}`, allowed},
		{"typ in lower case", `{"alg":"ES256","kid":"ES256","typ":"jwt"}`, allowed},
		{"typ as media type", `{"alg":"ES256","kid":"ES256","typ":"application/JWT"}`, allowed},
		{"white space inside", "\t{ \"alg\" : \"ES256\",\r\n \"kid\" : \"ES256\" } ", allowed},
		{"unknown entry", `{"alg":"ES256","kid":"ES256","x":[{"y":null}]}`, allowed},
		{"typ of an access token", `{"alg":"ES256","kid":"ES256","typ":"at+jwt"}`, wrongTyp},
		{"typ of a logout token", `{"alg":"ES256","kid":"ES256","typ":"logout+jwt"}`, wrongTyp},
		{"typ empty", `{"alg":"ES256","kid":"ES256","typ":""}`, wrongTyp},
		{"typ null", `{"alg":"ES256","kid":"ES256","typ":null}`, wrongTyp},
		{"typ a list", `{"alg":"ES256","kid":"ES256","typ":["JWT"]}`, wrongTyp},
		{"typ JOSE+JSON", `{"alg":"ES256","kid":"ES256","typ":"JOSE+JSON"}`, wrongTyp},

		{"no kid", `{"alg":"ES256"}`, noKid},
		{"kid empty", `{"alg":"ES256","kid":""}`, noKid},
		{"kid null", `{"alg":"ES256","kid":null}`, noKid},
		{"kid a number", `{"alg":"ES256","kid":256}`, noKid},
		{"kid a list", `{"alg":"ES256","kid":["ES256"]}`, noKid},
		{"kid an object", `{"alg":"ES256","kid":{"ES256":"ES256"}}`, noKid},
		{"kid in capitals", `{"alg":"ES256","KID":"ES256"}`, noKid},
		{"kid unknown", `{"alg":"ES256","kid":"other"}`, unknownKid},
		{"kid in other case", `{"alg":"ES256","kid":"es256"}`, unknownKid},
		{"kid with space", `{"alg":"ES256","kid":"ES256 "}`, unknownKid},
		{"kid with NUL", `{"alg":"ES256","kid":"ES256\u0000"}`, unknownKid},
		{"kid a path", `{"alg":"ES256","kid":"../../../../dev/null"}`, unknownKid},
		{"kid an injection", `{"alg":"ES256","kid":"x' UNION SELECT 'key"}`, unknownKid},
		{"kid a URL", `{"alg":"ES256","kid":"http://evil.example/keys"}`, unknownKid},
		{"kid a look-alike", `{"alg":"ES256","kid":"ЕS256"}`, unknownKid},
		{"kid full width", `{"alg":"ES256","kid":"ＥＳ２５６"}`, unknownKid},
		{"kid escaped", `{"alg":"ES256","kid":"\u0045S256"}`, allowed},

		{"no alg", `{"kid":"ES256"}`, noAlg},
		{"alg empty", `{"alg":"","kid":"ES256"}`, noAlg},
		{"alg null", `{"alg":null,"kid":"ES256"}`, noAlg},
		{"alg a list", `{"alg":["ES256"],"kid":"ES256"}`, noAlg},
		{"Alg", `{"Alg":"ES256","kid":"ES256"}`, noAlg},
		{"alg in lower case", `{"alg":"es256","kid":"ES256"}`, wrongAlg},
		{"alg of another curve", `{"alg":"ES384","kid":"ES256"}`, wrongAlg},
		{"alg ES256K", `{"alg":"ES256K","kid":"ES256"}`, wrongAlg},
		{"alg of another kind", `{"alg":"RS256","kid":"ES256"}`, wrongAlg},
		{"alg of another key", `{"alg":"ES256","kid":"RS256"}`, wrongAlg},
		{"alg EdDSA", `{"alg":"EdDSA","kid":"ES256"}`, wrongAlg},
		{"alg HS256", `{"alg":"HS256","kid":"ES256"}`, wrongAlg},
		{"alg dir", `{"alg":"dir","kid":"ES256"}`, wrongAlg},
		{"alg with space", `{"alg":"ES256 ","kid":"ES256"}`, wrongAlg},
		{"alg with NUL", `{"alg":"ES256\u0000","kid":"ES256"}`, wrongAlg},

		{"crit", `{"alg":"ES256","kid":"ES256","crit":["exp"]}`, extension},
		{"crit empty", `{"alg":"ES256","kid":"ES256","crit":[]}`, extension},
		{"crit null", `{"alg":"ES256","kid":"ES256","crit":null}`, extension},
		{"crit b64", `{"alg":"ES256","kid":"ES256","crit":["b64"],"b64":false}`, extension},
		{"b64 false", `{"alg":"ES256","kid":"ES256","b64":false}`, extension},
		{"b64 true", `{"alg":"ES256","kid":"ES256","b64":true}`, extension},
		{"zip", `{"alg":"ES256","kid":"ES256","zip":"DEF"}`, extension},
		{"enc", `{"alg":"ES256","kid":"ES256","enc":"A128GCM"}`, extension},
		{"cty JWT", `{"alg":"ES256","kid":"ES256","cty":"JWT"}`, nested},
		{"cty jwt", `{"alg":"ES256","kid":"ES256","cty":"jwt"}`, nested},

		{"alg twice", `{"alg":"none","alg":"ES256","kid":"ES256"}`, twice},
		{"alg twice, last none", `{"alg":"ES256","kid":"ES256","alg":"none"}`, twice},
		{"alg twice, one escaped", `{"alg":"ES256","\u0061lg":"none","kid":"ES256"}`, twice},
		{"kid twice", `{"alg":"ES256","kid":"ES256","kid":"ES256"}`, twice},
		{"name twice below", `{"alg":"ES256","kid":"ES256","x":[{"y":1,"y":2}]}`, twice},
		{"empty name twice", `{"alg":"ES256","kid":"ES256","":1,"":1}`, twice},
		{"alg beside ALG", `{"ALG":"none","alg":"ES256","kid":"ES256"}`, allowed},
		{"deep", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, allowed},
		{"too deep", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, tooDeep},
		{"too deep in objects", `{"alg":"ES256","kid":"ES256","x":` + strings.Repeat(`{"x":`, 16) + "1" + strings.Repeat("}", 16) + `}`, tooDeep},
		{"far too deep", strings.Repeat("[", 1500) + strings.Repeat("]", 1500), tooDeep},
		{"array", `["ES256"]`, notObject},
		{"string", `"ES256"`, notObject},
		{"null", `null`, notObject},
		{"number", `1`, notObject},
		{"two objects", `{"alg":"ES256","kid":"ES256"}{}`, notJSON},
		{"trailing comma", `{"alg":"ES256","kid":"ES256",}`, notJSON},
		{"trailing NUL", "{\"alg\":\"ES256\",\"kid\":\"ES256\"}\x00", notJSON},
		{"comment", `{"alg":"ES256"/**/,"kid":"ES256"}`, notJSON},
		{"single quotes", `{'alg':'ES256','kid':'ES256'}`, notJSON},
		{"byte order mark", "\uFEFF" + `{"alg":"ES256","kid":"ES256"}`, notJSON},
		{"NaN", `{"alg":"ES256","kid":"ES256","x":NaN}`, notJSON},
		{"raw line end in a string", "{\"alg\":\"ES256\",\"kid\":\"ES256\",\"x\":\"\n\"}", notJSON},
		{"cut off", `{"alg":"ES256","kid":"ES256"`, notJSON},
		{"not UTF-8", "{\"alg\":\"ES256\",\"kid\":\"ES256\",\"x\":\"\xff\"}", notUTF8},
		{"overlong UTF-8", "{\"alg\":\"ES256\",\"kid\":\"ES256\xc0\x80\"}", notUTF8},
		{"UTF-8 surrogate", "{\"alg\":\"ES256\",\"kid\":\"\xed\xa0\x80\"}", notUTF8},
		{"half a surrogate pair", `{"alg":"ES256","kid":"ES256","x":"\ud800"}`, halfPair},
		{"half a pair as name", `{"alg":"ES256","kid":"ES256","\uDC00":1}`, halfPair},
		{"half a pair in hiding", `{"alg":"ES256","kid":"ES256","x":"\\ufffd \ufffd \uD83D"}`, halfPair},
		{"whole pair", `{"alg":"ES256","kid":"ES256","x":"\ud83d\ude00"}`, allowed},
		{"replacement character", `{"alg":"ES256","kid":"ES256","x":"\ufffd` + "\uFFFD" + `"}`, allowed},
	} {
		attacks = append(attacks, attack{a.name, assemble(a.header, good), a.want})
	}
	check(t, attacks)
}

// alg none, HMAC with what everybody knows, keys and URLs in the token.
func TestAttackAlgorithm(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	claims := b64([]byte(marshal(goodClaims())))
	goodSignature := strings.Split(mint("ES256", goodClaims(), nil), ".")[2]
	var attacks []attack

	for _, kid := range []string{"ES256", "RS256"} {
		for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", " none", "\tnone", "none\u0000", "nоne", "n\u200bone", "null", "undefined"} {
			input := b64([]byte(marshal(map[string]string{"alg": none, "kid": kid}))) + "." + claims + "."
			attacks = append(attacks,
				attack{fmt.Sprintf("%s alg %q unsigned", kid, none), input, emptyPart},
				attack{fmt.Sprintf("%s alg %q with a signature", kid, none), input + goodSignature, wrongAlg})
		}
	}

	for kid, signer := range signers() {
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		require.NoError(t, err)
		jwk := publicJWK(signer.Public())
		secrets := map[string][]byte{
			"DER": der,
			"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
			"JWK": []byte(marshal(jwk)),
			"kid": []byte(kid),
			"nil": nil,
		}
		if n, ok := jwk["n"].(string); ok {
			secrets["modulus"] = []byte(n)
		}
		for what, secret := range secrets {
			for _, alg := range []string{"HS256", kid} {
				input := b64([]byte(marshal(map[string]string{"alg": alg, "kid": kid}))) + "." + claims
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(input))
				want := wrongAlg
				if alg == kid {
					want = badSig
				}
				attacks = append(attacks, attack{fmt.Sprintf("HMAC with the %s of %s, alg %s", what, kid, alg), input + "." + b64(mac.Sum(nil)), want})
			}
		}
	}

	// The attacker's own key, offered in every way RFC 7515 has.
	mine, err := ecdsa.GenerateKey(signers()["ES256"].(*ecdsa.PrivateKey).Curve, rand.Reader)
	require.NoError(t, err)
	for name, header := range map[string]map[string]any{
		"plain":    {},
		"jwk":      {"jwk": publicJWK(mine.Public())},
		"jku":      {"jku": "https://evil.example/keys"},
		"x5u":      {"x5u": "https://evil.example/cert"},
		"x5c":      {"x5c": []string{"MIIB"}},
		"jwk typo": {"jwk": "yes"},
	} {
		header["alg"], header["kid"] = "ES256", "ES256"
		input := b64([]byte(marshal(header))) + "." + claims
		signature, err := jwt.SigningMethodES256.Sign(input, mine)
		require.NoError(t, err)
		attacks = append(attacks,
			attack{"own key: " + name, input + "." + b64(signature), badSig},
			attack{"issuer's key, beside " + name, signInput(input), allowed})
	}
	check(t, attacks)
}

func TestAttackSignature(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	good := mint("ES256", goodClaims(), nil)
	other := mint("ES256", withClaim("sub", "fed:mallory"), nil)
	parts, otherParts := strings.Split(good, "."), strings.Split(other, ".")
	input := parts[0] + "." + parts[1] + "."
	raw, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(input[:len(input)-1]))
	der, err := signers()["ES256"].Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	flipped := append([]byte(nil), raw...)
	flipped[40] ^= 1

	var attacks []attack
	for name, signature := range map[string][]byte{
		"psychic: all zeros": make([]byte, 64), // CVE-2022-21449
		"zeros, wrong size":  make([]byte, 96),
		"DER":                der,
		"cut":                raw[:63],
		"one byte":           raw[:1],
		"only r":             raw[:32],
		"r and zero s":       append(append([]byte(nil), raw[:32]...), make([]byte, 32)...),
		"one byte more":      append(append([]byte(nil), raw...), 0),
		"one bit":            flipped,
		"twice":              append(append([]byte(nil), raw...), raw...),
	} {
		attacks = append(attacks, attack{name, input + b64(signature), badSig})
	}
	attacks = append(attacks,
		attack{"good", good, allowed},
		attack{"other claims", parts[0] + "." + otherParts[1] + "." + parts[2], badSig},
		attack{"other signature", input + otherParts[2], badSig},
		attack{"no signature", input, emptyPart},
	)
	check(t, attacks)
}

func TestAttackSerialization(t *testing.T) {
	t.Parallel()
	b64 := base64.RawURLEncoding.EncodeToString
	good := mint("ES256", goodClaims(), nil)
	parts := strings.Split(good, ".")
	header, claims, signature := parts[0], parts[1], parts[2]
	// A 64 byte signature leaves four unused bits in its last character.
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, signature[len(signature)-1])
	trailing := signature[:len(signature)-1] + alphabet[last+1:last+2]
	// A header whose base64 needs '-' or '_', to write with '+' and '/'.
	std := func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s) }
	special := b64([]byte(`{"alg":"ES256","kid":"ES256","x":"??>>~~"}`))
	require.NotEqual(t, special, std(special))
	padded := func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) }
	long := mint("ES256", withClaim("pad", strings.Repeat("x", 5700)), nil)
	require.Less(t, len(long), MaxToken)
	tooLongToken := mint("ES256", withClaim("pad", strings.Repeat("x", 6500)), nil)
	require.Greater(t, len(tooLongToken), MaxToken)
	jsonJWS := marshal(map[string]string{"protected": header, "payload": claims, "signature": signature})

	check(t, []attack{
		{"good", good, allowed},
		{"long", long, allowed},
		{"too long", tooLongToken, tooLong},
		{"far too long", strings.Repeat("a", 1<<20), tooLong},
		{"one part", header, notThree},
		{"two parts", header + "." + claims, notThree},
		{"four parts", good + "." + signature, notThree},
		{"dot behind", good + ".", notThree},
		{"dot in front", "." + good, notThree},
		{"JWE, five parts", header + ".." + claims + "." + claims + "." + signature, notThree},
		{"dots", "..", emptyPart},
		{"many dots", strings.Repeat(".", 8000), notThree},
		{"no header", "." + claims + "." + signature, emptyPart},
		{"no claims", header + ".." + signature, emptyPart},
		{"claims empty but signed", signInput(header + "."), emptyPart},
		{"signature with trailing bits", header + "." + claims + "." + trailing, notBase64},
		{"signature padded", header + "." + claims + "." + signature + "==", notBase64},
		{"all parts padded and signed", signInput(padded(header) + "." + padded(b64([]byte(marshal(goodClaims())+" ")))), notBase64},
		{"standard alphabet, signed", signInput(std(special) + "." + claims), notBase64},
		{"URL alphabet", signInput(special + "." + claims), allowed},
		{"four characters of padding", good + "====", notBase64},
		{"only padding", "====", notThree},
		{"a single character of base64", header + "." + claims + ".A", notBase64},
		{"tilde", header + "." + claims + "." + signature[:40] + "~" + signature[41:], notBase64},
		{"line end inside", header + ".\n" + claims + "." + signature, notBase64},
		{"CR inside", header + "." + claims + "\r." + signature, notBase64},
		{"line end behind", good + "\n", notBase64},
		{"space behind", good + " ", notBase64},
		{"tab behind", good + "\t", notBase64},
		{"NUL behind", good + "\x00", notBase64},
		{"quoted", `"` + good + `"`, notBase64},
		{"percent encoded", strings.ReplaceAll(good, ".", "%2E"), notThree},
		{"non-ASCII", good + "é", notBase64},
		{"JWS JSON serialization", jsonJWS, notThree},
		{"JWS JSON in base64", b64([]byte(jsonJWS)), notThree},
		{"base64 of the token", b64([]byte(good)), notThree},
		{"comma, a second token", good + ",Bearer " + good, notThree},
		{"parameter", `token="` + good + `"`, notBase64},
	})

	_, err := ParseToken(t.Context(), keySet(), []byte(tooLongToken), expect())
	require.EqualError(t, err, tooLong)
	_, err = UnverifiedIssuer([]byte(tooLongToken))
	require.EqualError(t, err, tooLong)

	// The line ends that a header cannot carry, straight to the parser.
	for _, token := range []string{
		signInput(header[:4] + "\n" + header[4:] + "." + claims),
		signInput(header + "." + claims + "\r\n"),
		good + "\n", "\n" + good, header + ".\r" + claims + "." + signature,
	} {
		_, err := ParseToken(t.Context(), keySet(), []byte(token), expect())
		require.EqualError(t, err, notBase64)
		_, err = UnverifiedIssuer([]byte(token))
		require.EqualError(t, err, notBase64)
	}
}

func TestAttackClaims(t *testing.T) {
	t.Parallel()
	var attacks []attack
	n := now.Unix()
	for _, a := range []struct {
		claim string
		json  string // empty = left out
		want  string
	}{
		{"iss", ``, wrongIss},
		{"iss", `null`, wrongIss},
		{"iss", `""`, wrongIss},
		{"iss", `["` + issuer + `"]`, wrongIss},
		{"iss", `"` + issuer + `/"`, wrongIss},
		{"iss", `"https://GW.example.com"`, wrongIss},
		{"iss", `"http://gw.example.com"`, wrongIss},
		{"iss", `"https://gw.example.com.evil.example"`, wrongIss},
		{"iss", `"https://gw.example.com\u0000"`, wrongIss},
		{"iss", `" https://gw.example.com"`, wrongIss},
		{"iss", `"https://gw.example.c\u043em"`, wrongIss},
		{"iss", `"*"`, wrongIss},
		{"iss", `"https:\/\/gw.example.com"`, allowed},

		{"aud", ``, badAud},
		{"aud", `null`, badAud},
		{"aud", `1`, badAud},
		{"aud", `{"0":"` + issuer + `"}`, badAud},
		{"aud", `["` + issuer + `",1]`, badAud},
		{"aud", `[["` + issuer + `"]]`, badAud},
		{"aud", `[null]`, badAud},
		{"aud", `""`, wrongAud},
		{"aud", `[]`, wrongAud},
		{"aud", `[""]`, wrongAud},
		{"aud", `"openfaas"`, wrongAud},
		{"aud", `"*"`, wrongAud},
		{"aud", `"HTTPS://gw.example.com"`, wrongAud},
		{"aud", `"` + issuer + ` other"`, wrongAud},
		{"aud", `["` + issuer + `"]`, allowed},
		{"aud", `["other","` + issuer + `"]`, allowed},
		{"aud", `["` + issuer + `","` + issuer + `"]`, allowed},

		{"exp", ``, badExp},
		{"exp", `null`, badExp},
		{"exp", fmt.Sprintf(`"%d"`, n+60), badExp},
		{"exp", `true`, badExp},
		{"exp", fmt.Sprintf(`[%d]`, n+60), badExp},
		{"exp", `-1`, badExp},
		{"exp", `-0.5`, badExp},
		{"exp", `253402300800`, badExp},
		{"exp", `9223372036854775808`, badExp},
		{"exp", `1e12`, badExp},
		{"exp", `1e400`, badExp},
		{"exp", `-1e400`, badExp},
		{"exp", fmt.Sprint(n * 1000), badExp}, // milliseconds
		{"exp", strings.Repeat("9", 400), badExp},
		{"exp", `0`, expired},
		{"exp", `-0`, expired},
		{"exp", `1e-400`, expired},
		{"exp", fmt.Sprint(n - 3600), expired},
		{"exp", fmt.Sprint(n - 1), expired},
		{"exp", fmt.Sprintf("%d.0", n-1), expired},
		{"exp", fmt.Sprintf("%d.5", n-1), allowed}, // within the leeway
		{"exp", fmt.Sprint(n), allowed},
		{"exp", fmt.Sprintf("%d.25", n+60), allowed},
		{"exp", `1.9e9`, allowed},
		{"exp", `253402300799`, allowed},

		{"iat", ``, badIat},
		{"iat", `null`, badIat},
		{"iat", fmt.Sprintf(`"%d"`, n), badIat},
		{"iat", `-1`, badIat},
		{"iat", `1e999`, badIat},
		{"iat", fmt.Sprint(n + 2), future},
		{"iat", fmt.Sprintf("%d.5", n+1), future},
		{"iat", fmt.Sprint(n * 2), future},
		{"iat", fmt.Sprint(n + 1), allowed},
		{"iat", fmt.Sprintf("%d.9", n), allowed},
		{"iat", `0`, allowed},

		{"nbf", `null`, badNbf},
		{"nbf", `"0"`, badNbf},
		{"nbf", `-1`, badNbf},
		{"nbf", `1e400`, badNbf},
		{"nbf", `{}`, badNbf},
		{"nbf", fmt.Sprint(n + 2), tooEarly},
		{"nbf", `253402300799`, tooEarly},
		{"nbf", fmt.Sprint(n + 1), allowed},
		{"nbf", `0`, allowed},

		{"function", ``, noFunction},
		{"function", `null`, noFunction},
		{"function", `[]`, noFunction},
		{"function", `"openfaas-fn:env"`, noFunction},
		{"function", `true`, noFunction},
		{"Function", `{"permissions":["*"]}`, allowed}, // another claim
		{"function", `{}`, badPerms},
		{"function", `{"permissions":null}`, badPerms},
		{"function", `{"permissions":"*"}`, badPerms},
		{"function", `{"permissions":[1]}`, badPerms},
		{"function", `{"permissions":["*",null]}`, badPerms},
		{"function", `{"permissions":{"0":"*"}}`, badPerms},
		{"function", `{"permissions":[["*"]]}`, badPerms},
		{"function", `{"Permissions":["*"]}`, badPerms},
		{"function", `{"permissions":["*"],"audience":null}`, badFnAud},
		{"function", `{"permissions":["*"],"audience":"*"}`, badFnAud},
		{"function", `{"permissions":["*"],"audience":[1]}`, badFnAud},
		{"function", `{"permissions":["*"],"audience":{}}`, badFnAud},
		{"function", `{"permissions":["*"],"permissions":[]}`, twice},
		{"function", `{"permissions":[]}`, forbidden},
		{"function", `{"permissions":["*"],"Audience":["openfaas-fn:other"]}`, allowed},
		{"sub", `"\udfff"`, halfPair},
		{"sub", ``, allowed},
	} {
		c := withClaim(a.claim, nil)
		payload := marshal(c)
		if a.json != "" {
			payload = payload[:len(payload)-1] + `,"` + a.claim + `":` + a.json + `}`
		}
		attacks = append(attacks, attack{a.claim + " " + a.json, assemble(`{"alg":"ES256","kid":"ES256"}`, payload), a.want})
	}

	// What golang-jwt's payload cannot be made to say.
	good := marshal(goodClaims())
	for _, a := range []struct{ name, payload, want string }{
		{"as it is", good, allowed},
		{"exp twice", good[:len(good)-1] + `,"exp":253402300799}`, twice},
		{"iss twice, the same", good[:len(good)-1] + `,"iss":"` + issuer + `"}`, twice},
		{"function twice, one escaped", good[:len(good)-1] + `,"funct\u0069on":{"permissions":["*"]}}`, twice},
		{"claims in capitals", strings.NewReplacer(`"iss"`, `"ISS"`).Replace(good), wrongIss},
		{"Exp", strings.NewReplacer(`"exp"`, `"Exp"`).Replace(good), badExp},
		{"array", `[` + good + `]`, notObject},
		{"null", `null`, notObject},
		{"text", `hello`, notJSON},
		{"two objects", good + good, notJSON},
		{"binary", "\x00\xff", notUTF8},
		{"deflated", "\x4b\xcb\xcf\x07\x00", notUTF8},
		{"a token in the token", mint("ES256", goodClaims(), nil), notJSON},
		{"leading zero", strings.Replace(good, `"exp":1`, `"exp":01`, 1), notJSON},
		{"hexadecimal", strings.Replace(good, `"exp":1`, `"exp":0x1`, 1), notJSON},
		{"plus sign", strings.Replace(good, `"exp":1`, `"exp":+1`, 1), notJSON},
		{"Infinity", strings.Replace(good, `"exp":1`, `"exp":Infinity,"x":1`, 1), notJSON},
	} {
		attacks = append(attacks, attack{"payload: " + a.name, assemble(`{"alg":"ES256","kid":"ES256"}`, a.payload), a.want})
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
	for _, c := range []struct{ permissions, audience, want string }{
		{"openfaas-fn:env", "", allowed},
		{"openfaas-fn:*", "", allowed},
		{"*", "", allowed},
		{"dev:*,openfaas-fn:env", "", allowed},
		{"*", "openfaas-fn:env", allowed},
		{"*", "dev:env,openfaas-fn:*", allowed},
		{"openfaas-fn:env", "*", allowed},

		// Anchored at both ends; upstream's older releases were not.
		{"openfaas-fn:e", "", forbidden},
		{"openfaas-fn:en", "", forbidden},
		{"openfaas-fn:nv", "", forbidden},
		{"fn:env", "", forbidden},
		{"faas-fn:en", "", forbidden},
		{":env", "", forbidden},
		{"env", "", forbidden},
		{"openfaas-fn:", "", forbidden},
		{"openfaas-fn:env2", "", forbidden},
		{"openfaas-fn:envoy", "", forbidden},
		{"xopenfaas-fn:env", "", forbidden},
		{"openfaas-fn", "", forbidden},
		{"*", "openfaas-fn:e", forbidden},
		{"*", "fn:env", forbidden},

		{"dev:env", "", forbidden},
		{"dev:*", "", forbidden},
		{"openfaas-fn:other", "", forbidden},
		{"*", "openfaas-fn:other", forbidden},
		{"*", "dev:*", forbidden},
		{"openfaas-fn:env", "dev:env,dev:other", forbidden},
		{"openfaas-fn:other", "openfaas-fn:env", forbidden}, // audience never adds
		{"dev:*", "*", forbidden},

		// Patterns are not regular expressions, nor globs of another kind.
		{".*", "", forbidden},
		{"openfaas-fn:.*", "", forbidden},
		{"openfaas.fn:env", "", forbidden},
		{"openfaas-fn:e?v", "", forbidden},
		{"openfaas-fn:[e]nv", "", forbidden},
		{"^openfaas-fn:env$", "", forbidden},
		{"openfaas-fn:env|x", "", forbidden},
		{"openfaas-fn:{env}", "", forbidden},
		{"!dev:env", "", forbidden},
		{"%", "", forbidden},

		// Case, look-alikes, invisible and control characters.
		{"openfaas-fn:ENV", "", forbidden},
		{"OpenFaaS-fn:env", "", forbidden},
		{"openfaas-fn:еnv", "", forbidden}, // Cyrillic
		{"openfaas-fn：env", "", forbidden}, // full-width colon
		{"＊", "", forbidden},               // full-width asterisk
		{"openfaas-fn:e\u200bnv", "", forbidden},
		{"openfaas-fn:env\u0000", "", forbidden},
		{"openfaas-fn:env\n", "", forbidden},
		{" openfaas-fn:env", "", forbidden},
		{"openfaas-fn:env ", "", forbidden},
		{"* ", "", forbidden},
		{"openfaas\u2010fn:env", "", forbidden},

		// Malformed patterns match nothing, not even in audience.
		{"**:env:x", "", forbidden},
		{"openfaas-fn:env:x", "", forbidden},
		{"openfaas-fn/env", "", forbidden},
		{"env.openfaas-fn", "", forbidden},
		{"*", "env", forbidden},
		{"*", "openfaas-fn:env:", forbidden},
		{"*", "openfaas-fn:env\t", forbidden},
	} {
		function := map[string]any{"permissions": list(c.permissions)}
		if c.audience != "" {
			function["audience"] = list(c.audience)
		}
		attacks = append(attacks, attack{c.permissions + " for " + c.audience, mint("ES256", withClaim("function", function), nil), c.want})
	}
	for name, c := range map[string]struct {
		function string
		want     string
	}{
		"empty permission":     {`{"permissions":[""]}`, forbidden},
		"empty audience list":  {`{"permissions":["*"],"audience":[]}`, allowed},
		"empty audience entry": {`{"permissions":["*"],"audience":[""]}`, forbidden},
		"escaped":              {`{"permissions":["openfaas-fn\u003aenv"]}`, allowed},
		"unknown entries":      {`{"permissions":["*"],"more":{"x":1}}`, allowed},
	} {
		payload := marshal(withClaim("function", nil))
		attacks = append(attacks, attack{name, assemble(`{"alg":"ES256","kid":"ES256"}`, payload[:len(payload)-1]+`,"function":`+c.function+`}`), c.want})
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
		want   string
	}{
		{"Bearer", []string{"Bearer " + good}, allowed},
		{"bearer", []string{"bearer " + good}, allowed},
		{"BEARER", []string{"BEARER " + good}, allowed},
		{"no header", nil, noBearer},
		{"empty", []string{""}, noBearer},
		{"scheme alone", []string{"Bearer"}, noBearer},
		{"scheme and space", []string{"Bearer "}, noBearer},
		{"no scheme", []string{good}, noBearer},
		{"Basic", []string{"Basic YWRtaW46YWRtaW4="}, noBearer},
		{"token under Basic", []string{"Basic " + good}, noBearer},
		{"token under DPoP", []string{"DPoP " + good}, noBearer},
		{"longer scheme", []string{"BearerX " + good}, noBearer},
		{"shorter scheme", []string{"Beare " + good}, noBearer},
		{"look-alike scheme", []string{"Bеarer " + good}, noBearer},
		{"space in front", []string{" Bearer " + good}, noBearer},
		{"tab for space", []string{"Bearer\t" + good}, noBearer},
		{"no space", []string{"Bearer" + good}, noBearer},
		{"colon", []string{"Bearer: " + good}, noBearer},
		{"two spaces", []string{"Bearer  " + good}, notBase64},
		{"space and tab", []string{"Bearer \t" + good}, notBase64},
		{"two schemes", []string{"Bearer Bearer " + good}, notBase64},
		{"a parameter behind", []string{"Bearer " + good + ", realm=x"}, notBase64},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, several},
		{"Basic, then Bearer", []string{"Basic YTpi", "Bearer " + good}, several},
		{"Bearer, then empty", []string{"Bearer " + good, ""}, several},
		{"two empty ones", []string{"", ""}, several},
		{"not a token", []string{"Bearer undefined"}, notThree},
	} {
		values := make([][]byte, len(c.values))
		for i, s := range c.values {
			values[i] = []byte(s)
		}
		err := verify(t.Context(), v, values...)
		if c.want == allowed {
			require.NoError(t, err, c.name)
			continue
		}
		require.EqualError(t, err, c.want, c.name)
		requireStatus(t, err)
	}
}
