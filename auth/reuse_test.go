package auth

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBuffersAreReused: servers read the next request into the same memory, so
// nothing that is kept of a token may be where the token was.
func TestBuffersAreReused(t *testing.T) {
	t.Parallel()
	claims := withClaim("email", "alice@example.com")
	claims["groups"] = []string{"a", "b\u00e9\n"}
	v := newVerifier(t, func(c *Config) { c.Claims = []string{"sub", "email", "groups", "exp", "none"} })
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		token := []byte("Bearer " + mint(alg, claims, nil))
		buffer := append([]byte(nil), token...)
		caller, err := v.Verify(t.Context(), buffer)
		require.NoError(t, err)
		_, refusal := v.Verify(t.Context(), buffer[:len(buffer)-3])
		parsed, err := ParseToken(t.Context(), keySet(), buffer[len("Bearer "):], Expect{Issuer: issuer, Audience: []string{issuer}, Now: v.now})
		require.NoError(t, err)
		iss, err := UnverifiedIssuer(buffer[len("Bearer "):])
		require.NoError(t, err)
		text := refusal.Error()
		for i := range buffer {
			buffer[i] = 'x'
		}
		want := []string{"fed:alice", "alice@example.com", `["a","bé\n"]`, "1800003600", ""}
		require.Equal(t, want, caller.Claims)
		require.Equal(t, issuer, iss)
		require.Equal(t, text, refusal.Error())
		require.Equal(t, "alice@example.com", parsed["email"])
		require.ElementsMatch(t, []string{"iss", "aud", "sub", "iat", "exp", "function", "email", "groups"}, slices.Collect(maps.Keys(parsed)))
		require.EqualError(t, verify(t.Context(), v, buffer), noBearer, "what is in its place now is no token")
		cachedCaller, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Same(t, caller, cachedCaller)
	}
	require.Len(t, v.verdicts.entries, 3)
}
