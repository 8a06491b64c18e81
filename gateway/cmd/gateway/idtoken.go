package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/devidp"
)

// idToken prints an ID token of the development identity provider, which need
// not run for it: the key and the issuer URL are in data_dir.
func idToken() *cobra.Command {
	var (
		subject  string
		claims   []string
		lifetime time.Duration
	)
	c := &cobra.Command{
		Use:   "id-token --sub alice [--claim groups=dev]",
		Short: "Print an ID token of the development identity provider",
		Long: "Prints an ID token of the development identity provider that `gateway up` registers.\n" +
			"Set data_dir as for `gateway up`. A claim given several times becomes a list.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := config.ParseGateway(os.Environ())
			if err != nil {
				return err
			}
			further, err := parseClaims(claims)
			if err != nil {
				return err
			}
			url, err := os.ReadFile(filepath.Join(settings.DataDir, developmentIssuer))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("no development identity provider in data_dir=%q: start `gateway up` there first", settings.DataDir)
			} else if err != nil {
				return err
			}
			idp, err := devidp.New(filepath.Join(settings.DataDir, developmentKey), strings.TrimSpace(string(url)))
			if err != nil {
				return err
			}
			token, err := idp.IDToken(subject, further, lifetime)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), token)
			return err
		},
	}
	c.Flags().StringVar(&subject, "sub", "", "subject, the name of who the token is for")
	c.Flags().StringArrayVar(&claims, "claim", nil, "further claim, as name=value (repeatable)")
	c.Flags().DurationVar(&lifetime, "lifetime", time.Hour, "how long the token is valid")
	_ = c.MarkFlagRequired("sub")
	return c
}

// parseClaims reads name=value pairs. A name that comes again makes a list.
func parseClaims(pairs []string) (map[string]any, error) {
	claims := make(map[string]any)
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %q: want name=value, as in groups=dev", pair)
		}
		switch have := claims[name].(type) {
		case nil:
			claims[name] = value
		case string:
			claims[name] = []string{have, value}
		case []string:
			claims[name] = append(have, value)
		}
	}
	return claims, nil
}
