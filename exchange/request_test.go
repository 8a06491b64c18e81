package exchange

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	full := Request{
		GrantType: GrantType, SubjectToken: "a.b.c", SubjectTokenType: TokenTypeIDToken,
		Scope: "function", Audience: []string{"dev:env", "dev:*"},
	}
	// As Go's SDK and curl's --data-urlencode write it.
	encoded := "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=a.b.c" +
		"&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&scope=function&audience=dev%3Aenv&audience=dev%3A%2A"
	plain := "grant_type=" + GrantType + "&subject_token=a.b.c&subject_token_type=" + TokenTypeIDToken

	for name, c := range map[string]struct {
		body, query string
		want        Request
	}{
		"body":              {encoded, "", full},
		"query":             {"", encoded, full},
		"unencoded":         {plain, "", Request{GrantType: GrantType, SubjectToken: "a.b.c", SubjectTokenType: TokenTypeIDToken}},
		"both":              {"subject_token=a.b.c&audience=dev:env", "grant_type=x&audience=dev:*", Request{GrantType: "x", SubjectToken: "a.b.c", Audience: []string{"dev:env", "dev:*"}}},
		"empty":             {"", "", Request{}},
		"separators only":   {"&&", "&", Request{}},
		"empty is absent":   {"scope=&scope=function&audience=&grant_type", "scope=&resource=", Request{Scope: "function"}},
		"unknown":           {"client_id=x&client_id=y&Scope=z&=q", "audience[]=1", Request{}},
		"requested type":    {"requested_token_type=x", "", Request{RequestedTokenType: "x"}},
		"plus is a space":   {"scope=a+b", "", Request{Scope: "a b"}},
		"equals in a value": {"subject_token=a=b==", "", Request{SubjectToken: "a=b=="}},
		"encoded name":      {"s%63ope=x", "", Request{Scope: "x"}},
		"encoded semicolon": {"scope=a%3Bb", "", Request{Scope: "a;b"}},
		"largest token":     {"subject_token=" + strings.Repeat("x", maxSubject), "", Request{SubjectToken: strings.Repeat("x", maxSubject)}},
		"full audience":     {strings.Repeat("audience=*&", maxAudience), "", Request{Audience: strings.Split(strings.Repeat("*", maxAudience), "")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := ParseRequest(c.body, c.query)
			require.NoError(t, err)
			require.Equal(t, c.want, r)
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body, query string
		code, want  string
	}{
		"twice in the body":    {"scope=a&scope=b", "", InvalidRequest, "parameter 'scope' is given more than once"},
		"twice, the same":      {"", "scope=a&scope=a", InvalidRequest, "parameter 'scope' is given more than once"},
		"in body and query":    {"subject_token=a", "subject_token=b", InvalidRequest, "parameter 'subject_token' is given more than once"},
		"grant type twice":     {"grant_type=a&grant_type=b", "", InvalidRequest, "'grant_type'"},
		"type twice":           {"subject_token_type=a&subject_token_type=b", "", InvalidRequest, "'subject_token_type'"},
		"requested type twice": {"requested_token_type=a&requested_token_type=b", "", InvalidRequest, "'requested_token_type'"},
		"twice, encoded":       {"scope=a&%73cope=b", "", InvalidRequest, "'scope'"},
		"bad encoding":         {"scope=%zz", "", InvalidRequest, "parameter 'scope' has a bad percent-encoding"},
		"cut encoding":         {"subject_token=hunter2%4", "", InvalidRequest, "parameter 'subject_token' has a bad percent-encoding"},
		"bad name":             {"sc%ope=x", "", InvalidRequest, "a parameter's name has a bad percent-encoding"},
		"bad encoding unknown": {"x=%", "", InvalidRequest, "parameter 'x' has"},
		"semicolon":            {"scope=a;audience=*", "", InvalidRequest, "semicolon"},
		"semicolon in query":   {"", "a=b;c=d", InvalidRequest, "semicolon"},
		"resource":             {"resource=https://x", "", InvalidTarget, "resource is not supported; name functions by audience"},
		"actor":                {"actor_token=x", "", InvalidRequest, "actor_token is not supported"},
		"actor type":           {"actor_token_type=x", "", InvalidRequest, "actor_token_type is not supported"},
		"token too large":      {"subject_token=" + strings.Repeat("x", maxSubject+1), "", InvalidRequest, "subject_token is larger than 8192 bytes"},
		"too many audiences":   {strings.Repeat("audience=*&", maxAudience), "audience=*", InvalidRequest, "more than 64 audience"},
		"too large":            {strings.Repeat("x", maxRequest), "y", InvalidRequest, "the request is larger than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := ParseRequest(c.body, c.query)
			requireRefused(t, err, c.code, c.want)
			require.Zero(t, r)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// FuzzParseRequest compares with net/url, which is laxer: whatever we accept it
// reads in the same way, and no value counted that was not the only one.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range [][2]string{
		{"grant_type=x&subject_token=a.b.c&audience=a%3Ab&audience=*", "scope=function"},
		{"scope=a;b", "%"}, {"=&&a==b", "audience=&audience=+"}, {"%73cope=1", "scope=2"}, {"resource=x", "\xff=\x00"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, body, query string) {
		r, err := ParseRequest(body, query)
		if err != nil {
			e, ok := err.(*Error)
			require.True(t, ok)
			requireRefused(t, err, e.Code, "")
			return
		}
		fromBody, err := url.ParseQuery(body)
		require.NoError(t, err)
		fromQuery, err := url.ParseQuery(query)
		require.NoError(t, err)
		values := func(name string) (given []string) {
			for _, v := range append(fromBody[name], fromQuery[name]...) {
				if v != "" {
					given = append(given, v)
				}
			}
			return given
		}
		for name, got := range map[string]string{
			"grant_type": r.GrantType, "subject_token": r.SubjectToken, "subject_token_type": r.SubjectTokenType,
			"requested_token_type": r.RequestedTokenType, "scope": r.Scope,
		} {
			want := values(name)
			require.LessOrEqual(t, len(want), 1)
			require.Equal(t, strings.Join(want, ""), got)
		}
		require.Equal(t, values("audience"), r.Audience)
		require.Empty(t, values("resource"))
		require.Empty(t, values("actor_token"))
	})
}
