package auth

import (
	"fmt"
	"strings"
	"testing"

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
	tooMany    = prefix + "the header or the claims have too many values"
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
	backwards  = prefix + "exp is before iat"
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

// reasons are all of them. A refusal says one of these and nothing else, so it
// cannot hold anything of a token.
var reasons = []string{
	noBearer, several, tooLong, notThree, emptyPart, notBase64, notUTF8, notJSON, notObject, tooDeep, tooMany, twice, halfPair,
	noKid, noAlg, wrongAlg, unknownKid, extension, nested, wrongTyp, badSig, wrongIss, badAud, wrongAud,
	badExp, expired, badIat, future, backwards, badNbf, tooEarly, noFunction, badPerms, badFnAud, forbidden,
}

// attack is a token, signed by the issuer unless the attack is about the
// signature, so that only what its name says can be what refuses it.
type attack struct {
	name   string
	token  string
	status int
	want   string // the error; allowed = none
}

// check runs each attack twice, since a verdict is cached.
func check(t *testing.T, attacks []attack) {
	t.Helper()
	v := newVerifier(t, nil)
	t.Logf("%d cases", len(attacks))
	names := map[string]bool{}
	for _, a := range attacks {
		require.False(t, names[a.name], "two attacks named %q", a.name)
		names[a.name] = true
		for range 2 {
			err := verify(t.Context(), v, []byte("Bearer "+a.token))
			requireAnswer(t, a.name, err, a.status, a.want)
			requireNoEcho(t, a.name, err, a.token)
		}
	}
}

// requireAnswer compares what Verify said with the error wanted and the status
// it becomes.
func requireAnswer(t *testing.T, name string, err error, status int, want string) {
	t.Helper()
	require.Equal(t, status, Status(err), "%s: %v", name, err)
	if want == allowed {
		require.NoError(t, err, name)
		return
	}
	require.EqualError(t, err, want, name)
	switch want {
	case forbidden:
		require.ErrorIs(t, err, ErrForbidden, name)
	case noBearer:
		require.ErrorIs(t, err, ErrNoBearer, name)
	default:
		require.ErrorIs(t, err, ErrInvalidToken, name)
	}
}

// requireNoEcho looks for eight bytes in a row of a token in the whole answer.
// That nothing of its decoded parts is in there either follows from the text,
// which is one of reasons.
func requireNoEcho(t testing.TB, name string, err error, token string) {
	t.Helper()
	_, header, body := Refusal(err)
	answer := fmt.Sprint(header, body)
	for i := range len(token) - 7 {
		if strings.Contains(answer, token[i:i+8]) {
			t.Fatalf("%s: the answer %q holds %q of the token", name, answer, token[i:i+8])
		}
	}
}
