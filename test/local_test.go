package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/test/freeport"
)

// admin returns the Authorization header of the administrator.
func (g *gatewayUp) admin(t *testing.T) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(g.dir, ".gatehound/secrets/basic-auth-password"))
	require.NoError(t, err)
	return basicAuth("admin", strings.TrimSpace(string(password)))
}

// TestKilledGateway kills the gateway outright while functions are called, and
// starts it again: nothing runs on, and what was deployed is back.
func TestKilledGateway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := startUp(t, dir, []string{"port=" + freeport.Take()})
	as := g.admin(t)
	accepted := func(method, path, body string) {
		t.Helper()
		a := do(t, method, g.url+path, body, as)
		require.Less(t, a.status, 300, a.body)
	}
	accepted("POST", "/system/namespace/", `{"name":"dev","labels":{"openfaas":"1"}}`)
	accepted("POST", "/system/secrets", `{"name":"key","namespace":"dev","value":"hunter2"}`)
	accepted("POST", "/system/functions", `{"service":"say","namespace":"dev","image":"say","envProcess":"sh -c 'cat $file'",
		"envVars":{"mode":"serializing","file":"/var/openfaas/secrets/key"},"secrets":["key"],"labels":{"team":"a"}}`)
	accepted("POST", "/system/functions", `{"service":"asleep","image":"x","envProcess":"cat"}`)
	accepted("POST", "/system/scale-function/say?namespace=dev", `{"serviceName":"say","namespace":"dev","replicas":2}`)
	accepted("POST", "/system/scale-function/asleep", `{"serviceName":"asleep","replicas":0}`)
	require.Equal(t, "hunter2", get(t, g.url+"/function/say.dev").body)
	// All but what differs from start to start.
	list := func() (all []string) {
		t.Helper()
		for _, namespace := range []string{"dev", "openfaas-fn"} {
			var functions []map[string]any
			require.NoError(t, json.Unmarshal([]byte(get(t, g.url+"/system/functions?namespace="+namespace, as).body), &functions))
			for _, f := range functions {
				delete(f, "availableReplicas")
				delete(f, "invocationCount")
				all = append(all, fmt.Sprint(f))
			}
		}
		return all
	}
	before := list()
	require.Len(t, before, 5)

	runDir, err := os.Readlink(filepath.Join(dir, ".gatehound", "run"))
	require.NoError(t, err)
	var callers, begun sync.WaitGroup
	begun.Add(8)
	for range 8 {
		callers.Go(func() {
			begin := sync.OnceFunc(begun.Done)
			defer begin()
			for {
				res, err := http.Get(g.url + "/function/say.dev")
				if err != nil {
					return
				}
				res.Body.Close()
				begin()
			}
		})
	}
	begun.Wait()
	require.NoError(t, g.cmd.Process.Kill())
	<-g.exited
	callers.Wait()
	eventually(t, func() bool { return len(relatives(t, runDir)) == 0 }, "functions outlive their gateway")

	g = startUp(t, dir, nil)
	require.Equal(t, before, list())
	require.Equal(t, "hunter2", get(t, g.url+"/function/say.dev").body)
	require.Equal(t, "awake", do(t, "POST", g.url+"/function/asleep", "awake").body)
	require.NoDirExists(t, runDir)
}

// TestStackIsFollowed edits the stack file of a gateway that runs.
func TestStackIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stack := stackOf(t, dir, map[string]string{"one": "echo first", "two": "echo stays"})
	g := startUp(t, dir, nil, "-f", stack)
	require.Equal(t, "first\n", get(t, g.url+"/function/one").body)
	stackOf(t, dir, map[string]string{"one": "echo second", "three": "echo third"})
	eventually(t, func() bool { return get(t, g.url+"/function/one").body == "second\n" }, "the change is not in force")
	eventually(t, func() bool { return get(t, g.url+"/function/three").body == "third\n" }, "what was added is not there")
	eventually(t, func() bool { return get(t, g.url+"/function/two").status == 404 }, "what was taken out is still there")

	// The same on the next start, with the file changed meanwhile.
	g.cmd.Process.Signal(os.Interrupt)
	require.Zero(t, g.wait(t))
	stackOf(t, dir, map[string]string{"three": "echo 3"})
	g = startUp(t, dir, nil, "-f", stack)
	require.Equal(t, "3\n", get(t, g.url+"/function/three").body)
	require.Equal(t, 404, get(t, g.url+"/function/one").status)
}
