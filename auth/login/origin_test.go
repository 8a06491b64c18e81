package login

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// TestRefreshOrigin: a refresh token brings no other's ID token.
func TestRefreshOrigin(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c[name] = value }
	}
	for name, tc := range map[string]struct {
		first, then func(c jwt.MapClaims)
		want        string // "" = it is taken
	}{
		"the same":                {nil, nil, ""},
		"other claims":            {nil, set("groups", []string{"ops"}), ""},
		"more audiences":          {nil, set("aud", []string{"cli", "api"}), ""},
		"azp again":               {set("azp", "cli"), set("azp", "cli"), ""},
		"audiences, turned round": {set("aud", []string{"cli", "api"}), set("aud", []string{"api", "cli"}), ""},
		"another person":          {nil, set("sub", "bob"), `its sub is "bob", and was "alice"`},
		"another spelling":        {nil, set("sub", "Alice"), `its sub is "Alice", and was "alice"`},
		"nobody":                  {nil, func(c jwt.MapClaims) { delete(c, "sub") }, `its sub is "", and was "alice"`},
		"an audience less":        {set("aud", []string{"cli", "api"}), set("aud", "cli"), `its aud is ["cli"], and was ["cli" "api"]`},
		"another's azp":           {set("azp", "cli"), set("azp", "web"), `its azp is "web", and was "cli"`},
		"an azp more":             {nil, set("azp", "cli"), `its azp is "cli", and was ""`},
		"an azp less":             {set("azp", "cli"), nil, `its azp is "", and was "cli"`},
		"another nonce":           {nil, set("nonce", "n"), `its nonce is "n", and was "`},
		"for a terminal":          {nil, set("sub", "\x1b[31m"), `its sub is "\x1b[31m", and was "alice"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFake(t)
			p.claims = tc.first
			c := p.client(t, nil)
			a, page := c.Begin(redirectURL)
			tokens, err := c.Finish(t.Context(), a, browse(t, page))
			require.NoError(t, err)
			require.Equal(t, a.Nonce, tokens.Origin.Nonce)
			p.claims = tc.then
			fresh, err := c.Refresh(t.Context(), tokens.Refresh, tokens.Origin)
			if tc.want != "" {
				require.ErrorIs(t, err, ErrAnother)
				require.ErrorContains(t, err, tc.want)
				require.Zero(t, fresh)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tokens.Origin, fresh.Origin, "the first stays")

			// The nonce may come again, even after it once did not.
			p.claims = func(claims jwt.MapClaims) {
				if tc.then != nil {
					tc.then(claims)
				}
				claims["nonce"] = a.Nonce
			}
			_, err = c.Refresh(t.Context(), fresh.Refresh, fresh.Origin)
			require.NoError(t, err)
		})
	}
}

// TestRefreshIssuer: what another provider remembers is no origin here.
func TestRefreshIssuer(t *testing.T) {
	t.Parallel()
	p := newFake(t)
	c := p.client(t, nil)
	a, page := c.Begin(redirectURL)
	tokens, err := c.Finish(t.Context(), a, browse(t, page))
	require.NoError(t, err)
	tokens.Origin.Issuer = "https://other.example"
	_, err = c.Refresh(t.Context(), tokens.Refresh, tokens.Origin)
	require.ErrorIs(t, err, ErrAnother)
	require.ErrorContains(t, err, `and was "https://other.example"`)
}
