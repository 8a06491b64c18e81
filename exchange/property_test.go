package exchange

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
)

// TestFunctionTokensAreSubsets asks for tokens with random audiences under
// random permissions. What a token opens, by auth's verifier, is what is both
// permitted and asked for, whichever way the caller came; an audience is
// refused only if no permission has anything to do with it; and Explain says of
// every function what the verifier does.
func TestFunctionTokensAreSubsets(t *testing.T) {
	t.Parallel()
	var functions []string
	for _, namespace := range []string{"dev", "dev2", "prod"} {
		for _, name := range []string{"e", "env", "env2"} {
			functions = append(functions, namespace+":"+name)
		}
	}
	patterns := []string{"*", "*:*", "dev:*", "d*:env", "prod:e*", "*:e", "dev2:env2", "dev:env", "ops:*"}
	covers := func(list []string, function string) bool {
		namespace, name, _ := strings.Cut(function, ":")
		return slices.ContainsFunc(list, func(p string) bool { return iam.Resource(p).Matches(namespace, name) })
	}
	p := newProvider(t, nil)
	id := p.token(t, nil)
	idClaims, err := auth.UnverifiedClaims([]byte(id))
	require.NoError(t, err)

	r := rand.New(rand.NewPCG(1, 1))
	some := func(min int) (list []string) {
		for range min + r.IntN(3) {
			list = append(list, patterns[r.IntN(len(patterns))])
		}
		return list
	}
	issued, narrowed := 0, 0
	g := newGateway(t, nil)
	for range 60 {
		permissions, audience := some(1), some(0)
		var resources []iam.Resource
		for _, permission := range permissions {
			resources = append(resources, iam.Resource(permission))
		}
		set := aliceMayInvoke(t, p, resources...)
		g.objects.Store(set)
		about := fmt.Sprint(permissions, audience)
		api, err := g.exchange(t, id, "")
		require.NoError(t, err)
		apiClaims, err := auth.UnverifiedClaims([]byte(api.AccessToken))
		require.NoError(t, err)

		var want, permitted []string
		for _, f := range functions {
			namespace, name, _ := strings.Cut(f, ":")
			may := covers(permissions, f)
			for _, claims := range []auth.Claims{idClaims, apiClaims} {
				x := Explain(Question{Objects: set, Issuer: gatewayURL, Claims: claims, Action: "Function:Invoke", Namespace: namespace, Name: name, Now: g.now})
				require.Empty(t, x.Faults)
				require.Equal(t, may, x.Allowed, "%s in %s", f, about)
			}
			if may {
				permitted = append(permitted, f)
				if len(audience) == 0 || covers(audience, f) {
					want = append(want, f)
				}
			}
		}
		for _, subject := range []string{id, api.AccessToken} {
			res, err := g.exchange(t, subject, "function", audience...)
			if err != nil {
				requireRefused(t, err, InvalidTarget, "")
				foreign := slices.ContainsFunc(audience, func(a string) bool {
					return !slices.ContainsFunc(resources, iam.Resource(a).Overlaps)
				})
				require.True(t, foreign, about)
				continue
			}
			require.Equal(t, want, g.opens(t, res.AccessToken, functions), about)
			require.Subset(t, permitted, want, about)
			issued++
			if len(want) < len(permitted) {
				narrowed++
			}
		}
	}
	require.Greater(t, issued, 40)
	require.Greater(t, narrowed, 10)
}
