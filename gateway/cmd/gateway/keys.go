package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/auth/iam/store"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange/issuer"
)

const (
	// defaultLead is longer than it takes until everybody has a new key: a
	// watchdog looks for keys every 5m, give or take a tenth, and what it gets
	// may come from a cache that is 1m old.
	defaultLead = 10 * time.Minute
	safeLead    = 7 * time.Minute
)

// keyPath returns where the signing keys are: a data_dir that has but one key in
// a file keeps it.
func keyPath(settings config.Gateway) string {
	if settings.GenerateKey {
		single := filepath.Join(settings.DataDir, "issuer.key")
		if _, err := os.Lstat(settings.IssuerKeyPath); errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Lstat(single); err == nil {
				return single
			}
		}
	}
	return settings.IssuerKeyPath
}

// keyFolder is a folder of signing keys, and the flags that say which.
type keyFolder struct {
	dir       string
	tokenLife time.Duration
	private   bool // its files must be ours alone
}

func keys() *cobra.Command {
	var folder keyFolder
	c := &cobra.Command{
		Use:   "keys",
		Short: "List, rotate and prune the keys that sign our tokens",
		Long: `The signing keys are the *.pem files of a folder, $issuer_key_path or
$data_dir/keys. Gateways follow it while they run, within two seconds.

A file's name says from when on its key signs: 20261122T003604Z.pem from that
moment on (UTC), a name of any other form always. Each key signs until the next
one does. It is published from when its file is there until the last token it
signed has ended; after that its file may be deleted. A file deleted earlier is
a key withdrawn as compromised: the gateway stops publishing it at once, and
fwatchdogs refuse its tokens the next time they fetch the keys.

Run it as the user that the gateway runs as, and with the same environment. Where
the folder is a mounted secret, use --folder on a copy, and update the secret
from that before the new key's time.`,
		Args: cobra.NoArgs,
		RunE: help,
	}
	flags := c.PersistentFlags()
	flags.StringVar(&folder.dir, "folder", "", "folder of keys (default $issuer_key_path, else $data_dir/keys)")
	flags.DurationVar(&folder.tokenLife, "token-life", 0, "how long a token may live, where that is longer than 24h and any tokenExpiry in $iam_dir")
	c.AddCommand(folder.list(), folder.rotate(), folder.prune())
	return c
}

// help is what a command does that has only subcommands: without it cobra takes
// a misspelt one for a success.
func help(c *cobra.Command, _ []string) error { return c.Help() }

// resolve fills in what the flags left open.
func (f *keyFolder) resolve(warnings io.Writer) error {
	settings, err := config.ParseGateway(os.Environ())
	if err != nil {
		return err
	}
	f.private = f.dir == "" && settings.GenerateKey
	f.dir = cmp.Or(f.dir, keyPath(settings))
	info, err := os.Stat(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && f.private:
		return fmt.Errorf("there is no folder %s yet: start the gateway once, it makes the first key", f.dir)
	case err != nil:
		return fmt.Errorf("folder of signing keys: %w", err)
	case !info.IsDir():
		target, further := filepath.Join(filepath.Dir(f.dir), "keys"), ""
		if !f.private {
			further = fmt.Sprintf(" with issuer_key_path=%s", target)
		}
		return fmt.Errorf("%s is a file with one key, and only the keys of a folder can be rotated: "+
			"run mkdir -m 700 %s && mv %s %s, then start the gateway again%s",
			f.dir, target, f.dir, filepath.Join(target, "first.pem"), further)
	}
	longest, err := longestTokenLife(settings, warnings)
	f.tokenLife = max(f.tokenLife, longest)
	return err
}

// longestTokenLife returns the longest tokenExpiry of the trusted issuers.
func longestTokenLife(settings config.Gateway, warnings io.Writer) (time.Duration, error) {
	longest := issuer.MinTokenLife
	if _, err := os.Stat(settings.IAMDir); errors.Is(err, fs.ErrNotExist) {
		return longest, nil
	}
	objects, err := store.Open(store.Config{Dir: settings.IAMDir, Logf: func(string, ...any) {}, Warnf: func(format string, args ...any) {
		fmt.Fprintf(warnings, "warning: "+format+"\n", args...)
	}})
	if err != nil {
		return 0, fmt.Errorf("iam_dir: %w", err)
	}
	for _, i := range objects.Current().Issuers() {
		longest = max(longest, i.Spec.Expiry())
	}
	return longest, nil
}

func (f *keyFolder) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the signing keys and what each is used for",
		Long: "Lists the signing keys in the order in which they sign. The states: next (published,\n" +
			"and will sign), signing, published (has signed tokens that may still live), expired\n" +
			"(its file may be deleted). Times are UTC.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.resolve(c.ErrOrStderr()); err != nil {
				return err
			}
			listed, err := issuer.List(f.dir, f.private, time.Now(), f.tokenLife)
			table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "STATE\tKID\tALGORITHM\tSIGNS FROM\tPUBLISHED UNTIL\tFILE")
			for _, k := range listed {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", k.State, k.Key.ID(), k.Key.Algorithm(),
					moment(k.Begin, "always"), moment(k.End, "-"), k.Name)
			}
			return errors.Join(err, table.Flush())
		},
	}
}

func moment(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format(time.RFC3339)
}

func (f *keyFolder) rotate() *cobra.Command {
	var (
		after time.Duration
		kind  string
	)
	algorithms := map[string]string{"es256": issuer.ES256, "es384": issuer.ES384, "ed25519": issuer.EdDSA}
	c := &cobra.Command{
		Use:   "rotate [--after 10m]",
		Short: "Make a new signing key, which signs after a while",
		Long: "Makes a new signing key. It is published at once and signs after --after, which should\n" +
			"be longer than fwatchdogs keep the keys they fetched (5m, and a minute in caches). No\n" +
			"token is lost: the key before stays published until its last token has ended.\n\n" +
			"When a key is compromised: rotate --after 0s, delete its file, and fetch new tokens.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			algorithm, ok := algorithms[kind]
			if !ok {
				return fmt.Errorf("--type %q: want es256, es384 or ed25519", kind)
			}
			if after < 0 {
				return fmt.Errorf("--after %s: must not be negative", after)
			}
			if err := f.resolve(c.ErrOrStderr()); err != nil {
				return err
			}
			before, _ := issuer.List(f.dir, f.private, time.Now(), f.tokenLife) // faults are told below
			if published := slices.DeleteFunc(before, func(k issuer.Listed) bool { return k.State == issuer.Expired }); len(published) >= issuer.MaxKeys {
				return fmt.Errorf("%d keys are published, and fwatchdogs take no more: rotate again when one has expired, see `gateway keys list`", len(published))
			}
			added, err := issuer.Add(f.dir, algorithm, time.Now().Add(after))
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: a key begins at that very second already", err)
			} else if err != nil {
				return err
			}
			listed, err := issuer.List(f.dir, f.private, time.Now(), f.tokenLife)
			f.explain(c.OutOrStdout(), added, listed)
			if after < safeLead {
				fmt.Fprintf(c.OutOrStdout(), "\nLess than %s is short: an fwatchdog that has not fetched the new key until it signs\n"+
					"fetches it when it sees the first token, but no more often than every 10s.\n", safeLead)
			}
			return err
		},
	}
	c.Flags().DurationVar(&after, "after", defaultLead, "how long until the new key signs")
	c.Flags().StringVar(&kind, "type", "es256", "es256, es384 or ed25519")
	return c
}

// explain prints what happens when.
func (f *keyFolder) explain(out io.Writer, added issuer.Listed, listed []issuer.Listed) {
	fmt.Fprintf(out, "%s: new key\n  kid        %s (%s)\n  published  within 2s, as soon as a gateway has the file\n  signs      from %s\n",
		filepath.Join(f.dir, added.Name), added.Key.ID(), added.Key.Algorithm(), moment(added.Begin, ""))
	for _, k := range listed {
		switch {
		case k.Name == added.Name:
		case k.State == issuer.Next:
			fmt.Fprintf(out, "%s: will sign from %s\n", k.Name, moment(k.Begin, ""))
		case k.State == issuer.Signing, k.State == issuer.Published:
			fmt.Fprintf(out, "%s: %s, published until %s\n", k.Name, k.State, moment(k.End, "its file is deleted"))
		case k.State == issuer.Expired:
			fmt.Fprintf(out, "%s: expired, may be deleted: `gateway keys prune` does\n", k.Name)
		}
	}
}

func (f *keyFolder) prune() *cobra.Command {
	return &cobra.Command{
		Use:   "prune",
		Short: "Delete the keys of which all tokens have ended",
		Long: "Deletes the files of expired keys, and no others. After a tokenExpiry of more than a day\n" +
			"was made shorter, give the old one as --token-life until tokens issued with it have ended.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.resolve(c.ErrOrStderr()); err != nil {
				return err
			}
			listed, err := issuer.List(f.dir, f.private, time.Now(), f.tokenLife)
			deleted := 0
			for _, k := range listed {
				if k.State != issuer.Expired {
					continue
				}
				path := filepath.Join(f.dir, k.Name)
				if fault := os.Remove(path); fault != nil {
					err = errors.Join(err, fault)
					continue
				}
				deleted++
				fmt.Fprintf(c.OutOrStdout(), "deleted %s: key %s expired %s\n", path, k.Key.ID(), moment(k.End, ""))
			}
			if deleted == 0 && err == nil {
				fmt.Fprintln(c.OutOrStdout(), "no key has expired")
			}
			return err
		},
	}
}
