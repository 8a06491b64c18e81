package exchange

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam/store"
)

const (
	githubIssuer   = "https://token.actions.githubusercontent.com"
	gitlabIssuer   = "https://gitlab.example.com"
	keycloakIssuer = "https://keycloak.example.com/realms/openfaas"
	dexIssuer      = "https://dex.example.com"
)

type claims = map[string]any

// with returns claims with others in their place; nil removes one.
func (base shape) with(changes claims) claims {
	all := claims{"groups": nil} // not one of theirs: see provider.token
	for n, v := range base {
		all[n] = v
	}
	for n, v := range changes {
		all[n] = v
	}
	return all
}

type shape claims

// The claims are those that the providers document, for a deployment to
// production from a protected main branch, and for a person.
var (
	github = shape{
		"iss": githubIssuer, "aud": gatewayAudience, "sub": "repo:octo-org/octo-repo:environment:production",
		"actor": "octocat", "actor_id": "12", "base_ref": "", "enterprise": "octo", "enterprise_id": "5", "environment": "production",
		"event_name": "push", "head_ref": "", "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
		"job_workflow_sha": "6f3a1c5e", "jti": "41d8f6c2-7f0e-4f5b-9d80-08ff9a1a2b11", "ref": "refs/heads/main", "ref_protected": "true",
		"ref_type": "branch", "repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner": "octo-org",
		"repository_owner_id": "65", "repository_visibility": "private", "run_attempt": "1", "run_id": "9041", "run_number": "37",
		"runner_environment": "github-hosted", "sha": "6f3a1c5e", "workflow": "deploy",
		"workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main", "workflow_sha": "6f3a1c5e",
	}
	gitlab = shape{
		"iss": gitlabIssuer, "aud": gatewayAudience, "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
		"ci_config_ref_uri": "gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main", "ci_config_sha": "714a6297",
		"deployment_tier": "production", "environment": "production", "environment_action": "start", "environment_protected": "true",
		"groups_direct": []string{"my-group/developers", "other"}, "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b", "job_id": "302",
		"namespace_id": "72", "namespace_path": "my-group", "pipeline_id": "574", "pipeline_source": "push", "project_id": "20",
		"project_path": "my-group/my-project", "project_visibility": "private", "ref": "main", "ref_path": "refs/heads/main",
		"ref_protected": "true", "ref_type": "branch", "runner_environment": "self-hosted", "runner_id": 1, "sha": "714a6297",
		"user_access_level": "maintainer", "user_email": "dev@example.com", "user_id": "1", "user_login": "dev",
		"user_identities": []claims{{"provider": "github", "extern_uid": "2435223452345"}},
	}
	keycloak = shape{
		"iss": keycloakIssuer, "aud": []string{"openfaas", "account"}, "sub": "4c973896-5761-41fc-8217-07c5d13a004b", "typ": "Bearer",
		"azp": "openfaas", "acr": "1", "scope": "openid email profile", "sid": "bd2f", "email": "dev@example.com", "email_verified": true,
		"preferred_username": "dev", "realm_access": claims{"roles": []string{"offline_access", "staff"}},
		"resource_access": claims{"account": claims{"roles": []string{"view-profile"}}}, "allowed-origins": []string{"/*"},
	}
	dex = shape{
		"iss": dexIssuer, "aud": "openfaas", "sub": "CgNkZXYSBWxvY2Fs", "at_hash": "x", "email": "dev@example.com", "email_verified": true,
		"groups": []string{"developers"}, "name": "dev", "federated_claims": claims{"connector_id": "local", "user_id": "dev"},
	}
)

const gatewayAudience = "https://gateway.example.com"

// TestUsualIssuers says what the example objects grant for tokens of the usual
// issuers, claim by claim.
func TestUsualIssuers(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	objects, err := os.ReadFile("testdata/issuers.yaml")
	require.NoError(t, err)
	require.Empty(t, check(t, string(objects)).Problems, "as it stands")

	// Each issuer's documents at an address of its own, with the keys of p.
	text := regexp.MustCompile(`(?m)^  issInternal: .*\n`).ReplaceAllString(string(objects), "")
	for _, iss := range []string{githubIssuer, gitlabIssuer, keycloakIssuer, dexIssuer, clusterIssuer} {
		documents := http.NewServeMux()
		documents.HandleFunc("/keys", p.Config.Handler.ServeHTTP)
		documents.HandleFunc("/.well-known/", func(w http.ResponseWriter, r *http.Request) { discoveryOf(iss, iss+"/keys")(w, r, "") })
		s := httptest.NewServer(documents)
		t.Cleanup(s.Close)
		text = strings.Replace(text, "  iss: "+iss+"\n", "  iss: "+iss+"\n  issInternal: "+s.URL+"\n", 1)
	}
	g := newGateway(t, check(t, text).Set)

	const production, staging = "production:api", "staging:api"
	service := shape(projected()).with(claims{"aud": gatewayAudience})
	for name, c := range map[string]struct {
		claims claims
		opens  []string
	}{
		"GitHub":                       {github.with(nil), []string{production, staging}},
		"GitHub, renamed repository":   {github.with(claims{"repository": "octo-org/renamed"}), []string{production, staging}},
		"GitHub, other branch":         {github.with(claims{"ref": "refs/heads/x", "environment": nil}), []string{staging}},
		"GitHub, other environment":    {github.with(claims{"environment": "test"}), []string{staging}},
		"GitHub, no environment":       {github.with(claims{"environment": nil}), []string{staging}},
		"GitHub, a tag":                {github.with(claims{"ref": "refs/tags/v1", "environment": nil}), nil},
		"GitHub, pull request":         {github.with(claims{"event_name": "pull_request", "ref": "refs/pull/7/merge", "environment": nil}), nil},
		"GitHub, other repository":     {github.with(claims{"repository_id": "75"}), []string{staging}},
		"GitHub, taken name":           {github.with(claims{"repository_id": "99", "repository_owner_id": "98"}), nil},
		"GitHub, number as number":     {github.with(claims{"repository_id": 74}), []string{production, staging}},
		"GitHub, list of branches":     {github.with(claims{"ref": []string{"refs/heads/main"}}), nil},
		"GitLab":                       {gitlab.with(nil), []string{production, staging}},
		"GitLab, unprotected branch":   {gitlab.with(claims{"ref_protected": "false"}), []string{staging}},
		"GitLab, truth as truth":       {gitlab.with(claims{"ref_protected": true}), []string{production, staging}},
		"GitLab, other project":        {gitlab.with(claims{"project_id": "21", "project_path": "my-group/x"}), []string{staging}},
		"GitLab, other group":          {gitlab.with(claims{"project_id": "22", "project_path": "my-groups/x"}), nil},
		"GitLab, not a developer":      {gitlab.with(claims{"groups_direct": []string{"my-group"}, "environment": "test"}), nil},
		"GitLab, no groups":            {gitlab.with(claims{"groups_direct": nil}), []string{production}},
		"GitLab with GitHub's claims":  {github.with(claims{"iss": gitlabIssuer}), nil},
		"GitHub with GitLab's claims":  {gitlab.with(claims{"iss": githubIssuer}), nil},
		"Keycloak":                     {keycloak.with(nil), []string{staging}},
		"Keycloak, other role":         {keycloak.with(claims{"realm_access": claims{"roles": []string{"staffs"}}}), nil},
		"Keycloak, role of a client":   {keycloak.with(claims{"realm_access": nil, "resource_access": claims{"account": claims{"roles": []string{"staff"}}}}), nil},
		"Keycloak, path as a name":     {keycloak.with(claims{"realm_access": nil, "/realm_access/roles": []string{"staff"}, "realm_access/roles": "staff"}), nil},
		"Dex":                          {dex.with(nil), []string{staging}},
		"Dex, unverified":              {dex.with(claims{"email_verified": false}), nil},
		"Dex, look-alike domain":       {dex.with(claims{"email": "dev@example.com.evil.org"}), nil},
		"Kubernetes":                   {service, []string{production}},
		"Kubernetes, other name":       {shape(service).with(claims{"sub": "system:serviceaccount:openfaas:my-app2"}), nil},
		"Kubernetes, other namespace":  {shape(service).with(claims{"sub": "system:serviceaccount:evil:my-app"}), nil},
		"Dex with Kubernetes' subject": {dex.with(claims{"sub": "system:serviceaccount:openfaas:my-app", "email": "x@y"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := g.exchange(t, p.token(t, c.claims), "function")
			if c.opens == nil {
				requireRefused(t, err, InvalidRequest, "No policies found for subject: ")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.opens, g.opens(t, res.AccessToken, []string{production, staging, "openfaas-fn:api", "productions:api"}))
			require.Equal(t, "fed:"+c.claims["sub"].(string), g.claims(t, res.AccessToken)["sub"])
		})
	}
	_, err = g.exchange(t, p.token(t, github.with(claims{"aud": "https://github.com/octo-org"})), "function")
	requireRefused(t, err, InvalidRequest, "aud does not name the expected audience")
}

// check reads objects as `gateway iam check` does.
func check(t *testing.T, objects string) store.Report {
	report, err := store.Check(writeFile(t, filepath.Join(t.TempDir(), "iam.yaml"), objects))
	require.NoError(t, err)
	return report
}
