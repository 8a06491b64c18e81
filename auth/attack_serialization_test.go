package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
		{"good", good, 200, allowed},
		{"long", long, 200, allowed},
		{"too long", tooLongToken, 401, tooLong},
		{"far too long", strings.Repeat("a", 1<<20), 401, tooLong},
		{"one part", header, 401, notThree},
		{"two parts", header + "." + claims, 401, notThree},
		{"four parts", good + "." + signature, 401, notThree},
		{"dot behind", good + ".", 401, notThree},
		{"dot in front", "." + good, 401, notThree},
		{"JWE, five parts", header + ".." + claims + "." + claims + "." + signature, 401, notThree},
		{"JWE, direct", b64([]byte(`{"alg":"dir","enc":"A256GCM","kid":"ES256"}`)) + "..AAAA.AAAA.AAAA", 401, notThree},
		{"JWE, RSA-OAEP", b64([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"RS256"}`)) + ".AAAA.AAAA.AAAA.AAAA", 401, notThree},
		{"JWE, PBES2 with endless rounds", b64([]byte(`{"alg":"PBES2-HS512+A256KW","p2c":2000000000,"p2s":"AA","enc":"A256GCM"}`)) + ".AAAA.AAAA.AAAA.AAAA", 401, notThree},
		{"JWE, JSON serialization", `{"protected":"` + header + `","ciphertext":"AA","iv":"AA","tag":"AA"}`, 401, notThree},
		{"detached payload", header + ".." + signature, 401, emptyPart},
		{"dots", "..", 401, emptyPart},
		{"many dots", strings.Repeat(".", 8000), 401, notThree},
		{"no header", "." + claims + "." + signature, 401, emptyPart},
		{"claims empty but signed", signInput(header + "."), 401, emptyPart},
		{"signature with trailing bits", header + "." + claims + "." + trailing, 401, notBase64},
		{"signature padded", header + "." + claims + "." + signature + "==", 401, notBase64},
		{"all parts padded and signed", signInput(padded(header) + "." + padded(b64([]byte(marshal(goodClaims())+" ")))), 401, notBase64},
		{"standard alphabet, signed", signInput(std(special) + "." + claims), 401, notBase64},
		{"URL alphabet", signInput(special + "." + claims), 200, allowed},
		{"four characters of padding", good + "====", 401, notBase64},
		{"only padding", "====", 401, notThree},
		{"a single character of base64", header + "." + claims + ".A", 401, notBase64},
		{"tilde", header + "." + claims + "." + signature[:40] + "~" + signature[41:], 401, notBase64},
		{"line end inside", header + ".\n" + claims + "." + signature, 401, notBase64},
		{"CR inside", header + "." + claims + "\r." + signature, 401, notBase64},
		{"line end behind", good + "\n", 401, notBase64},
		{"space behind", good + " ", 401, notBase64},
		{"tab behind", good + "\t", 401, notBase64},
		{"NUL behind", good + "\x00", 401, notBase64},
		{"quoted", `"` + good + `"`, 401, notBase64},
		{"percent encoded", strings.ReplaceAll(good, ".", "%2E"), 401, notThree},
		{"non-ASCII", good + "é", 401, notBase64},
		{"JWS JSON serialization", jsonJWS, 401, notThree},
		{"JWS JSON, general", `{"payload":"` + claims + `","signatures":[{"protected":"` + header + `","signature":"` + signature + `"}]}`, 401, notThree},
		{"JWS JSON around two dots", `{"a":".` + claims + `.` + signature + `"}`, 401, notBase64},
		{"JWS JSON, the token in it", `{"token":"` + good + `"}`, 401, notBase64},
		{"PASETO", "v4.public." + claims, 401, notBase64},
		{"macaroon", "MDAxY2xvY2F0aW9uIGh0dHA6Ly9teWJhbmsvCjAwMjZpZGVudGlmaWVyIA", 401, notThree},
		{"SD-JWT", good + "~WyJhIiwiYiIsImMiXQ~", 401, notBase64},
		{"byte order mark in front", "\ufeff" + good, 401, notBase64},
		{"JWS JSON in base64", b64([]byte(jsonJWS)), 401, notThree},
		{"base64 of the token", b64([]byte(good)), 401, notThree},
		{"comma, a second token", good + ",Bearer " + good, 401, notThree},
		{"parameter", `token="` + good + `"`, 401, notBase64},
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
