// Command pro is faas-cli's plugin for logging in: `faas-cli pro auth` has a
// person or a program log in at an OpenID provider, exchanges the token at the
// gateway, and saves what comes of it where faas-cli looks. Started under the
// name auth it is `pro auth`, as older faas-cli had it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // refused, not reached, interrupted
	exitUsage  = 2 // flags that say too little, too much, or what cannot be
)

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // else by nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		<-signals
		signal.Stop(signals) // a second one ends us at once
		cancel(errInterrupted)
	}()
	args := os.Args[1:]
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "auth" {
		args = append([]string{"auth"}, args...)
	}
	os.Exit(run(ctx, args, program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}))
}

var errInterrupted = errors.New("interrupted")

// program is what a run has of the world around it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer // tokens and what was asked for; all that is said
	getenv         func(string) string
}

func (p program) say(format string, args ...any) {
	fmt.Fprintf(p.stderr, format+"\n", args...)
}

// failure is an error of a command that was called as it should be.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// usage is an error in how it was called.
func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

type usageError struct{ error }

func run(ctx context.Context, args []string, p program) int {
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	c, err := root.ExecuteContextC(ctx)
	var failed failure
	var misused usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(context.Cause(ctx), errInterrupted), errors.Is(err, errInterrupted):
		p.say("\npro: interrupted")
		return exitFailed
	case errors.As(err, &failed) && !errors.As(err, &misused):
		p.say("pro: %s", tokenShape.ReplaceAllString(printable(failed.Error()), "[token]"))
		return exitFailed
	default:
		p.say("pro: %s\nTry: %s --help", tokenShape.ReplaceAllString(printable(err.Error()), "[token]"), c.CommandPath())
		return exitUsage
	}
}

// tokenShape is what a JWT looks like. Errors may have one that was typed in the
// wrong place, and CI systems keep them for everybody.
var tokenShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*`)

// command is one whose errors are failures; cobra's own are of usage.
func command(c *cobra.Command, do func(ctx context.Context) error) *cobra.Command {
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := do(c.Context()); err != nil {
			return failure{err}
		}
		return nil
	}
	return c
}

func (p program) root() *cobra.Command {
	release, revision := config.Version()
	c := &cobra.Command{
		Use:         "pro",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "faas-cli pro"},
		Short:       "Log in at a gateway with your OpenID provider",
		Long: `Logs you in at an OpenFaaS gateway with your OpenID provider, so that faas-cli may
do there what its roles and policies grant you.

Exit codes: 0 done; 1 refused, failed or interrupted; 2 wrong usage.

Files, in $OPENFAAS_CONFIG (~/.openfaas if not set; .openfaas here if CI=true):
  config.yml   the tokens, where faas-cli looks for them
  pro.yml      how you logged in at each gateway, and refresh tokens

Shells complete the commands of pro, called by that name: put ~/.openfaas/plugins into
$PATH, and see pro completion --help.`,
		Version:       release + " (" + revision + ")",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	c.AddCommand(p.auth(), p.token(), p.logout(), p.install(), p.version())
	return c
}

func (p program) version() *cobra.Command {
	return command(&cobra.Command{Use: "version", Short: "Print the version"}, func(context.Context) error {
		release, revision := config.Version()
		_, err := fmt.Fprintf(p.stdout, "%s (%s)\n", release, revision)
		return err
	})
}

// gatewayURL is the URL that faas-cli keeps a login under.
func gatewayURL(flag string) (string, error) {
	text := strings.ToLower(strings.TrimRight(flag, "/"))
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	return text, checkWebAddress("gateway", text)
}

// gatewayFlag adds --gateway.
func (p program) gatewayFlag(c *cobra.Command, to *string) {
	fallback := p.getenv("OPENFAAS_URL")
	if fallback == "" {
		fallback = "http://127.0.0.1:8080"
	}
	c.Flags().StringVarP(to, "gateway", "g", fallback, "the gateway's URL; without it $OPENFAAS_URL")
}
