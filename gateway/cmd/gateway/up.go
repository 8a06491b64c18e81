package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/devidp"
	"github.com/gatehound/gatehound/gateway/quickstart"
)

// The development identity provider's files: in data_dir, and the last one in
// iam_dir.
const (
	developmentKey    = "dev-idp.key"
	developmentIssuer = "dev-idp.url"
	trustFile         = "dev-idp.yaml"
)

// development is what `up` adds to a plain gateway: an identity provider that
// trusts everybody, and functions even without a stack file.
type development struct {
	out io.Writer // takes what a person should read
}

func up() *cobra.Command {
	var stackFile string
	c := &cobra.Command{
		Use:   "up [-f stack.yml]",
		Short: "Run the functions of a stack.yml here, with everything to call them",
		Long: "Runs a gateway with development defaults: the functions of a stack file as local\n" +
			"processes, and an identity provider that gives anybody an ID token, on loopback.\n" +
			"State is kept in data_dir (.gatehound). Ctrl-C stops everything.\n\n" +
			"The environment variables that set all else are in `gateway --help`.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Getenv("functions_provider_url") != "" {
				return errors.New("`gateway up` runs functions itself: unset functions_provider_url, or start `gateway` without up")
			}
			environ := os.Environ()
			if stackFile != "" {
				environ = append(environ, "stack_file="+stackFile)
			}
			return run(environ, &development{out: c.OutOrStdout()})
		},
	}
	c.Flags().StringVarP(&stackFile, "file", "f", "", "stack.yml to run (default $stack_file, else env, hello and upper)")
	return c
}

// prepare makes the identity provider and has the gateway trust it: its
// JwtIssuer is written anew at every start, because its URL has the port in
// it. The sample of roles and policies is written into an empty folder alone,
// and is the user's from then on.
func (d *development) prepare(settings config.Gateway, self string) (documents map[string][]byte, err error) {
	url := self + devidp.Path
	if settings.PrimaryIssuer == url {
		return nil, fmt.Errorf("primary_issuer: %s is the development identity provider, which has no page to log in at: want another provider, "+
			"or unset it and log in at the dashboard as the administrator", url)
	}
	idp, err := devidp.New(filepath.Join(settings.DataDir, developmentKey), url)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(settings.IAMDir, 0o700); err != nil {
		return nil, fmt.Errorf("iam_dir: %w", err)
	}
	if entries, err := os.ReadDir(settings.IAMDir); err != nil {
		return nil, fmt.Errorf("iam_dir: %w", err)
	} else if len(entries) == 0 {
		if err := writeFile(filepath.Join(settings.IAMDir, "sample.yaml"), quickstart.IAM); err != nil {
			return nil, fmt.Errorf("iam_dir: %w", err)
		}
	}
	trust := fmt.Sprintf(`# Written by "gateway up" at every start: changes to this file are lost.
apiVersion: iam.openfaas.com/v1
kind: JwtIssuer
metadata:
  name: dev-idp
  namespace: openfaas
spec:
  iss: %s
  aud:
  - %s
  tokenExpiry: 30m
`, url, devidp.Audience)
	if err := writeFile(filepath.Join(settings.IAMDir, trustFile), []byte(trust)); err != nil {
		return nil, fmt.Errorf("iam_dir: %w", err)
	}
	if err := writeFile(filepath.Join(settings.DataDir, developmentIssuer), []byte(url+"\n")); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return idp.Documents(), nil
}

// forgetDevelopment readies the IAM folder for a gateway that is not in `up`
// mode: it must not trust an identity provider that trusts everybody.
func forgetDevelopment(settings config.Gateway, log zerolog.Logger) error {
	if settings.GenerateIAM {
		if err := os.MkdirAll(settings.IAMDir, 0o700); err != nil {
			return fmt.Errorf("iam_dir: %w", err)
		}
	}
	path := filepath.Join(settings.IAMDir, trustFile)
	// Looked for first: where the folder is mounted read-only, as a ConfigMap
	// is, even removing what is not there fails.
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("iam_dir: it trusts the development identity provider, and that cannot be taken out: %w", err)
	}
	log.Warn().Msgf("removed %s: the development identity provider is for `gateway up` alone", path)
	return nil
}

// announce prints what runs and commands to try it with.
func (d *development) announce(functions []types.FunctionDeployment, settings config.Gateway, self string) {
	var b strings.Builder
	fmt.Fprintf(&b, "\ngatehound is up at %s\n\n", self)
	var secured, securedPath string // the first one that is
	for _, f := range functions {
		name := f.Service
		if f.Namespace != settings.FunctionNamespace {
			name += "." + f.Namespace
		}
		access := "for everybody"
		signed := f.EnvVars["hmac_auth"] != ""
		if signed {
			access = "with a signature"
		}
		if protected, _ := strconv.ParseBool(f.EnvVars["jwt_auth"]); protected {
			access = "with a function token"
			if signed {
				access = "with token or signature"
			}
			if secured == "" {
				secured, securedPath = f.Namespace+":"+f.Service, name
			}
		}
		fmt.Fprintf(&b, "  %-15s %-23s %s/function/%s\n", name, access, self, name)
	}
	b.WriteString("\n")
	if settings.Dashboard {
		fmt.Fprintf(&b, "  %-15s %s/ui/\n", "dashboard", strings.TrimSuffix(cmp.Or(publicURL(settings), self), "/"))
	}
	fmt.Fprintf(&b, "  %-15s %s\n", "IAM objects", filepath.Join(settings.IAMDir, "*.yaml"))
	if settings.BasicAuth && settings.AuthProxyURL == nil {
		fmt.Fprintf(&b, "  %-15s %s\n", "admin password", filepath.Join(settings.SecretMountPath, "basic-auth-password"))
	}
	if secured != "" {
		fmt.Fprintf(&b, `
Try it in a second terminal, in this folder:

ID_TOKEN=$(%[1]s id-token --sub alice)

TOKEN=$(curl -s %[2]s/oauth/token \
  --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
  --data-urlencode subject_token_type=urn:ietf:params:oauth:token-type:id_token \
  --data-urlencode subject_token=$ID_TOKEN \
  --data-urlencode scope=function --data-urlencode audience=%[3]s |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/')

curl -i %[2]s/function/%[4]s
curl -i %[2]s/function/%[4]s -H "Authorization: Bearer $TOKEN"

`, programName(settings), self, secured, securedPath)
	}
	_, _ = io.WriteString(d.out, b.String())
}

// programName returns how to call this program from the same folder.
func programName(settings config.Gateway) string {
	name := os.Args[0]
	if executable, err := os.Executable(); err == nil && strings.Contains(executable, "go-build") {
		if _, err := os.Stat("gateway/cmd/gateway"); err == nil {
			name = "go run ./gateway/cmd/gateway"
		}
	}
	if os.Getenv("data_dir") != "" {
		name = fmt.Sprintf("data_dir='%s' %s", settings.DataDir, name)
	}
	return name
}
