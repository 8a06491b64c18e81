package test

import (
	"encoding/json"
	"os/exec"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/gatehound/gatehound/"

// allowed says which of our packages a package may import. "x/..." stands for
// x and everything below it. A package that is not listed may not exist.
var allowed = map[string][]string{
	"config":                 nil,
	"executor/reverseproxy":  nil,
	"executor":               {"config", "executor/reverseproxy"},
	"auth/iam":               nil,
	"auth/iam/store":         {"auth/iam"},
	"auth/jwks":              nil,
	"auth":                   {"auth/jwks", "auth/iam"},
	"auth/authhttp":          {"auth"},
	"auth/authfast":          {"auth"},
	"auth/webhook":           nil,
	"auth/login":             nil,
	"auth/cmd/pro":           {"auth/login", "config"},
	"watchdog":               {"auth", "auth/jwks", "auth/webhook", "executor", "executor/reverseproxy", "config"},
	"watchdog/cmd/fwatchdog": {"watchdog"},

	"auth/iam/store/kubernetes": {"auth/iam", "auth/iam/store"},

	"exchange/issuer": nil,
	"exchange":        {"exchange/issuer", "auth", "auth/iam", "auth/jwks"},

	"gateway":                   {"auth", "auth/iam", "config", "exchange", "exchange/issuer", "executor/reverseproxy", "gateway/basicauth", "gateway/events", "gateway/history", "gateway/program", "gateway/provider"},
	"gateway/basicauth":         nil,
	"gateway/dashboard":         {"auth", "auth/iam", "auth/login", "config", "exchange", "gateway/basicauth", "gateway/dashboard/chart", "gateway/history"},
	"gateway/dashboard/chart":   {"gateway/history"},
	"gateway/devidp":            {"exchange/issuer"},
	"gateway/events":            nil,
	"gateway/federated":         {"auth", "auth/jwks", "executor/reverseproxy", "gateway/basicauth", "gateway/program"},
	"gateway/history":           nil,
	"gateway/program":           {"executor/reverseproxy"},
	"gateway/provider":          {"executor/reverseproxy"},
	"gateway/provider/local":    {"config", "executor/reverseproxy", "gateway/provider"},
	"gateway/provider/upstream": {"executor/reverseproxy", "gateway/provider"},
	"gateway/quickstart":        nil,
	"gateway/cmd/gateway":       {"auth", "auth/iam", "auth/iam/store/...", "auth/login", "config", "exchange/...", "executor/reverseproxy", "gateway/...", "watchdog"},

	"gateway/cmd/federated-gateway": {"auth/jwks", "config", "exchange", "executor/reverseproxy", "gateway/basicauth", "gateway/federated", "gateway/program"},

	"benchmarks":         {"benchmarks/issuer", "benchmarks/measure", "test/freeport"},
	"benchmarks/issuer":  nil,
	"benchmarks/measure": nil,
	"benchmarks/auth":    {"benchmarks/issuer", "benchmarks/measure", "watchdog"},
	"benchmarks/soak":    {"benchmarks/issuer", "benchmarks/measure"}, // net/http on purpose: it must not share a mistake with what it tests

	"test":          nil,
	"test/freeport": nil,
}

// forbidden says which modules a package may not need, however indirectly.
var forbidden = map[string][]string{
	"auth":                   {"github.com/valyala/fasthttp"},
	"auth/iam/store":         {"k8s.io/"},
	"auth/authhttp":          {"github.com/valyala/fasthttp"},
	"gateway/events":         {"github.com/valyala/fasthttp"},
	"exchange":               {"github.com/valyala/fasthttp"},
	"watchdog/cmd/fwatchdog": {"github.com/spf13/cobra", "github.com/lestrrat-go/", "sigs.k8s.io/", "k8s.io/", "go.yaml.in/yaml/v3", "github.com/nats-io/", "github.com/fsnotify/", "github.com/prometheus/", "google.golang.org/protobuf", module + "gateway", module + "exchange", module + "auth/login"},
	// The policy language is pure: no files, no network.
	"auth/webhook": {"net/http", "os/exec", "github.com/valyala/fasthttp"},
	"auth/iam":     {"net/http", "os/exec", "github.com/fsnotify/", "sigs.k8s.io/"},
}

// testHelpers may not be needed by anything that is not a test.
var testHelpers = []string{"testing", "github.com/stretchr/", "github.com/rogpeppe/", "github.com/golang-jwt/", "github.com/coder/websocket", "net/http/httptest"}

func TestDependencyDirection(t *testing.T) {
	t.Parallel()
	type pkg struct {
		ImportPath    string
		Imports, Deps []string
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "../...").Output()
	require.NoError(t, err)
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		require.NoError(t, d.Decode(&p))
		name := strings.TrimPrefix(p.ImportPath, module)
		permitted, listed := allowed[name]
		if !listed {
			t.Errorf("package %s is new: say in this test what it may import", name)
		}
		seen++
		for _, i := range p.Imports {
			if ours, is := strings.CutPrefix(i, module); is && !matchesAny(ours, permitted) {
				t.Errorf("%s may not import %s", name, ours)
			}
		}
		for _, dep := range p.Deps {
			for _, f := range append(forbidden[name], testHelpers...) {
				if dep == f || strings.HasPrefix(dep, strings.TrimSuffix(f, "/")+"/") {
					t.Errorf("%s may not need %s", name, dep)
				}
			}
		}
	}
	require.Equal(t, len(allowed), seen, "every package listed in this test exists")
}

func matchesAny(name string, patterns []string) bool {
	for _, p := range patterns {
		if base, below := strings.CutSuffix(p, "/..."); below && (name == base || strings.HasPrefix(name, base+"/")) {
			return true
		}
		if path.Clean(p) == name {
			return true
		}
	}
	return false
}
