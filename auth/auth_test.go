package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/jwks"
)

func expect() Expect {
	return Expect{Issuer: issuer, Audience: []string{issuer}, Now: func() time.Time { return now }}
}

func TestGoodTokensOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	v := newVerifier(t, nil)
	for alg := range signers() {
		token := mint(alg, goodClaims(), nil)
		require.NoError(t, verify(t.Context(), v, []byte("Bearer "+token)), alg)
		claims, err := ParseToken(t.Context(), keySet(), []byte(token), expect())
		require.NoError(t, err, alg)
		require.Equal(t, "fed:alice", claims["sub"])
		require.Equal(t, json.Number(fmt.Sprint(now.Unix()+3600)), claims["exp"])
		iss, err := UnverifiedIssuer([]byte(token))
		require.NoError(t, err)
		require.Equal(t, issuer, iss)

		// The same token under the name of every other key.
		for kid := range signers() {
			if kid == alg {
				continue
			}
			token := mint(alg, goodClaims(), map[string]any{"kid": kid})
			require.EqualError(t, verify(t.Context(), v, []byte("Bearer "+token)), wrongAlg)
			token = mint(alg, goodClaims(), map[string]any{"kid": kid, "alg": kid})
			require.EqualError(t, verify(t.Context(), v, []byte("Bearer "+token)), badSig, "%s as %s", alg, kid)
		}
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	token := []byte(mint("ES256", withClaim("aud", []string{"a", "b"}), nil))
	for name, c := range map[string]struct {
		change func(*Expect)
		want   string
	}{
		"one of several":  {func(x *Expect) { x.Audience = []string{"c", "b"} }, allowed},
		"none of several": {func(x *Expect) { x.Audience = []string{"c", "d"} }, wrongAud},
		"no audience":     {func(x *Expect) { x.Audience = nil }, wrongAud},
		"empty audience":  {func(x *Expect) { x.Audience = []string{""} }, wrongAud},
		"no issuer":       {func(x *Expect) { x.Issuer = "" }, wrongIss},
		"other issuer":    {func(x *Expect) { x.Issuer = "https://other" }, wrongIss},
		"later":           {func(x *Expect) { x.Now = func() time.Time { return now.Add(time.Hour) } }, allowed},
		"too late":        {func(x *Expect) { x.Now = func() time.Time { return now.Add(time.Hour + time.Second) } }, expired},
		"late with leeway": {func(x *Expect) {
			x.Now = func() time.Time { return now.Add(2 * time.Hour) }
			x.Leeway = 61 * time.Minute
		}, allowed},
		"by the real clock": {func(x *Expect) { x.Now = nil; x.Leeway = 100 * 365 * 24 * time.Hour }, allowed},
	} {
		x := expect()
		x.Audience = []string{"b"}
		c.change(&x)
		claims, err := ParseToken(t.Context(), keySet(), token, x)
		if c.want == allowed {
			require.NoError(t, err, name)
			require.NotNil(t, claims)
		} else {
			require.EqualError(t, err, c.want, name)
			require.Nil(t, claims)
		}
	}
	// Nothing in the token does not meet the expectation of nothing.
	x := expect()
	x.Issuer = ""
	_, err := ParseToken(t.Context(), keySet(), []byte(mint("ES256", withClaim("iss", ""), nil)), x)
	require.EqualError(t, err, wrongIss)
	x = expect()
	x.Audience = []string{""}
	_, err = ParseToken(t.Context(), keySet(), []byte(mint("ES256", withClaim("aud", ""), nil)), x)
	require.EqualError(t, err, wrongAud)
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	empty := jwks.NewStatic(issuer, nil)
	v := newVerifier(t, func(c *Config) { c.Keys = empty })
	err := verify(t.Context(), v, []byte("Bearer "+mint("ES256", goodClaims(), nil)))
	require.ErrorIs(t, err, ErrUnavailable)
	require.Equal(t, http.StatusServiceUnavailable, Status(err))
	_, err = ParseToken(t.Context(), empty, []byte(mint("ES256", goodClaims(), nil)), expect())
	require.ErrorIs(t, err, ErrUnavailable)
	// What is no token needs no key to be refused.
	require.EqualError(t, verify(t.Context(), v, []byte("Bearer x")), notThree)
	require.ErrorIs(t, verify(t.Context(), v), ErrNoBearer)
}

func TestStatus(t *testing.T) {
	t.Parallel()
	require.Equal(t, 200, Status(nil))
	require.Equal(t, 401, Status(ErrNoBearer))
	require.Equal(t, 401, Status(refused("x")))
	require.Equal(t, 403, Status(fmt.Errorf("x: %w", ErrForbidden)))
	require.Equal(t, 503, Status(fmt.Errorf("x: %w", ErrUnavailable)))
	require.Equal(t, 401, Status(errors.New("something else")))
}

// Byte for byte: faas-cli compares the realm, queue workers look for
// X-OpenFaaS-Internal.
func TestRefusal(t *testing.T) {
	t.Parallel()
	text := [2]string{"Content-Type", "text/plain; charset=utf-8"}
	challenge := [2]string{"WWW-Authenticate", "Bearer realm=IAM function invoke"}
	middleware := [2]string{"X-OpenFaaS-Internal", "faas-middleware"}
	for name, c := range map[string]struct {
		err    error
		status int
		header [][2]string
		body   string
	}{
		"no bearer":   {ErrNoBearer, 401, [][2]string{text, challenge, middleware}, "Bearer must be present in Authorization header\n"},
		"bad token":   {refused("x"), 401, [][2]string{text, challenge, middleware}, "failed to parse JWT token: x\n"},
		"forbidden":   {ErrForbidden, 403, [][2]string{text, middleware}, "insufficient permissions\n"},
		"unavailable": {ErrUnavailable, 503, [][2]string{text, {"Retry-After", "1"}, {"X-OpenFaaS-Internal", "of-watchdog"}}, "the issuer's keys are not available yet\n"},
		"none":        {nil, 200, nil, ""},
	} {
		status, header, body := Refusal(c.err)
		require.Equal(t, c.status, status, name)
		require.Equal(t, c.header, header, name)
		require.Equal(t, c.body, body, name)
	}
}

func TestUnverifiedIssuer(t *testing.T) {
	t.Parallel()
	header := `{"alg":"ES256","kid":"ES256"}`
	for payload, want := range map[string]string{
		`{"iss":"https://idp"}`: "https://idp",
		`{"iss":""}`:            "",
		`{"iss":1}`:             "",
		`{"ISS":"https://idp"}`: "",
		`{"iss":"https://idp","iss":"https://gw"}`: "",
		`{`:  "",
		`[]`: "",
	} {
		iss, err := UnverifiedIssuer([]byte(assemble(header, payload)))
		require.Equal(t, want, iss)
		if want == "" {
			require.ErrorIs(t, err, ErrInvalidToken)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestNewVerifierNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no keys":         {func(c *Config) { c.Keys = nil }, "Keys"},
		"no name":         {func(c *Config) { c.Name = "" }, `function ""`},
		"no namespace":    {func(c *Config) { c.Namespace = "" }, `namespace ""`},
		"wildcard name":   {func(c *Config) { c.Name = "*" }, `function "*"`},
		"colon in name":   {func(c *Config) { c.Namespace = "a:b" }, `"a:b"`},
		"negative leeway": {func(c *Config) { c.Leeway = -1 }, "leeway -1ns"},
		"long leeway":     {func(c *Config) { c.Leeway = time.Minute + 1 }, "between 0 and 1m0s"},
		"negative cache":  {func(c *Config) { c.CacheSize = -1 }, "cache size -1"},
	} {
		config := Config{Keys: keySet(), Namespace: "openfaas-fn", Name: "env"}
		c.change(&config)
		_, err := NewVerifier(config)
		require.ErrorContains(t, err, c.want, name)
	}
}

// Whatever we accept, an independent and strictly configured implementation
// accepts too, and reads the same claims in it.
func FuzzParseToken(f *testing.F) {
	good := marshal(goodClaims())
	header := `{"alg":"ES256","kid":"ES256","typ":"JWT"}`
	f.Add(header, good)
	f.Add(`{"alg":"none","kid":"ES256"}`, good)
	f.Add(`{"alg":"ES256","kid":"ES256","crit":["x"]}`, good)
	f.Add(header, good[:len(good)-1]+`,"exp":1}`)
	f.Add(header, strings.Replace(good, `"aud":"`+issuer+`"`, `"aud":["x","`+issuer+`"]`, 1))
	f.Add(header, `{"iss":"`+issuer+`","aud":"`+issuer+`","exp":1.9e9,"iat":0.5,"nbf":0,"x":"\ud83d\ude00"}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		token := assemble(header, payload)
		claims, err := ParseToken(context.Background(), keySet(), []byte(token), expect())
		if err != nil {
			if !errors.Is(err, ErrInvalidToken) || !slices.Contains(reasons, err.Error()) {
				t.Fatalf("not refused as a token, with one of our reasons: %v", err)
			}
			return
		}
		theirs := jwt.MapClaims{}
		_, err = jwt.ParseWithClaims(token, theirs,
			func(*jwt.Token) (any, error) { return signers()["ES256"].Public(), nil },
			jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithAudience(issuer),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(2*time.Second),
			jwt.WithTimeFunc(func() time.Time { return now }), jwt.WithStrictDecoding(), jwt.WithJSONNumber())
		if err != nil {
			t.Fatalf("golang-jwt refuses what we accept: %v", err)
		}
		if !reflect.DeepEqual(map[string]any(claims), map[string]any(theirs)) {
			t.Fatalf("we read %v, golang-jwt %v", claims, theirs)
		}
	})
}

// Nothing that arrives as a token may crash, or be accepted unless it is the
// one that was signed, and no refusal says anything of what was sent.
func FuzzVerify(f *testing.F) {
	good := "Bearer " + mint("ES256", goodClaims(), nil)
	f.Add([]byte(good))
	f.Add([]byte(strings.ToUpper(good[:6]) + good[6:]))
	f.Add([]byte(good + "="))
	f.Add([]byte("Bearer a.b.c"))
	f.Add([]byte("Basic YTpi"))
	f.Add([]byte("Bearer eyJhbGciOiJub25lIn0.e30."))
	v := newVerifier(f, nil)
	f.Fuzz(func(t *testing.T, authorization []byte) {
		err := verify(context.Background(), v, authorization)
		switch {
		case err == nil:
			if string(authorization[7:]) != good[7:] || !strings.EqualFold(string(authorization[:7]), "Bearer ") {
				t.Fatalf("accepted %q", authorization)
			}
		case !errors.Is(err, ErrNoBearer) && !errors.Is(err, ErrInvalidToken):
			t.Fatalf("unexpected error %v", err)
		case !slices.Contains(reasons, err.Error()): // which hold nothing of a token
			t.Fatalf("not one of our reasons: %v", err)
		}
		if _, err := UnverifiedIssuer(authorization); err != nil && !(errors.Is(err, ErrInvalidToken) &&
			slices.Contains(append(reasons, prefix+"iss is missing or not a string"), err.Error())) {
			t.Fatalf("unexpected error %v", err)
		}
	})
}

// What the strict decoder accepts, encoding/json reads the same way, and
// writing it again and reading that changes nothing.
func FuzzDecodeObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `{"a":[1,{"b":null}]}`, `{"a":"\ud800"}`, `[]`, `{"a":1e400}`, "{\"\xff\":1}", `{"a":{}} `, `{"\u0061":1,"a":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, err := decodeObject(data, maxClaimsValues)
		if err != nil {
			if !errors.Is(err, ErrInvalidToken) {
				t.Fatalf("not refused as a token: %v", err)
			}
			return
		}
		var theirs map[string]any
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		if err := d.Decode(&theirs); err != nil {
			t.Fatalf("encoding/json refuses what we accept: %v", err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("we read %v, encoding/json %v", ours, theirs)
		}
		again, err := decodeObject([]byte(marshal(ours)), maxClaimsValues)
		if err != nil || !reflect.DeepEqual(ours, again) {
			t.Fatalf("written again it reads %v, %v", again, err)
		}
	})
}

func FuzzBearer(f *testing.F) {
	for _, s := range []string{"Bearer a.b.c", "bearer  a", "Bearer", "Basic a", "Bearer a=", "Bearer =", "Bearer a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		token, err := Bearer(header)
		if err != nil {
			return
		}
		if len(token) == 0 || len(token) > MaxToken {
			t.Fatalf("token %q", token)
		}
		if _, err := parseCompact(token); err == nil && strings.ContainsAny(string(token), " \t\r\n\x00,=+/\"%") {
			t.Fatalf("token %q", token)
		}
		if len(header) != len("Bearer ")+len(token) || !strings.EqualFold(string(header[:7]), "Bearer ") {
			t.Fatalf("token %q of header %q", token, header)
		}
	})
}
