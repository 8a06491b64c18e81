package store

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/auth/iam"
)

// The claims as the providers document them, cut to what tells jobs apart.
const (
	githubClaims = `{"jti":"example-id","iss":"https://token.actions.githubusercontent.com","aud":"https://gateway.example.com",
		"sub":"repo:octo-org/octo-repo:environment:prod","environment":"prod","ref":"refs/heads/main","ref_type":"branch","ref_protected":"true",
		"sha":"example-sha","repository":"octo-org/octo-repo","repository_id":"74","repository_owner":"octo-org","repository_owner_id":"65",
		"repository_visibility":"private","actor":"octocat","actor_id":"12","run_id":"1234","run_number":"10","run_attempt":"2","event_name":"push",
		"workflow":"example-workflow","head_ref":"","base_ref":"","runner_environment":"github-hosted",
		"job_workflow_ref":"octo-org/octo-automation/.github/workflows/deploy.yml@refs/heads/main",
		"iat":1632493567,"nbf":1632492967,"exp":1632493867}`
	gitlabClaims = `{"namespace_id":"72","namespace_path":"my-group","project_id":"20","project_path":"my-group/my-project","user_id":"1",
		"user_login":"sample-user","user_email":"sample-user@example.com","user_identities":[{"provider":"github","extern_uid":"2435223452345"}],
		"pipeline_id":"574","pipeline_source":"push","job_id":"302","ref":"feature-branch-1","ref_type":"branch",
		"ref_path":"refs/heads/feature-branch-1","ref_protected":"true","groups_direct":["mygroup/mysubgroup","myothergroup"],"environment":"staging",
		"runner_id":1,"runner_environment":"self-hosted","sha":"714a629c0b401fdce83e847fc9589983fc6f46bc","iss":"https://gitlab.com",
		"sub":"project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1","aud":"https://gateway.example.com",
		"jti":"235b3a54-b797-45c7-ae9a-f72d7bc6ef5b","iat":1681395193,"nbf":1681395188,"exp":1681398793}`
	kubernetesClaims = `{"aud":["https://gateway.example.com"],"exp":1731613413,"iat":1700077413,"nbf":1700077413,
		"iss":"https://kubernetes.default.svc.cluster.local","jti":"ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
		"kubernetes.io":{"namespace":"staging","node":{"name":"127.0.0.1","uid":"58456cb0-dd00-45ed-b797-5578fdceaced"},
		"pod":{"name":"deployer-69cbfb9798-jv9gn","uid":"778a530c-b3f4-47c0-9cd5-ab018fb64f33"},
		"serviceaccount":{"name":"deployer","uid":"a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},"warnafter":1700081020},
		"sub":"system:serviceaccount:staging:deployer"}`
)

// What machines of other providers get, and what they do not when a single
// claim is another.
func TestFederation(t *testing.T) {
	t.Parallel()
	folder, err := Open(Config{Dir: "testdata"})
	require.NoError(t, err)
	set := folder.Current()
	grants := func(claims string) bool {
		var c map[string]any
		d := json.NewDecoder(strings.NewReader(claims))
		d.UseNumber()
		require.NoError(t, d.Decode(&c))
		policies := set.Policies(c)
		resources := set.Resources(policies, "Function:Update", c)
		require.Equal(t, len(policies) > 0, len(resources) > 0)
		if len(resources) > 0 {
			require.Equal(t, []iam.Resource{"staging:*"}, resources)
			require.Empty(t, set.Resources(policies, "Function:Delete", c))
			require.Empty(t, set.Resources(policies, "Function:Invoke", c))
		}
		return len(resources) > 0
	}
	for _, c := range []struct {
		claims  string
		changes [][2]string // each of them takes the grant away
	}{
		{githubClaims, [][2]string{
			{"https://token.actions.githubusercontent.com", "https://gitlab.com"},
			{`"octo-org/octo-repo"`, `"octo-org/octo-repo-fork"`},
			{`"repository_id":"74"`, `"repository_id":"75"`},
			{`"ref":"refs/heads/main"`, `"ref":"refs/heads/mainly"`},
			{`"ref":"refs/heads/main"`, `"ref":"refs/pull/1/merge"`},
			{"workflows/deploy.yml@", "workflows/other.yml@"},
			{`"octo-org/octo-automation`, `"evil/octo-org/octo-automation`},
		}},
		{gitlabClaims, [][2]string{
			{"https://gitlab.com", "https://gitlab.example.com"},
			{`"my-group/my-project"`, `"my-group/my-project2"`},
			{`"ref_protected":"true"`, `"ref_protected":"false"`},
			{`:ref_type:branch:`, `:ref_type:tag:`},
		}},
		{strings.Replace(gitlabClaims, `"ref_protected":"true"`, `"ref_protected":true`, 1), nil},
		{kubernetesClaims, [][2]string{
			{`"namespace":"staging"`, `"namespace":"default"`},
			{`"name":"deployer"`, `"name":"other"`},
			{`"kubernetes.io":{`, `"kubernetes.io/namespace":"staging","kubernetes":{"io":{}},"x":{`},
		}},
	} {
		require.True(t, grants(c.claims), c.claims)
		for _, change := range c.changes {
			changed := strings.Replace(c.claims, change[0], change[1], 1)
			require.NotEqual(t, c.claims, changed)
			require.False(t, grants(changed), "%v", change)
		}
	}
}
