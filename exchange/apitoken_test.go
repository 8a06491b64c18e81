package exchange

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	both, role := invoke("both", "alice", "dev:*")
	both.Spec.Statement = append(both.Spec.Statement,
		iam.Statement{Effect: "Allow", Action: []string{"Function:List"}, Resource: []iam.Resource{"dev:env"},
			Condition: iam.Condition{"StringEqual": {"jwt:sub": {"fed:alice"}, "jwt:fed:iss": {p.URL}}}},
		iam.Statement{Effect: "Allow", Action: []string{"Secret:*"}, Resource: []iam.Resource{"*"},
			Condition: iam.Condition{"StringEqual": {"jwt:sub": {"alice"}}}})
	objects := iam.Objects{Issuers: []iam.JwtIssuer{p.trusted("idp", "2h")}, Policies: []iam.Policy{both}, Roles: []iam.Role{role}}
	g := newGateway(t, compile(t, objects))
	api, err := g.exchange(t, p.token(t, nil), "")
	require.NoError(t, err)
	token := []byte(api.AccessToken)

	id, err := g.Authenticate(t.Context(), token)
	require.NoError(t, err)
	name, iss := id.Subject()
	require.Equal(t, "alice", name)
	require.Equal(t, p.URL, iss)
	require.Equal(t, now.Unix()+7200, id.Expires().Unix())
	require.Equal(t, []iam.Resource{"dev:*"}, id.Granted("Function:Invoke"))
	require.Equal(t, []iam.Resource{"dev:env"}, id.Granted("Function:List"), "the condition sees the API token's claims")
	require.Empty(t, id.Granted("Secret:List"), "and not the ID token's")
	require.Empty(t, id.Granted("Function:Delete"))
	require.Empty(t, id.Granted("*"), "a pattern is no action")

	function, err := g.exchange(t, p.token(t, nil), "function")
	require.NoError(t, err)
	for name, c := range map[string]struct{ token, why string }{
		"ID token":       {p.token(t, nil), "not a token of this gateway"},
		"function token": {function.AccessToken, "a function token opens functions"},
		"tampered":       {api.AccessToken[:len(token)-8] + "AAAAAAAA", "signature does not verify"},
		"garbage":        {"hunter2", "not a compact JWS"},
		"nothing":        {"", "not a compact JWS"},
		"own iss, their key": {p.token(t, map[string]any{"iss": gatewayURL, "aud": gatewayURL, "sub": "fed:alice", "fed:iss": p.URL, "policy": []string{"both"}}),
			"kid names no key"},
	} {
		_, err := g.Authenticate(t.Context(), []byte(c.token))
		requireRefused(t, err, InvalidRequest, c.why)
		if c.token != "" {
			require.NotContains(t, err.Error(), c.token, name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = g.Authenticate(ctx, token)
	require.NoError(t, err, "our own keys need no waiting")

	// What it is worth follows the objects.
	g.objects.Store(compile(t, iam.Objects{Issuers: objects.Issuers}))
	require.Equal(t, []iam.Resource{"dev:*"}, id.Granted("Function:Invoke"), "a request is decided by one set")
	id, err = g.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Empty(t, id.Granted("Function:Invoke"), "its policy is gone")
	g.objects.Store(compile(t, iam.Objects{}))
	_, err = g.Authenticate(t.Context(), token)
	requireRefused(t, err, InvalidRequest, "no longer a registered JwtIssuer")
	_, err = newGateway(t, nil).Authenticate(t.Context(), token)
	requireRefused(t, err, TemporarilyUnavailable, "not loaded yet")

	g.objects.Store(compile(t, objects))
	g.advance(2*time.Hour + 2*time.Second)
	_, err = g.Authenticate(t.Context(), token)
	requireRefused(t, err, InvalidRequest, "the token has expired")
}
