package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/auth"
	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/gateway/program"
)

func iamCommand() *cobra.Command {
	c := &cobra.Command{Use: "iam", Short: "Check IAM objects, and explain what they decide", Args: cobra.NoArgs, RunE: help}
	c.AddCommand(iamCheck(), iamExplain())
	return c
}

func iamCheck() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "check folder-or-file...",
		Short: "Print every problem of IAM objects as file:line: message",
		Long: "Reads JwtIssuers, Policies and Roles as the gateway would, and prints what is wrong\n" +
			"with them as file:line: message. An error is what makes the gateway ignore an\n" +
			"object or a file: the exit status is 1. A warning is what it accepts but was hardly\n" +
			"meant, such as an unknown action: the exit status is 1 with --strict.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, paths []string) error {
			report, err := store.Check(paths...)
			if err != nil {
				return err
			}
			faults := 0
			for _, p := range report.Problems {
				severity := "warning"
				if p.Ignored {
					severity = "error"
					faults++
				}
				say(c.OutOrStdout(), "%s: %s: %s", p.Source, severity, p.Message)
			}
			warnings := len(report.Problems) - faults
			fmt.Fprintf(c.OutOrStdout(), "%d files: %d issuers, %d policies, %d roles; %d errors, %d warnings\n",
				report.Files, report.Issuers, report.Policies, report.Roles, faults, warnings)
			switch {
			case faults > 0:
				return errors.New("iam check: some of this is ignored by the gateway")
			case strict && warnings > 0:
				return errors.New("iam check: there are warnings, which --strict does not accept")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit with 1 for warnings too")
	return c
}

// explainFlags are what `iam explain` is asked.
type explainFlags struct {
	token, tokenFile, claimsFile string
	action, resource             string
	iamDir, issuer               string
}

func iamExplain() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain --token-file token.txt --action Function:Invoke [--resource dev:env]",
		Short: "Say which role, policy and statement decide what a token may do",
		Long: "Says which role, policy and statement grant an action to a token, or what was\n" +
			"missing. The exit status is 1 when it is not allowed. It works without a network,\n" +
			"and so does NOT verify the token's signature. The token is an ID token, or an API\n" +
			"token of the gateway whose settings are in the environment; it is not printed.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 { // which may be a token: cobra's own error would show it
				return errors.New("iam explain: unexpected argument; a token is given by --token-file")
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.InOrStdin(), c.OutOrStdout()) },
	}
	c.Flags().StringVar(&f.token, "token", "", "the token, which other users of the machine may see; - reads stdin")
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token; - reads stdin")
	c.Flags().StringVar(&f.claimsFile, "claims", "", "JSON file with a token's claims; - reads stdin")
	c.Flags().StringVar(&f.action, "action", "", "such as Function:Invoke")
	c.Flags().StringVar(&f.resource, "resource", "", "namespace:name; any if not given")
	c.Flags().StringVar(&f.iamDir, "iam-dir", "", "folder or file of IAM objects (default $iam_dir)")
	c.Flags().StringVar(&f.issuer, "system-issuer", "", "the gateway's issuer URL (default $system_issuer)")
	c.MarkFlagsOneRequired("token", "token-file", "claims")
	c.MarkFlagsMutuallyExclusive("token", "token-file", "claims")
	_ = c.MarkFlagRequired("action")
	return c
}

func (f explainFlags) run(in io.Reader, out io.Writer) error {
	settings, err := config.ParseGateway(os.Environ())
	if err != nil && (f.iamDir == "" || f.issuer == "") {
		return err
	}
	if !slices.Contains(iam.Actions(), f.action) {
		return fmt.Errorf("--action %.40q: want one of %s", f.action, strings.Join(iam.Actions(), ", "))
	}
	namespace, name, ok := strings.Cut(f.resource, ":")
	if f.resource != "" && (!ok || !iam.Resource(f.resource).Valid() || strings.Contains(f.resource, "*")) {
		return fmt.Errorf("--resource %.40q: want one function, as namespace:name", f.resource)
	}
	claims, err := f.claims(in)
	if err != nil {
		return err
	}
	if settings.IAMKubernetes && f.iamDir == "" {
		return errors.New("--iam-dir is needed: with iam_store=kubernetes the objects are in no folder, " +
			"and this command reads no cluster")
	}
	report, err := store.Check(cmp.Or(f.iamDir, settings.IAMDir))
	if err != nil {
		return fmt.Errorf("--iam-dir: %w", err)
	}
	x := exchange.Explain(exchange.Question{
		Objects:   report.Set,
		Issuer:    cmp.Or(f.issuer, settings.SystemIssuer, "http://"+settings.Address),
		Claims:    claims,
		Action:    f.action,
		Namespace: namespace,
		Name:      name,
	})
	fmt.Fprint(out, "The signature was NOT verified: anybody may have written these claims.\n\n")
	if n := len(report.Problems); n > 0 {
		fmt.Fprintf(out, "The IAM objects have %d problems; `gateway iam check` prints them.\n\n", n)
	}
	printExplanation(out, claims, x)
	asked := f.action
	if f.resource != "" {
		asked += " on " + f.resource
	}
	if !x.Allowed {
		return fmt.Errorf("iam explain: %s is not allowed", asked)
	}
	fmt.Fprintf(out, "\n%s is allowed.\n", asked)
	return nil
}

// claims reads the claims from where the flags say. Errors hold nothing of them.
func (f explainFlags) claims(in io.Reader) (auth.Claims, error) {
	path := cmp.Or(f.tokenFile, f.claimsFile)
	data := []byte(f.token)
	var err error
	if path == "-" || f.token == "-" {
		data, err = io.ReadAll(io.LimitReader(in, 1<<20))
	} else if path != "" {
		data, err = os.ReadFile(path)
	}
	var unreadable *fs.PathError
	if errors.As(err, &unreadable) {
		err = unreadable.Err // the path may be a token, given by the wrong flag
	}
	if err != nil {
		return nil, fmt.Errorf("the file with the token or the claims cannot be read: %w", err)
	}
	if f.claimsFile != "" {
		return auth.DecodeClaims(data)
	}
	return auth.UnverifiedClaims(bytes.TrimSpace(data))
}

const maxRolesShown = 20

// say prints a line, whatever it quotes of objects and tokens.
func say(out io.Writer, format string, args ...any) {
	fmt.Fprintln(out, program.Visible(fmt.Sprintf(format, args...)))
}

func printExplanation(out io.Writer, claims auth.Claims, x exchange.Explanation) {
	kind := "ID token"
	if x.APIToken {
		kind = "API token, whose policies were decided when it was issued"
	}
	iss, _ := claims["iss"].(string)
	sub, _ := claims["sub"].(string)
	fmt.Fprintf(out, "issuer   %q\nsubject  %q\nkind     %s\n", iss, sub, kind)
	for _, fault := range x.Faults {
		say(out, "refused  %s", fault)
	}
	if !x.APIToken {
		fmt.Fprintln(out, "\nRoles:")
		printRoles(out, x.Roles)
	}
	if len(x.Policies) > 0 {
		fmt.Fprintln(out)
		say(out, "Policies: %s", strings.Join(x.Policies, ", "))
	}
	for _, s := range x.Statements {
		verdict := "does not grant it"
		if len(s.Unmet) == 0 {
			verdict = fmt.Sprintf("grants it on %q", s.Granted)
		}
		say(out, "  %s %s (%s): %s", s.Policy, s.Statement, s.Source, verdict)
		for _, line := range s.Unmet {
			say(out, "      %s", line)
		}
	}
}

// printRoles prints the roles that match, then those that come closest.
func printRoles(out io.Writer, roles []iam.RoleReason) {
	all := len(roles)
	roles = slices.DeleteFunc(slices.Clone(roles), func(r iam.RoleReason) bool { return r.Elsewhere })
	elsewhere := all - len(roles)
	slices.SortStableFunc(roles, func(a, b iam.RoleReason) int { return cmp.Compare(len(a.Unmet), len(b.Unmet)) })
	for i, r := range roles {
		if i >= maxRolesShown && len(r.Unmet) > 0 {
			fmt.Fprintf(out, "  and %d more, which do not match\n", len(roles)-i)
			break
		}
		verdict := "does not match"
		if len(r.Unmet) == 0 {
			verdict = "matches and gives " + cmp.Or(strings.Join(r.Policies, ", "), "nothing: its policies are not there")
		}
		say(out, "  %s (%s): %s", r.Name, r.Source, verdict)
		for _, line := range r.Unmet {
			say(out, "      %s", line)
		}
	}
	if elsewhere > 0 {
		fmt.Fprintf(out, "  and %d for other issuers\n", elsewhere)
	}
	if all == 0 {
		fmt.Fprintln(out, "  there are none")
	}
}
