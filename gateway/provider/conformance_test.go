package provider_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	"github.com/stretchr/testify/require"

	"github.com/gatehound/gatehound/gateway/provider"
)

// conformance is what holds for every provider. open returns one that runs and
// has no function, no secret and no namespace "dev" or "prod" yet. What it is
// asked to run is `cat` in the mode serializing.
func conformance(t *testing.T, open func(t *testing.T) provider.Provider) {
	for name, test := range map[string]func(*testing.T, provider.Provider){
		"lifecycle":  lifecycle,
		"metadata":   metadata,
		"absent":     absent,
		"call":       call,
		"scale":      scale,
		"namespaces": namespaces,
		"apart":      apart,
		"secrets":    secrets,
		"logs":       functionLogs,
		"info":       info,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

var (
	devEcho  = provider.Function{Namespace: "dev", Name: "echo"}
	prodEcho = provider.Function{Namespace: "prod", Name: "echo"}
)

// deployment is the least that runs.
func deployment(f provider.Function) types.FunctionDeployment {
	return types.FunctionDeployment{
		Service: f.Name, Namespace: f.Namespace, Image: "echo:1",
		EnvProcess: "cat", EnvVars: map[string]string{"mode": "serializing"},
	}
}

func createNamespace(t *testing.T, p provider.Provider, name string) {
	t.Helper()
	// As OpenFaaS' SDK does it.
	mark := map[string]string{"openfaas": "1"}
	require.NoError(t, p.CreateNamespace(t.Context(), types.FunctionNamespace{Name: name, Labels: mark, Annotations: mark}))
}

func deploy(t *testing.T, p provider.Provider, d types.FunctionDeployment) {
	t.Helper()
	require.NoError(t, p.Deploy(t.Context(), d))
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 10*time.Millisecond, what)
}

// refused reports whether err is the provider's own refusal, and its status.
func refused(err error) (status int, ok bool) {
	var e *provider.Error
	if !errors.As(err, &e) || e.Message == "" || e.Status < 400 || e.Status > 599 {
		return 0, false
	}
	return e.Status, true
}

func names(functions []types.FunctionStatus) []string {
	all := []string{}
	for _, f := range functions {
		all = append(all, f.Name+"."+f.Namespace)
	}
	return all
}

func lifecycle(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "dev")
	functions, err := p.List(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, []types.FunctionStatus{}, functions, "a list and not null")

	deploy(t, p, deployment(provider.Function{Namespace: "dev", Name: "zebra"}))
	deploy(t, p, deployment(devEcho))
	functions, err = p.List(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, []string{"echo.dev", "zebra.dev"}, names(functions))
	endpoint, err := p.Endpoint(ctx, devEcho)
	require.NoError(t, err)
	require.NotNil(t, endpoint.Upstream)
	eventually(t, "it becomes available", func() bool {
		s, err := p.Status(ctx, devEcho, true)
		return err == nil && s.Replicas == 1 && s.AvailableReplicas == 1
	})

	changed := deployment(devEcho)
	changed.Image = "echo:2"
	require.NoError(t, p.Update(ctx, changed))
	eventually(t, "the update is in force", func() bool {
		s, err := p.Status(ctx, devEcho, false)
		return err == nil && s.Image == "echo:2"
	})

	require.NoError(t, p.Delete(ctx, devEcho))
	eventually(t, "it is gone", func() bool {
		_, err := p.Status(ctx, devEcho, false)
		return errors.Is(err, provider.ErrNotFound)
	})
	_, err = p.Endpoint(ctx, devEcho)
	require.ErrorIs(t, err, provider.ErrNotFound)
	functions, err = p.List(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, []string{"zebra.dev"}, names(functions))
	deploy(t, p, deployment(devEcho)) // the name is free again
}

func metadata(t *testing.T, p provider.Provider) {
	createNamespace(t, p, "dev")
	d := deployment(devEcho)
	d.Labels = &map[string]string{"team": "a"}
	d.Annotations = &map[string]string{"topic": "cron"}
	d.Limits = &types.FunctionResources{Memory: "64Mi", CPU: "100m"}
	d.Requests = &types.FunctionResources{Memory: "32Mi"}
	d.EnvVars["greeting"] = "hi"
	deploy(t, p, d)
	check := func(s types.FunctionStatus) {
		t.Helper()
		require.Equal(t, "echo", s.Name)
		require.Equal(t, "dev", s.Namespace)
		require.Equal(t, d.Image, s.Image)
		require.Equal(t, d.EnvProcess, s.EnvProcess)
		require.NotNil(t, s.Labels)
		require.Equal(t, "a", (*s.Labels)["team"])
		require.NotNil(t, s.Annotations)
		require.Equal(t, "cron", (*s.Annotations)["topic"])
		require.Equal(t, d.Limits, s.Limits)
		require.Equal(t, d.Requests, s.Requests)
		require.Equal(t, "hi", s.EnvVars["greeting"])
		require.WithinDuration(t, time.Now(), s.CreatedAt, time.Minute)
	}
	s, err := p.Status(t.Context(), devEcho, false)
	require.NoError(t, err)
	check(s)
	functions, err := p.List(t.Context(), "dev")
	require.NoError(t, err)
	require.Len(t, functions, 1)
	check(functions[0])
}

// absent: what is not there is ErrNotFound, whatever is wanted of it.
func absent(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "dev")
	status := func(f provider.Function) error { _, err := p.Status(ctx, f, false); return err }
	for name, err := range map[string]error{
		"status":                      status(devEcho),
		"status in no namespace":      status(prodEcho),
		"update":                      p.Update(ctx, deployment(devEcho)),
		"delete":                      p.Delete(ctx, devEcho),
		"scale":                       p.Scale(ctx, devEcho, 2),
		"update secret":               p.UpdateSecret(ctx, types.Secret{Namespace: "dev", Name: "s", Value: "v"}),
		"delete secret":               p.DeleteSecret(ctx, "dev", "s"),
		"namespace":                   func() error { _, err := p.Namespace(ctx, "prod"); return err }(),
		"update namespace":            p.UpdateNamespace(ctx, types.FunctionNamespace{Name: "prod"}),
		"delete namespace":            p.DeleteNamespace(ctx, "prod"),
		"logs of what is not there":   p.Logs(ctx, logs.Request{Namespace: "dev", Name: "echo"}, func(logs.Message) error { return nil }),
		"endpoint of what is no more": func() error { _, err := p.Endpoint(ctx, devEcho); return err }(),
	} {
		require.ErrorIs(t, err, provider.ErrNotFound, name)
	}
	_, ready := p.Ready(devEcho)
	require.False(t, ready)
}

func scale(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "dev")
	deploy(t, p, deployment(devEcho))
	for _, n := range []uint64{3, 0, 1} {
		require.NoError(t, p.Scale(ctx, devEcho, n))
		eventually(t, "the replicas are as wanted", func() bool {
			s, err := p.Status(ctx, devEcho, false)
			return err == nil && s.Replicas == n && s.AvailableReplicas == n
		})
	}
}

// call goes through our gateway to the function.
func call(t *testing.T, p provider.Provider) {
	createNamespace(t, p, "dev")
	deploy(t, p, deployment(devEcho))
	target := startGateway(t, p).String() + "/function/echo.dev"
	eventually(t, "it never answers", func() bool {
		res, err := http.Post(target, "text/plain", strings.NewReader("moo"))
		require.NoError(t, err)
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode == http.StatusOK && string(answer) == "moo"
	})
	endpoint, err := p.Endpoint(t.Context(), devEcho)
	require.NoError(t, err)
	known, ready := p.Ready(devEcho)
	require.True(t, ready)
	require.True(t, endpoint == known, "%+v, %+v", endpoint, known)

	require.NoError(t, p.Delete(t.Context(), devEcho))
	_, ready = p.Ready(devEcho)
	require.False(t, ready)
	eventually(t, "it answers though it is gone", func() bool {
		res, err := http.Post(target, "text/plain", strings.NewReader("moo"))
		require.NoError(t, err)
		res.Body.Close()
		return res.StatusCode == http.StatusNotFound
	})
}

func namespaces(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "prod")
	createNamespace(t, p, "dev")
	all, err := p.Namespaces(ctx)
	require.NoError(t, err)
	require.IsIncreasing(t, all)
	require.Subset(t, all, []string{"dev", "prod"})

	status, ok := refused(p.CreateNamespace(ctx, types.FunctionNamespace{Name: "dev"}))
	require.True(t, ok, "making it twice is refused")
	require.Less(t, status, 500)

	n, err := p.Namespace(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, "dev", n.Name)
	require.NoError(t, p.UpdateNamespace(ctx, types.FunctionNamespace{Name: "dev",
		Labels: map[string]string{"openfaas": "1", "team": "a"}, Annotations: map[string]string{"openfaas": "1", "note": "b"}}))
	n, err = p.Namespace(ctx, "dev")
	require.NoError(t, err)
	require.Equal(t, "a", n.Labels["team"])
	require.Equal(t, "b", n.Annotations["note"])

	require.NoError(t, p.DeleteNamespace(ctx, "prod"))
	eventually(t, "the namespace is gone", func() bool {
		_, err := p.Namespace(ctx, "prod")
		return errors.Is(err, provider.ErrNotFound)
	})
}

// apart: one name in two namespaces is two functions, and two secrets.
func apart(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "dev")
	createNamespace(t, p, "prod")
	for _, f := range []provider.Function{devEcho, prodEcho} {
		d := deployment(f)
		d.Image = "of-" + f.Namespace
		deploy(t, p, d)
		require.NoError(t, p.CreateSecret(ctx, types.Secret{Namespace: f.Namespace, Name: "s", Value: "v"}))
	}
	all, err := p.List(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []string{"echo.dev", "echo.prod"}, names(all))
	require.NoError(t, p.Delete(ctx, devEcho))
	require.NoError(t, p.DeleteSecret(ctx, "dev", "s"))
	s, err := p.Status(ctx, prodEcho, false)
	require.NoError(t, err)
	require.Equal(t, "of-prod", s.Image)
	left, err := p.Secrets(ctx, "prod")
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func secrets(t *testing.T, p provider.Provider) {
	ctx := t.Context()
	createNamespace(t, p, "dev")
	s := types.Secret{Namespace: "dev", Name: "api-key", Value: "hunter2"}
	require.NoError(t, p.CreateSecret(ctx, s))
	status, ok := refused(p.CreateSecret(ctx, s))
	require.True(t, ok, "making it twice is refused")
	require.Less(t, status, 500)
	require.NoError(t, p.CreateSecret(ctx, types.Secret{Namespace: "dev", Name: "raw", RawValue: []byte{0, 1}}))

	all, err := p.Secrets(ctx, "dev")
	require.NoError(t, err)
	require.ElementsMatch(t, []types.Secret{{Namespace: "dev", Name: "api-key"}, {Namespace: "dev", Name: "raw"}}, all, "without values")

	s.Value = "hunter3"
	require.NoError(t, p.UpdateSecret(ctx, s))
	require.NoError(t, p.DeleteSecret(ctx, "dev", "raw"))
	all, err = p.Secrets(ctx, "dev")
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func functionLogs(t *testing.T, p provider.Provider) {
	createNamespace(t, p, "dev")
	deploy(t, p, deployment(devEcho))
	var lines []logs.Message
	eventually(t, "it has said something", func() bool {
		lines = nil
		err := p.Logs(t.Context(), logs.Request{Namespace: "dev", Name: "echo"}, func(m logs.Message) error {
			lines = append(lines, m)
			return nil
		})
		return err == nil && len(lines) > 0
	})
	require.Equal(t, "echo", lines[0].Name)
	require.Equal(t, "dev", lines[0].Namespace)
	require.NotEmpty(t, lines[0].Text)

	enough := errors.New("enough")
	require.ErrorIs(t, p.Logs(t.Context(), logs.Request{Namespace: "dev", Name: "echo", Follow: true}, func(logs.Message) error { return enough }), enough)

	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	began := make(chan struct{}, 1)
	go func() {
		followed <- p.Logs(ctx, logs.Request{Namespace: "dev", Name: "echo", Follow: true, Tail: 1}, func(logs.Message) error {
			select {
			case began <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	<-began
	cancel()
	if err := <-followed; err != nil { // and it does end
		require.ErrorIs(t, err, context.Canceled)
	}
}

func info(t *testing.T, p provider.Provider) {
	i, err := p.Info(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, i.Name)
	require.NotEmpty(t, i.Orchestration)
	require.NotNil(t, i.Version)
}
