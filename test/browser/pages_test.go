package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestFunctionsLife deploys a function, changes, scales and deletes it.
func TestFunctionsLife(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.expect("status of 400")
	p.logsInByPassword()
	p.opens("/ui/deploy")
	p.sees("Deploy a function")
	p.looks("deploy")
	p.fills("Name", "Shout It")
	p.fills("Image", "test/shout")
	p.fills("Process", "tr a-z A-Z")
	p.fills("Environment", "mode=serializing")
	p.fills("Annotations", "com.openfaas.git-repo-url=https://git.example.com/shout")
	p.do(chromedp.Click("#jwt_auth", chromedp.ByQuery))
	p.clicks("Deploy")
	p.sees("Want lower case letters")
	p.waits(`document.getElementById("process").value === "tr a-z A-Z" && document.getElementById("jwt_auth").checked`, "what was typed is lost")
	p.looks("deploy-wrong")
	p.fills("Name", "shout")
	p.clicks("Deploy")
	p.sees("shout is being deployed.", "needs a token", "https://git.example.com/shout", "No calls in the last hour.")
	p.looks("deployed")

	p.opens("/ui/functions/openfaas-fn/shout/change")
	p.sees("Change shout")
	p.fills("Process", "tr a-z b-za")
	p.looks("change")
	p.clicks("Save")
	p.sees("shout is being updated.", "tr a-z b-za")
	p.fills("Replicas", "0")
	p.clicks("Scale")
	p.sees("shout is being scaled to 0.")
	p.opens("/ui/functions/openfaas-fn/shout/delete")
	p.sees("Delete shout in openfaas-fn?")
	p.looks("delete")
	p.clicks("Delete shout")
	p.sees("shout was deleted.", "upper")
	p.opens("/ui/")
	p.cannotSee("shout")
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.logsInByPassword()
	p.clicks("Secrets")
	p.sees("There are no secrets here", "A new secret")
	p.fills("Name", "api-key")
	p.fills("Value", "tell-nobody")
	p.clicks("Create")
	p.waits(`[...document.querySelectorAll("tbody th")].some(th => th.textContent === "api-key")`, "the secret is not listed")
	var html string
	p.ask(`document.documentElement.outerHTML`, &html)
	if !strings.Contains(html, "api-key") || strings.Contains(html, "tell-nobody") {
		t.Error("the secret is told")
	}
	p.looks("secrets")
}

// TestMember: what is not granted is not offered, and refused all the same.
func TestMember(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.expect("status of 403")
	p.logsIn(member)
	p.sees("hello")
	p.cannotSee("Deploy")
	p.clicks("hello")
	p.sees("Called at")
	p.cannotSee("Scale", "Delete", "Change")
	p.opens("/ui/deploy")
	p.sees("Not authorized", "Function:Create")
}

// TestDraft: what was typed outlives the session, and is sent by nobody but the
// person.
func TestDraft(t *testing.T) {
	t.Parallel()
	const lifetime = 10 * time.Second
	g := start(t, "oauth_scopes=openid") // no refresh token
	objects := filepath.Join(g.dir, "iam", "people.yaml")
	before, err := os.ReadFile(objects)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(objects, []byte(strings.Replace(string(before), "30m", lifetime.String(), 1)), 0o600))
	require.Eventually(t, func() bool { return strings.Count(g.stderr.String(), "iam: loaded") == 2 }, patience, 20*time.Millisecond)
	p := g.sit(t)
	p.logsIn(member)
	end := time.Now().Add(lifetime)
	p.opens("/ui/functions/openfaas-fn/hello/invoke")
	p.fills("Path", "/typed")
	p.fills("Body", "a long text")
	time.Sleep(time.Until(end))
	p.clicks("Invoke")
	p.sees("Your session has ended.")
	p.looks("login-ended")
	p.do(chromedp.Click(`a[href^="/ui/login/provider"]`, chromedp.ByQuery))
	p.atProvider(member)
	p.sees("Your session had ended", "Nothing was done")
	p.waits(`document.getElementById("path").value === "/typed" && document.getElementById("body").value === "a long text"`, "what was typed is lost")
	p.cannotSee("Answer")
}

// TestInvoke calls a function that wants a token with one that is exchanged for it.
func TestInvoke(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.logsIn(member)
	p.sees("hello")
	p.clicks("hello")
	p.clicks("Invoke")
	p.sees("Invoke hello", "Send a function token")
	p.chooses("Method", "PUT")
	p.fills("Path", "/x?y=1")
	p.fills("Body", "<b>hello</b>")
	p.looks("invoke")
	p.clicks("Invoke")
	p.sees("Answer", "200", "Hello! You sent PUT /x?y=1", "a function token")
	p.waits(`document.getElementById("body").value === "<b>hello</b>" && document.getElementById("method").value === "PUT"`, "what was typed is lost")
	p.looks("invoke-answer")
	p.do(chromedp.Click("#token", chromedp.ByQuery))
	p.clicks("Invoke")
	p.sees("401")
}

// TestWhy has a decision explained.
func TestWhy(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.logsIn(member)
	p.clicks("Why?")
	p.chooses("Action", "Function:Invoke")
	p.fills("On", "openfaas-fn:hello")
	p.clicks("Explain")
	p.sees("Decision", "by you", "grants it")
	p.cannotSee("not allowed")
	p.looks("why")
	p.fills("On", "openfaas-fn:upper")
	p.clicks("Explain")
	p.sees("not allowed", "does not grant it")
	p.looks("why-not")
	p.cannotSee("By whom")

	admin := g.sit(t)
	admin.logsInByPassword()
	admin.clicks("Why?")
	admin.fills("By whom", `{"sub": "id1", "aud": "dashboard", "iss": "`+g.issuer+`"}`)
	admin.clicks("Explain")
	admin.sees("not allowed", "members", "does not match")
}

// TestLogs sees what a function writes while it writes it.
func TestLogs(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.logsInByPassword()
	p.clicks("upper")
	p.clicks("Logs")
	p.sees("Logs of upper", "Live", "401 Unauthorized")
	lines := `document.querySelector("pre.log").innerText.split("401 Unauthorized").length - 1`
	var before int
	p.ask(lines, &before)
	g.call("upper")
	p.waits(fmt.Sprintf("%s === %d", lines, before+1), "the new line never comes")
	p.looks("logs")
	p.clicks("Pause")
	g.call("upper")
	p.sees("Paused")
	p.clicks("Go on")
	p.waits(fmt.Sprintf("%s === %d", lines, before+2), "what came while it was paused is lost")
}
