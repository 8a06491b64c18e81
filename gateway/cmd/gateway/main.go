// Command gateway is gatehound's API gateway. Started under the name fwatchdog
// or hello it is that program instead, so that one binary is enough to run
// functions on one machine.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/quickstart"
	"github.com/gatehound/gatehound/watchdog"
)

func main() {
	// In a container, the functions' orphans are for process 1 to wait for.
	if status, ok := watchdog.Init(os.Args, os.Environ()); ok {
		os.Exit(status)
	}
	var err error
	switch filepath.Base(os.Args[0]) {
	case "fwatchdog":
		os.Exit(watchdog.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	case "hello":
		err = quickstart.Hello()
	default:
		err = root().Execute()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "gateway",
		Short: "The gatehound API gateway: functions, and tokens to call them with",
		Long: "The gatehound API gateway: functions, and tokens to call them with. Without a\n" +
			"subcommand it serves as its environment says; `gateway up` is for a first try.\n\n" + environmentHelp,
		Version:       version(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(*cobra.Command, []string) error {
			return run(os.Environ(), nil)
		},
	}
	c.CompletionOptions.DisableDefaultCmd = true
	c.AddCommand(up(), idToken(), iamCommand(), keys())
	return c
}

func version() string {
	release, revision := config.Version()
	return release + " (" + revision + ")"
}

const environmentHelp = `Environment (durations as in 30s, or whole seconds):
  port                    8080               port to listen on; 0 takes a free one
  listen                                     host:port instead of port
  metrics_port            8082               /metrics and /healthz; 0 turns them off
  data_dir                .gatehound         all state
  iam_dir                 $data_dir/iam      IAM objects, made if not set
  iam_store               folder             or kubernetes: custom resources
  iam_namespace           openfaas           where the custom resources are
  KUBECONFIG                                 how to reach the cluster; unset: as its pods do
  issuer_key_path         $data_dir/keys     signing key, or folder of them, made if not set
  secret_mount_path       $data_dir/secrets  admin credentials, made if not set
  basic_auth              true               false: API tokens alone open /system/
  auth_proxy_url                             auth plugin that decides on /system/ in our place
  auth_pass_body          false              send it the request bodies, too
  auth_proxy_pass_body                       the same, where auth_pass_body is not set
  validate_forwarded      false              gateways that ask /validate describe requests themselves
  system_issuer           http://host:port   our issuer URL, as callers see it
  base_host                                  the same, where system_issuer is not set
  ca_bundle_path                             PEM file of CAs for issuers, besides the system's
  insecure_tls            false              do not check the certificates of issuers
  functions_provider_url                     a faas-provider; unset: functions are processes here
  scale_from_zero         true without, false with a provider: calls start functions at zero
  probe_functions         false              wait for /_/ready before a first call
  direct_functions        false              call functions by their DNS names
  direct_functions_suffix                    what follows <name>.<namespace> in them
  max_idle_conns          1024               idle connections kept, in all
  max_idle_conns_per_host 1024               and to one server
  logs_provider_url                          asked for logs in the place of functions_provider_url
  faas_prometheus_host                       Prometheus that counts invocations; unset: we do
  faas_prometheus_port    9090               its port
  dashboard               true               pages for people at /ui/
  public_url                                 their scheme and host, as browsers see them
  primary_issuer                             OpenID provider where people log in there
  oauth_client_id                            our name at that provider
  oauth_client_secret_file                   file with our secret there, if we have one
  oauth_scopes            openid profile email  what is asked for there
  auditing                false              record requests to /system/ as events
  auditing_http_verbs     PUT,POST,DELETE    of these methods
  auditing_mandatory      false              refuse them while they cannot be recorded
  metering                false              record function calls as events
  metering_exclude_namespaces                but those in these namespaces
  metering_default_ram    512Mi              memory of functions without a limit
  events_url                                 webhook for events
  events_secret_file                         file with the secret that signs them
  events_file                                file for events in its place; - is stdout
  events_timeout          30s                one delivery
  events_batch            1000               events of one delivery
  events_batch_wait       1s                 how long the first waits for others
  events_spool_bytes      256Mi              events of each type that wait, at most
  function_namespace      openfaas-fn        namespace of names that have none
  stack_file                                 stack.yml whose functions are run, and followed
  functions_dir                              folders that functions are started in, by image
  read_timeout            60s                reading one request
  write_timeout           60s                one write to a client; draining calls at shutdown
  upstream_timeout        60s                waiting for a function's answer
  log_encoding            console            or json
  debug                   false              log every request`
