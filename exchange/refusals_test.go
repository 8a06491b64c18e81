package exchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/test/freeport"
)

// requireRefused checks an answer, and that every description keeps to the
// charset and length that clients may rely on (RFC 6749, 5.2).
func requireRefused(t testing.TB, err error, code, description string) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
	require.Contains(t, e.Description, description)
	require.Regexp(t, `^[\x20-\x21\x23-\x5B\x5D-\x7E]{1,512}$`, e.Description)
	body, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"error":"%s","error_description":"%s"}`, e.Code, e.Description), string(body))
}

// TestRefusals is one row for each way to be refused.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p, stranger := newProvider(t, nil), newProvider(t, nil)
	down := newProvider(t, nil)
	down.URL = "http://127.0.0.1:" + freeport.Take()
	invokePolicy, invokeRole := invoke("invoke", "alice", "dev:*", "prod:env")
	_, listRole := invoke("list", "lister", "*")
	listPolicy := policy("list", "Function:List", "*")
	g := newGateway(t, compile(t, iam.Objects{
		Issuers:  []iam.JwtIssuer{p.trusted("idp", "2h"), down.trusted("down", "2h")},
		Policies: []iam.Policy{invokePolicy, listPolicy}, Roles: []iam.Role{invokeRole, listRole},
	}))
	own := func(claims map[string]any) string {
		all := map[string]any{"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL,
			"policy": []string{"invoke"}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Unix() + 60}
		for n, v := range claims {
			if all[n] = v; v == nil {
				delete(all, n)
			}
		}
		token, err := g.issuer.Sign(all)
		require.NoError(t, err)
		return token
	}
	_, err := g.exchange(t, own(nil), "function")
	require.NoError(t, err, "the base of the rows with tokens of our own")

	const nasty = "a\r\nb\t\"c\\d\x1b[31m\u202e\xff\x00"
	for name, c := range map[string]struct {
		change      func(*Request)
		code        string
		description string
	}{
		"no grant type":       {func(r *Request) { r.GrantType = "" }, InvalidRequest, "grant_type is missing"},
		"other grant type":    {func(r *Request) { r.GrantType = "client_credentials" }, UnsupportedGrantType, "grant_type 'client_credentials' is not supported; want " + GrantType},
		"nasty grant type":    {func(r *Request) { r.GrantType = nasty }, UnsupportedGrantType, "grant_type 'a??b??c?d?[31m???' is"},
		"token as grant type": {func(r *Request) { r.GrantType = r.SubjectToken }, UnsupportedGrantType, "...' is not supported"},
		"audience too long": {func(r *Request) { // is not compared with anything
			r.Scope, r.Audience = "function", []string{"ops:" + strings.Repeat("*", 60_000) + "x"}
		}, InvalidRequest, "larger than 8192 bytes"},
		"no token":           {func(r *Request) { r.SubjectToken = "" }, InvalidRequest, "subject_token is missing"},
		"no token type":      {func(r *Request) { r.SubjectTokenType = "" }, InvalidRequest, "subject_token_type '' is not supported"},
		"SAML":               {func(r *Request) { r.SubjectTokenType = "urn:ietf:params:oauth:token-type:saml2" }, InvalidRequest, "subject_token_type 'urn:ietf:params:oauth:token-type:saml2' is not supported"},
		"refresh token":      {func(r *Request) { r.SubjectTokenType = "urn:ietf:params:oauth:token-type:refresh_token" }, InvalidRequest, "subject_token_type"},
		"requested SAML":     {func(r *Request) { r.RequestedTokenType = "urn:ietf:params:oauth:token-type:saml2" }, InvalidRequest, "requested_token_type 'urn"},
		"other scope":        {func(r *Request) { r.Scope = "openid" }, InvalidScope, "scope 'openid' is not supported; want function"},
		"two scopes":         {func(r *Request) { r.Scope = "function openid" }, InvalidScope, "scope 'function openid'"},
		"scope in capitals":  {func(r *Request) { r.Scope = "Function" }, InvalidScope, "scope 'Function'"},
		"audience, no scope": {func(r *Request) { r.Scope, r.Audience = "", []string{"dev:env"} }, InvalidRequest, "audience needs scope=function"},
		"audience without :": {func(r *Request) { r.Audience = []string{"dev:env", "env"} }, InvalidTarget, "audience 'env' is not a function; want namespace:name"},
		"nasty audience":     {func(r *Request) { r.Audience = []string{nasty} }, InvalidTarget, "audience 'a??b"},
		"long audience":      {func(r *Request) { r.Audience = []string{strings.Repeat("x", 5000)} }, InvalidTarget, "audience '" + strings.Repeat("x", 61) + "...' is"},
		"foreign audience":   {func(r *Request) { r.Audience = []string{"dev:env", "prod:cows"} }, InvalidTarget, "audience 'prod:cows' is not covered by any Function:Invoke permission"},

		"not a JWT":         {func(r *Request) { r.SubjectToken = "hunter2" }, InvalidRequest, "subject_token: failed to parse JWT token: not a compact JWS"},
		"nasty token":       {func(r *Request) { r.SubjectToken = nasty }, InvalidRequest, "subject_token: failed"},
		"alg none":          {func(r *Request) { r.SubjectToken = unsigned(t, p) }, InvalidRequest, "subject_token: failed"},
		"unknown issuer":    {func(r *Request) { r.SubjectToken = stranger.token(t, nil) }, InvalidRequest, "issuer " + stranger.URL + " is not a registered JwtIssuer"},
		"nasty issuer":      {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"iss": "x" + nasty}) }, InvalidRequest, "issuer xa??b"},
		"long issuer":       {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"iss": strings.Repeat("x", 999)}) }, InvalidRequest, "issuer " + strings.Repeat("x", 253) + "... is"},
		"issuer with slash": {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"iss": p.URL + "/"}) }, InvalidRequest, "is not a registered JwtIssuer"},
		"no issuer":         {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"iss": nil}) }, InvalidRequest, "iss is missing"},
		"stranger's key":    {func(r *Request) { r.SubjectToken = stranger.token(t, map[string]any{"iss": p.URL}) }, InvalidRequest, "signature does not verify"},
		"other audience":    {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"aud": "somebody"}) }, InvalidRequest, "aud does not name the expected audience"},
		"expired":           {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"exp": now.Unix() - 2}) }, InvalidRequest, "the token has expired"},
		"not yet":           {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"nbf": now.Unix() + 9}) }, InvalidRequest, "not valid yet"},
		"no sub":            {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": nil}) }, InvalidRequest, "subject_token has no sub"},
		"sub is a number":   {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": 7}) }, InvalidRequest, "subject_token has no sub"},
		"nobody":            {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": "bob"}) }, InvalidRequest, "No policies found for subject: bob"},
		"nasty nobody":      {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": "x" + nasty}) }, InvalidRequest, "No policies found for subject: xa??b??c?d?[31m?"},
		"long nobody":       {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": strings.Repeat("x", 999)}) }, InvalidRequest, "subject: " + strings.Repeat("x", 253) + "..."},
		"no invoke":         {func(r *Request) { r.SubjectToken = p.token(t, map[string]any{"sub": "lister"}) }, InvalidRequest, "No Function:Invoke permission found for subject: lister"},
		"issuer down":       {func(r *Request) { r.SubjectToken = down.token(t, nil) }, TemporarilyUnavailable, "the keys of issuer " + down.URL + " cannot be fetched at the moment; try again"},

		"API for API": {func(r *Request) { r.SubjectToken, r.Scope = own(nil), "" }, InvalidRequest, "an API token can only be exchanged for a function token"},
		"function token": {func(r *Request) {
			r.SubjectToken = own(map[string]any{"function": map[string]any{"permissions": []string{"*"}}, "policy": nil})
		}, InvalidRequest, "a function token cannot be exchanged"},
		"function null":     {func(r *Request) { r.SubjectToken = own(map[string]any{"function": json.RawMessage("null")}) }, InvalidRequest, "a function token cannot be exchanged"},
		"own, no policy":    {func(r *Request) { r.SubjectToken = own(map[string]any{"policy": nil}) }, InvalidRequest, "is not an API token"},
		"own, odd policy":   {func(r *Request) { r.SubjectToken = own(map[string]any{"policy": "invoke"}) }, InvalidRequest, "is not an API token"},
		"own, mixed policy": {func(r *Request) { r.SubjectToken = own(map[string]any{"policy": []any{"invoke", 7}}) }, InvalidRequest, "is not an API token"},
		"own, no fed:iss":   {func(r *Request) { r.SubjectToken = own(map[string]any{"fed:iss": nil}) }, InvalidRequest, "is not an API token"},
		"own, no fed:":      {func(r *Request) { r.SubjectToken = own(map[string]any{"sub": "alice"}) }, InvalidRequest, "is not an API token"},
		"own, other aud":    {func(r *Request) { r.SubjectToken = own(map[string]any{"aud": "gatehound"}) }, InvalidRequest, "aud does not name"},
		"own, expired":      {func(r *Request) { r.SubjectToken = own(map[string]any{"exp": now.Unix() - 2}) }, InvalidRequest, "the token has expired"},
		"own, gone policy":  {func(r *Request) { r.SubjectToken = own(map[string]any{"policy": []string{"gone"}}) }, InvalidRequest, "No Function:Invoke permission found for subject: alice"},
		"own, signed by IdP": {func(r *Request) {
			r.SubjectToken = p.token(t, map[string]any{"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL, "policy": []string{"invoke"}})
		}, InvalidRequest, "kid names no key of the issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{GrantType: GrantType, SubjectToken: p.token(t, nil), SubjectTokenType: TokenTypeIDToken, Scope: "function"}
			_, err := g.Exchange(t.Context(), r)
			require.NoError(t, err, "the request the row changes")
			c.change(&r)
			res, err := g.Exchange(t.Context(), r)
			requireRefused(t, err, c.code, c.description)
			require.Zero(t, res)
			if len(r.SubjectToken) > 0 {
				require.NotContains(t, err.Error(), r.SubjectToken)
			}
			status := 400
			if c.code == TemporarilyUnavailable {
				status = 503
			}
			var e *Error
			require.True(t, errors.As(err, &e))
			require.Equal(t, status, e.Status())
		})
	}
}

func unsigned(t testing.TB, p *provider) string {
	token := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"iss": p.URL, "aud": "gatehound", "sub": "alice", "iat": now.Unix(), "exp": now.Unix() + 60})
	token.Header["kid"] = "idp-1"
	signed, err := token.SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	return signed
}

// TestObjectsNotLoaded is the time before a store knows its objects: nobody is
// told that an issuer is not trusted, which may be wrong in a second.
func TestObjectsNotLoaded(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	g := newGateway(t, nil)
	_, err := g.exchange(t, p.token(t, nil), "function")
	requireRefused(t, err, TemporarilyUnavailable, "the IAM objects are not loaded yet")
}
