package browser

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// answers is a function that answers as its path says.
func answers(w http.ResponseWriter, r *http.Request) {
	switch kind, _ := strings.CutPrefix(r.URL.Path, "/"); kind {
	case "binary":
		for i := range 10_000 {
			_, _ = w.Write([]byte{byte(i)})
		}
	case "large":
		_, _ = fmt.Fprint(w, strings.Repeat("ü 1234567890\n", 200_000))
	case "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	case "html":
		_, _ = fmt.Fprint(w, `<script>document.title = "ran"</script>`)
	case "never":
		panic(http.ErrAbortHandler)
	default:
		if code, err := strconv.Atoi(kind); err == nil {
			w.WriteHeader(code)
		}
		_, _ = fmt.Fprint(w, "an answer")
	}
}

// TestFigures: what is shown of the last hour is what was called.
func TestFigures(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.runs(t, "answers", answers) // which calls it once, or more often
	p := g.sit(t)
	p.logsInByPassword()
	for _, code := range []int{201, 201, 302, 401, 404, 404, 404, 418, 429, 429, 500, 500, 503} {
		g.call(fmt.Sprintf("answers/%d", code))
	}
	const last = "503 Service Unavailable" // once that is counted, all are
	p.opens("/ui/functions/openfaas-fn/answers")
	p.waits(`document.body?.innerText.includes("`+last+`") || (document.readyState === "complete" && (location.reload(), false))`, "the calls are never shown")
	var legend map[string]string
	p.ask(`Object.fromEntries([...document.querySelectorAll(".chart:first-child .legend li")].map(li => [li.childNodes[1].data.trim(), li.querySelector("b").textContent]))`, &legend)
	ready, err := strconv.Atoi(legend["200 OK"])
	require.NoError(t, err)
	require.Positive(t, ready)
	require.Equal(t, map[string]string{
		"200 OK": legend["200 OK"], "201 Created": "2", "302 Found": "1", "404 Not Found": "3", "429 Too Many Requests": "2", "other 4xx": "2",
		"500 Internal Server Error": "2", last: "1",
	}, legend)
	p.sees(fmt.Sprintf("%d calls,", ready+13), "10 errors,")
	p.looks("figures")
	p.opens("/ui/")
	p.sees("upper")
	var cells []string
	row := `[...document.querySelectorAll("tbody tr")].find(tr => tr.cells[0].textContent === "answers")`
	p.ask(`[...`+row+`.cells].map(c => (c.dataset.label || "") + "=" + c.textContent.trim())`, &cells)
	require.Contains(t, cells, "Errors="+chartPercent(10, ready+13))
	require.Contains(t, strings.Join(cells, " "), " ms", "how long calls took")
}

// chartPercent writes a share as the pages do: three digits.
func chartPercent(part, whole int) string {
	return strconv.FormatFloat(float64(part*1000/whole)/10, 'f', -1, 64) + "%"
}

// TestAnswers: whatever a function answers, the page stays one that can be read.
func TestAnswers(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.runs(t, "answers", answers)
	p := g.sit(t)
	p.logsInByPassword()
	for path, want := range map[string][]string{
		"/404": {"404 Not Found", "an answer"}, "/204": {"204 No Content", "The body is empty."}, "/redirect": {"302 Found"},
		"/html": {`<script>document.title = "ran"</script>`}, "/never": {"500 Internal Server Error"},
		"/binary": {"not text", "Only its beginning is shown.", "00000010  10 11 12"}, "/large": {"1 MiB", "There is more", "ü 1234567890"},
	} {
		p.opens("/ui/functions/openfaas-fn/answers/invoke")
		p.fills("Path", path)
		p.fills("Body", "grüße")
		p.clicks("Invoke")
		p.sees(append(want, "Answer")...)
		var height int
		p.ask(`document.documentElement.scrollHeight`, &height)
		require.Less(t, height, 3000, path)
		p.waits(`document.title === "Invoke answers · gatehound"`, "the page has another title: "+path)
		if path == "/binary" {
			p.looks("invoke-binary")
		}
	}
}

// TestScale scales a function to nothing, has a call bring it back, and scales it up.
func TestScale(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.logsInByPassword()
	p.clicks("env")
	p.fills("Replicas", "0")
	p.clicks("Scale")
	p.sees("env is being scaled to 0.")
	replicas := func(want string) {
		t.Helper()
		deadline := time.Now().Add(patience / 2)
		for text := ""; !strings.Contains(text, want); p.ask(`document.body.innerText`, &text) {
			require.True(t, time.Now().Before(deadline), "never %s:\n%s", want, text)
			p.opens("/ui/functions/openfaas-fn/env")
		}
	}
	replicas("0 of 0 ready")
	p.clicks("Invoke")
	p.fills("Body", "x")
	p.clicks("Invoke")
	p.sees("Answer", "200 OK")
	replicas("1 of 1 ready")
	p.fills("Replicas", "2")
	p.clicks("Scale")
	p.sees("env is being scaled to 2.")
	replicas("2 of 2 ready")

	p.expect("status of 400")
	p.fills("Replicas", "100000")
	p.clicks("Scale")
	p.sees("too many")
	p.clicks("Delete")
	p.sees("Delete env in openfaas-fn?")
	p.clicks("Cancel")
	p.sees("2 of 2 ready")
}

// TestTwoWindows: who logs in again in one window loses nothing that they have typed
// in another, and nobody looks at pages after the logout.
func TestTwoWindows(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.logsInByPassword()
	other := p.another()
	other.opens("/ui/deploy")
	other.fills("Name", "typed")
	other.fills("Image", "typed-image")
	p.opens("/ui/me")
	p.clicks("Log out")
	p.sees("Log in")
	for range 2 {
		p.do(page.NavigateToHistoryEntry(p.before()))
		p.waits(`location.pathname === "/ui/login" && document.readyState === "complete"`, "the way back leads to a page")
	}
	p.logsInByPassword()
	other.clicks("Deploy")
	other.sees("Nothing was done")
	other.waits(`document.getElementById("name").value === "typed" && document.getElementById("image").value === "typed-image"`, "what was typed is lost")
	other.fills("Process", "cat")
	other.clicks("Deploy")
	other.sees("typed is being deployed.")
}

// before is the entry of the window's history before the one that is there.
func (p *person) before() (id int64) {
	p.Helper()
	p.do(chromedp.ActionFunc(func(ctx context.Context) error {
		current, entries, err := page.GetNavigationHistory().Do(ctx)
		if err == nil {
			id = entries[current-1].ID
		}
		return err
	}))
	return id
}

// TestRoles: who is refused is told which role would help.
func TestRoles(t *testing.T) {
	t.Parallel()
	g := start(t)
	objects := filepath.Join(g.dir, "iam", "deployers.yaml")
	loaded := 1
	deployer := func(subject string) {
		t.Helper()
		require.NoError(t, os.WriteFile(objects, []byte(strings.NewReplacer("ISSUER", g.issuer, "SUBJECT", subject).Replace(deployers)), 0o600))
		loaded++
		require.Eventually(t, func() bool { return strings.Count(g.stderr.String(), "iam: loaded") == loaded }, patience, 20*time.Millisecond)
	}
	deployer("somebody-else")
	p := g.sit(t)
	p.expect("status of 403")
	p.logsIn(member)
	p.opens("/ui/deploy")
	p.sees("Not authorized", "id2", "Ask to be given the role deployers")
	p.cannotSee("somebody-else")
	p.looks("forbidden-role")
	p.opens("/ui/secrets")
	p.sees("No role of this provider has it.")
	deployer("id2")
	p.opens("/ui/deploy")
	p.sees("Log in again: the role deployers now gives it to you.")
	p.clicks("Log out")
	p.waits(`location.pathname === "/ui/login"`, "does not come back from the provider's logout")
	p.logsIn(member)
	p.opens("/ui/deploy")
	p.sees("Callers need a token")
}

const deployers = `
apiVersion: iam.openfaas.com/v1
kind: Policy
metadata: {name: deploy, namespace: openfaas}
spec: {statement: [{sid: deploy, effect: Allow, action: ["Function:Create"], resource: ["openfaas-fn:*"]}]}
---
apiVersion: iam.openfaas.com/v1
kind: Role
metadata: {name: deployers, namespace: openfaas}
spec: {policy: [deploy], condition: {StringEqual: {"jwt:iss": ISSUER, "jwt:sub": SUBJECT}}}
`

// TestAsCommand: the page says what gateway iam explain says.
func TestAsCommand(t *testing.T) {
	t.Parallel()
	g := start(t)
	p := g.sit(t)
	p.logsInByPassword()
	claims := fmt.Sprintf(`{"iss": %q, "sub": "id2", "aud": "dashboard", "iat": %d, "exp": %d}`, g.issuer, time.Now().Unix(), time.Now().Add(time.Hour).Unix())
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, "claims.json"), []byte(claims), 0o600))
	for _, q := range []struct{ action, resource string }{{"Function:Invoke", "openfaas-fn:hello"}, {"Function:Invoke", "openfaas-fn:upper"}, {"Secret:List", "dev:key"}} {
		command := exec.Command(binary, "iam", "explain", "--iam-dir", "iam", "--claims", "claims.json", "--action", q.action, "--resource", q.resource)
		command.Dir = g.dir
		said, err := command.CombinedOutput()
		p.opens("/ui/iam")
		p.chooses("Action", q.action)
		p.fills("On", q.resource)
		p.fills("By whom", claims)
		p.clicks("Explain")
		p.sees("Decision", q.resource)
		var allowed bool
		p.ask(`document.querySelector("#decision ~ p .badge").textContent === "allowed"`, &allowed)
		require.Equal(t, err == nil, allowed, "%s", said)
		var reasons []string
		p.ask(`[...document.querySelectorAll("#decision ~ dl dd code")].map(c => c.textContent)`, &reasons)
		require.NotEmpty(t, reasons)
		for _, r := range reasons {
			require.Contains(t, string(said), r)
		}
	}
}

// TestFocus goes through the pages with the Tab key: one sees where one is, and
// comes to the end of each.
func TestFocus(t *testing.T) {
	t.Parallel()
	p := start(t).sit(t)
	p.logsInByPassword()
	const env = "/ui/functions/openfaas-fn/env"
	for path, last := range map[string]string{
		"/ui/": "upper", env: "Figures", env + "/invoke": "Invoke", env + "/logs": "Logs of env", env + "/delete": "Cancel",
		"/ui/deploy": "Cancel", "/ui/secrets": "Create", "/ui/iam": "Explain", "/ui/me": "Log out everywhere",
	} {
		p.opens(path)
		p.waits(`document.readyState === "complete" && document.activeElement === document.body`, "the page is never there")
		before, end := "", false
		for range 50 {
			var at []string
			p.do(chromedp.KeyEvent(kb.Tab))
			p.ask(`(e => e === document.body ? [] : [e.getAttribute("aria-label") || e.textContent.trim() || e.id, getComputedStyle(e).outlineStyle,
				String(e.getBoundingClientRect().top >= 0 && e.getBoundingClientRect().top < innerHeight)])(document.activeElement)`, &at)
			if end = len(at) == 0; end {
				break
			}
			require.Equal(t, []string{"solid", "true"}, at[1:], "%s: %s", path, at[0])
			before = at[0]
		}
		require.True(t, end, "%s: after %s there is no end", path, before)
		require.Equal(t, last, before, path)
	}

	// An arrow key is a choice, and not yet the way to what was chosen.
	p.opens("/ui/?namespace=empty")
	p.sees("There are no functions here yet")
	p.do(chromedp.Focus("#namespace", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowDown))
	p.waits(`document.querySelector("#namespace").value === "openfaas-fn"`, "nothing was chosen")
	p.do(chromedp.KeyEvent(kb.Tab))
	p.sees("There are no functions here yet")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.sees("upper")
	p.ask(`document.querySelector("#namespace").value = "openfaas-fn"; document.querySelector("#namespace").dispatchEvent(new Event("change")); 0`, nil)
	p.waits(`location.search === "?namespace=openfaas-fn" && document.readyState === "complete"`, "a choice by mouse shows nothing")
}
