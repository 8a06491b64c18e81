// Command federated-gateway lets the bearers of one OpenID provider's tokens
// administer the OpenFaaS gateway beside it. Its settings are environment
// variables.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/config"
)

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "federated-gateway:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	release, revision := config.Version()
	c := &cobra.Command{
		Use:   "federated-gateway",
		Short: "Lets one OpenID provider's tokens administer the OpenFaaS gateway beside it",
		Long: "Lets one OpenID provider's tokens administer the OpenFaaS gateway beside it.\n\n" +
			environmentHelp,
		Version:       release + " (" + revision + ")",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(*cobra.Command, []string) error { return run(os.Environ()) },
	}
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

const environmentHelp = `Environment (durations as in 30s, or whole seconds):
  issuer                                          OpenID provider, exactly as in its tokens' iss
  audience                                        what must be in its tokens' aud
  secret_mount_path                               basic-auth-user, basic-auth-password of the gateway
  gateway_url       http://gateway.openfaas:8080  the local gateway
  allow_invoke      false                         /function/ and /async-function/, too
  port              8080                          port to listen on; 0 takes a free one
  listen                                          host:port instead of port
  metrics_port      8082                          /metrics and /healthz; 0 turns them off
  ca_bundle_path                                  PEM file of CAs for the provider, besides the system's
  insecure_tls      false                         do not check the provider's certificate
  read_timeout      60s                           reading one request
  write_timeout     60s                           one write to a client; draining calls at shutdown
  upstream_timeout  60s                           waiting for the local gateway
  log_encoding      console                       or json
  debug             false                         log every request`
