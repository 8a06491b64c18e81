package exchange

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/jwks"
)

// aliceMayInvoke trusts p and lets alice invoke resources.
func aliceMayInvoke(t testing.TB, p *provider, resources ...iam.Resource) *iam.Set {
	policy, role := invoke("invoke", "alice", resources...)
	return compile(t, iam.Objects{
		Issuers: []iam.JwtIssuer{p.trusted("idp", "2h")}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role},
	})
}

func TestAPIToken(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "dev:*"))

	res, err := g.exchange(t, p.token(t, map[string]any{
		"nbf": now.Unix() - 600, "jti": "theirs", "email_verified": true, "nonce": "17",
		"kubernetes.io": map[string]any{"namespace": "openfaas"}, "number": json.Number("12345678901234567890"),
	}), "")
	require.NoError(t, err)
	require.Equal(t, Response{
		AccessToken: res.AccessToken, IssuedTokenType: TokenTypeIDToken, TokenType: "Bearer", ExpiresIn: 7200,
	}, res)
	require.Equal(t, map[string]any{
		"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL, "policy": []any{"invoke"},
		"iat": float64(now.Unix()), "nbf": float64(now.Unix()), "exp": float64(now.Unix() + 7200),
		"groups": []any{"dev"}, "email_verified": true, "nonce": "17",
		"kubernetes.io": map[string]any{"namespace": "openfaas"}, "number": 12345678901234567890.0,
	}, g.claims(t, res.AccessToken))

	payload, err := jwt.NewParser().DecodeSegment(strings.Split(res.AccessToken, ".")[1])
	require.NoError(t, err)
	require.Contains(t, string(payload), `"number":12345678901234567890`, "a number loses digits")

	body, err := json.Marshal(res)
	require.NoError(t, err)
	require.JSONEq(t, `{"access_token":"`+res.AccessToken+`","issued_token_type":"urn:ietf:params:oauth:token-type:id_token","token_type":"Bearer","expires_in":7200}`, string(body))
}

func TestFunctionToken(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "openfaas-fn:*", "dev:env"))

	res, err := g.exchange(t, p.token(t, nil), "function", "openfaas-fn:env")
	require.NoError(t, err)
	require.Equal(t, "function", res.Scope)
	require.Equal(t, 7200, res.ExpiresIn)
	want := map[string]any{
		"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL,
		"iat": float64(now.Unix()), "nbf": float64(now.Unix()), "exp": float64(now.Unix() + 7200),
		"function": map[string]any{"permissions": []any{"openfaas-fn:*", "dev:env"}, "audience": []any{"openfaas-fn:env"}},
	}
	require.Equal(t, want, g.claims(t, res.AccessToken))

	res, err = g.exchange(t, p.token(t, nil), "function")
	require.NoError(t, err)
	delete(want["function"].(map[string]any), "audience")
	require.Equal(t, want, g.claims(t, res.AccessToken))
}

// TestSmuggledClaims gives the subject token every claim of ours, in spellings
// that some JSON decoder takes for it: encoding/json folds case, and Unicode's
// long s and Kelvin sign with it.
func TestSmuggledClaims(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "dev:env"))
	everything := map[string]any{"permissions": []string{"*"}}
	token := p.token(t, map[string]any{
		"function": everything, "Function": everything, "FUNCTION": everything, "functıon": "dotless i is no i",
		"policy": []string{"admin"}, "Policy": []string{"admin"}, "POLICY": []string{"admin"},
		"fed:iss": "https://evil", "Fed:Iss": "https://evil", "fed:iſs": "https://evil",
		"Iss": "https://evil", "iſſ": "https://evil", "AUD": "*", "Sub": "fed:root", "ſub": "fed:root",
		"EXP": 1 << 40, "Iat": 0, "NBF": 0, "Jti": "x", "jti": "theirs",
	})

	res, err := g.exchange(t, token, "")
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL, "policy": []any{"invoke"},
		"iat": float64(now.Unix()), "nbf": float64(now.Unix()), "exp": float64(now.Unix() + 7200),
		"groups": []any{"dev"}, "functıon": "dotless i is no i",
	}, g.claims(t, res.AccessToken))

	payload, err := jwt.NewParser().DecodeSegment(strings.Split(res.AccessToken, ".")[1])
	require.NoError(t, err)
	var careless struct {
		Function any      `json:"function"`
		Policy   []string `json:"policy"`
		Iss      string   `json:"iss"`
		Sub      string   `json:"sub"`
		FedIss   string   `json:"fed:iss"`
	}
	require.NoError(t, json.Unmarshal(payload, &careless))
	require.Nil(t, careless.Function)
	require.Equal(t, []string{"invoke"}, careless.Policy)
	require.Equal(t, []string{gatewayURL, "fed:alice", p.URL}, []string{careless.Iss, careless.Sub, careless.FedIss})

	res, err = g.exchange(t, token, "function")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"permissions": []any{"dev:env"}}, g.claims(t, res.AccessToken)["function"])
}

// TestAPITokenAsSubject goes ID token, API token, function token.
func TestAPITokenAsSubject(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	set := aliceMayInvoke(t, p, "dev:env")
	g := newGateway(t, set)
	api, err := g.exchange(t, p.token(t, nil), "")
	require.NoError(t, err)

	g.advance(time.Hour)
	res, err := g.exchange(t, api.AccessToken, "function", "dev:env", "*")
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL,
		"iat": float64(now.Unix() + 3600), "nbf": float64(now.Unix() + 3600), "exp": float64(now.Unix() + 7200),
		"function": map[string]any{"permissions": []any{"dev:env"}, "audience": []any{"dev:env", "*"}},
	}, g.claims(t, res.AccessToken), "one fed:, and no longer than the API token")
	require.Equal(t, 3600, res.ExpiresIn)

	g.advance(time.Hour - time.Second)
	res, err = g.exchange(t, api.AccessToken, "function")
	require.NoError(t, err)
	require.Equal(t, 1, res.ExpiresIn)
	// In the last moments, which only the leeway grants, there is nothing left
	// to give: expires_in 0 would mean "never" to clients.
	g.advance(time.Second)
	_, err = g.exchange(t, api.AccessToken, "function")
	requireRefused(t, err, InvalidRequest, "the token issued would live less than a second")
	g.advance(time.Second)
	_, err = g.exchange(t, api.AccessToken, "function")
	requireRefused(t, err, InvalidRequest, "subject_token: failed to parse JWT token: the token has expired")
}

// TestAPITokenFollowsTheObjects: what an API token is worth is decided when it
// is used.
func TestAPITokenFollowsTheObjects(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	env, envRole := invoke("env", "alice", "dev:env")
	cows, cowsRole := invoke("cows", "alice", "dev:cows")
	nobody, nobodyRole := invoke("nobody", "mallory", "*")
	conditional := policy("conditional", "Function:Invoke", "dev:deep")
	conditional.Spec.Statement[0].Condition = iam.Condition{
		"StringEqual":             {"jwt:sub": {"fed:alice"}, "jwt:fed:iss": {p.URL}, "jwt:iss": {gatewayURL}},
		"ForAnyValue:StringEqual": {"jwt:groups": {"dev"}},
	}
	conditionalRole := iam.Role{Metadata: iam.Metadata{Name: "conditional"}, Spec: iam.RoleSpec{
		Policy: []string{"conditional"}, Condition: iam.Condition{"StringEqual": {"jwt:iss": {p.URL}}}}}
	objects := func(change func(*iam.Objects)) *iam.Set {
		o := iam.Objects{
			Issuers:  []iam.JwtIssuer{p.trusted("idp", "2h")},
			Policies: []iam.Policy{env, cows, nobody, conditional},
			Roles:    []iam.Role{envRole, cowsRole, nobodyRole, conditionalRole},
		}
		change(&o)
		set, _ := iam.Compile(o)
		return set
	}
	all := objects(func(*iam.Objects) {})
	g := newGateway(t, all)
	id := p.token(t, nil)
	api, err := g.exchange(t, id, "")
	require.NoError(t, err)
	require.Equal(t, []any{"conditional", "cows", "env"}, g.claims(t, api.AccessToken)["policy"])

	permissions := func(subject string) any {
		res, err := g.exchange(t, subject, "function")
		require.NoError(t, err)
		return g.claims(t, res.AccessToken)["function"].(map[string]any)["permissions"]
	}
	require.ElementsMatch(t, []any{"dev:env", "dev:cows", "dev:deep"}, permissions(api.AccessToken))
	require.Equal(t, permissions(id), permissions(api.AccessToken), "a policy grants the same whichever way the caller came")

	g.objects.Store(objects(func(o *iam.Objects) { o.Policies = []iam.Policy{nobody, env} }))
	require.Equal(t, []any{"dev:env"}, permissions(api.AccessToken), "policies that are gone grant nothing")

	g.objects.Store(objects(func(o *iam.Objects) { o.Policies = []iam.Policy{nobody} }))
	_, err = g.exchange(t, api.AccessToken, "function")
	requireRefused(t, err, InvalidRequest, "No Function:Invoke permission found for subject: alice")

	g.objects.Store(objects(func(o *iam.Objects) { o.Issuers = nil }))
	_, err = g.exchange(t, api.AccessToken, "function")
	requireRefused(t, err, InvalidRequest, "issuer "+p.URL+", where the subject of this API token is from, is no longer a registered JwtIssuer")

	g.objects.Store(objects(func(o *iam.Objects) { o.Issuers[0].Spec.TokenExpiry = "10m" }))
	res, err := g.exchange(t, api.AccessToken, "function")
	require.NoError(t, err)
	require.Equal(t, 600, res.ExpiresIn)

	// A JwtIssuer with our own name limits lifetimes, but lends us no keys.
	g.objects.Store(objects(func(o *iam.Objects) {
		o.Issuers = append(o.Issuers, iam.JwtIssuer{Metadata: iam.Metadata{Name: "system"},
			Spec: iam.JwtIssuerSpec{Iss: gatewayURL, IssInternal: p.URL, Aud: []string{gatewayURL}, TokenExpiry: "5m"}})
	}))
	res, err = g.exchange(t, api.AccessToken, "function")
	require.NoError(t, err)
	require.Equal(t, 300, res.ExpiresIn)
	_, err = g.exchange(t, p.token(t, map[string]any{
		"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL, "policy": []string{"nobody"},
	}), "function")
	requireRefused(t, err, InvalidRequest, "subject_token: failed to parse JWT token: kid names no key of the issuer")
}

func TestMaxFunctionTokenLifetime(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	policy, role := invoke("invoke", "alice", "*")
	g := newGateway(t, compile(t, iam.Objects{
		Issuers: []iam.JwtIssuer{p.trusted("idp", "720h")}, Policies: []iam.Policy{policy}, Roles: []iam.Role{role},
	}))
	for _, c := range []struct {
		scope string
		limit time.Duration
		want  int
	}{{"", time.Hour, 720 * 3600}, {"function", 0, 12 * 3600}, {"function", time.Minute, 60}, {"function", 1000 * time.Hour, 720 * 3600}} {
		x, err := New(Config{Issuer: g.issuer, Objects: g.objects.Load, Now: g.now, MaxFunctionTokenLifetime: c.limit})
		require.NoError(t, err)
		res, err := (&gateway{Exchanger: x}).exchange(t, p.token(t, nil), c.scope)
		require.NoError(t, err)
		require.Equal(t, c.want, res.ExpiresIn)
	}
}

func TestTokenTypes(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "*"))
	for _, subjectType := range []string{TokenTypeIDToken, TokenTypeAccessToken, TokenTypeJWT} {
		for _, requested := range []string{"", TokenTypeIDToken, TokenTypeAccessToken, TokenTypeJWT} {
			res, err := g.Exchange(t.Context(), Request{
				GrantType: GrantType, SubjectToken: p.token(t, nil), SubjectTokenType: subjectType, RequestedTokenType: requested})
			require.NoError(t, err)
			require.Equal(t, TokenTypeIDToken, res.IssuedTokenType)
		}
	}
}

// TestAttenuation says for permissions and audience what is issued, and by
// auth's verifier which functions it opens.
func TestAttenuation(t *testing.T) {
	t.Parallel()
	functions := []string{"dev:env", "dev:env2", "dev:cows", "dev2:env", "prod:env"}
	for _, c := range []struct {
		permissions []iam.Resource
		audience    []string
		refused     string // the audience entry named
		opens       []string
	}{
		{[]iam.Resource{"*"}, nil, "", functions},
		{[]iam.Resource{"*"}, []string{"*"}, "", functions},
		{[]iam.Resource{"*"}, []string{"dev:env"}, "", []string{"dev:env"}},
		{[]iam.Resource{"*"}, []string{"dev:*", "prod:env"}, "", []string{"dev:env", "dev:env2", "dev:cows", "prod:env"}},
		{[]iam.Resource{"dev:*"}, nil, "", []string{"dev:env", "dev:env2", "dev:cows"}},
		{[]iam.Resource{"dev:*"}, []string{"*"}, "", []string{"dev:env", "dev:env2", "dev:cows"}},
		{[]iam.Resource{"dev:*"}, []string{"dev:cows"}, "", []string{"dev:cows"}},
		{[]iam.Resource{"dev:*"}, []string{"prod:*"}, "prod:*", nil},
		{[]iam.Resource{"dev:*"}, []string{"dev:env", "prod:env"}, "prod:env", nil},
		{[]iam.Resource{"dev:*"}, []string{"dev2:*"}, "dev2:*", nil},
		{[]iam.Resource{"dev:env"}, []string{"dev:*"}, "", []string{"dev:env"}},
		{[]iam.Resource{"dev:env"}, []string{"dev:e"}, "dev:e", nil},
		{[]iam.Resource{"dev:env"}, []string{"dev:env2"}, "dev:env2", nil},
		{[]iam.Resource{"dev:env"}, []string{"DEV:env"}, "DEV:env", nil},
		{[]iam.Resource{"dev:env", "prod:env"}, []string{"prod:env", "prod:env"}, "", []string{"prod:env"}},
		{[]iam.Resource{"openfaas-fn:*", "dev:env"}, []string{"openfaas-fn:env"}, "", nil},
	} {
		t.Run(fmt.Sprint(c.permissions, c.audience), func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, nil)
			g := newGateway(t, aliceMayInvoke(t, p, c.permissions...))
			api, err := g.exchange(t, p.token(t, nil), "")
			require.NoError(t, err)
			for _, subject := range []string{p.token(t, nil), api.AccessToken} {
				res, err := g.exchange(t, subject, "function", c.audience...)
				if c.refused != "" {
					requireRefused(t, err, InvalidTarget, "audience '"+c.refused+"'")
					continue
				}
				require.NoError(t, err)
				require.Equal(t, c.opens, g.opens(t, res.AccessToken, functions))
			}
		})
	}
}

// opens returns which functions a token opens, by auth's verifier.
func (g *gateway) opens(t testing.TB, token string, functions []string) (opened []string) {
	for _, f := range functions {
		switch err := g.verify(t, f, token); {
		case err == nil:
			opened = append(opened, f)
		default:
			require.ErrorIs(t, err, auth.ErrForbidden)
		}
	}
	return opened
}

func (g *gateway) verify(t testing.TB, function, token string) error {
	keys, _, err := jwks.Parse(g.issuer.JWKS())
	require.NoError(t, err)
	namespace, name, _ := strings.Cut(function, ":")
	v, err := auth.NewVerifier(auth.Config{Keys: jwks.NewStatic(gatewayURL, keys), Namespace: namespace, Name: name, Now: g.now})
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), []byte("Bearer "+token))
	return err
}

// TestOnlyFunctionTokensOpenFunctions runs what is issued past the verifier
// that stands before every function.
func TestOnlyFunctionTokensOpenFunctions(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, aliceMayInvoke(t, p, "*"))
	id := p.token(t, map[string]any{"function": map[string]any{"permissions": []string{"*"}}})
	api, err := g.exchange(t, id, "")
	require.NoError(t, err)
	function, err := g.exchange(t, id, "function")
	require.NoError(t, err)

	require.ErrorIs(t, g.verify(t, "dev:env", id), auth.ErrInvalidToken)
	require.ErrorIs(t, g.verify(t, "dev:env", api.AccessToken), auth.ErrInvalidToken)
	require.NoError(t, g.verify(t, "dev:env", function.AccessToken))
	g.advance(2*time.Hour - time.Second)
	require.NoError(t, g.verify(t, "dev:env", function.AccessToken))
	g.advance(2 * time.Second)
	require.ErrorIs(t, g.verify(t, "dev:env", function.AccessToken), auth.ErrInvalidToken)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	for want, c := range map[string]Config{
		"Config.Issuer is missing":                    {Objects: g.objects.Load},
		"Config.Objects is missing":                   {Issuer: g.issuer},
		"Config.MaxFunctionTokenLifetime is negative": {Issuer: g.issuer, Objects: g.objects.Load, MaxFunctionTokenLifetime: -1},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, want)
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	p := newProvider(t, make(chan struct{}))
	g := newGateway(t, aliceMayInvoke(t, p, "*"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := g.Exchange(ctx, Request{GrantType: GrantType, SubjectToken: p.token(t, nil), SubjectTokenType: TokenTypeIDToken})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(p.hang)
}
