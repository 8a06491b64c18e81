package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
)

func (p program) install() *cobra.Command {
	var force bool
	c := command(&cobra.Command{
		Use:   "install",
		Short: "Put this program where faas-cli looks for its plugins",
		Long: `Copies this program to ~/.openfaas/plugins/pro, which makes it "faas-cli pro", and to
auth beside it, which makes it "faas-cli auth", as older faas-cli had it.`,
	}, func(context.Context) error { return p.runInstall(force) })
	c.Flags().BoolVar(&force, "force", false, "replace other plugins of these names")
	return c
}

func (p program) runInstall(force bool) error {
	h, err := home(p.getenv)
	if runtime.GOOS == "windows" {
		if h, err = p.getenv("HOMEPATH"), nil; h == "" { // where faas-cli looks there
			err = errors.New("HOMEPATH is not set")
		}
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	dir := filepath.Join(h, ".openfaas", "plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"pro", "auth"} {
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		path := filepath.Join(dir, name)
		said := "Installed"
		switch old, err := os.ReadFile(path); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case bytes.Equal(old, program):
			p.say("%s is this program already", path)
			continue
		case !isOurs(path) && !force:
			return fmt.Errorf("%s is another program; --force replaces it", path)
		default:
			said = "Replaced"
		}
		temporary, err := writeBeside(path, program, 0o755)
		if err != nil {
			return err
		}
		if err := os.Rename(temporary, path); err != nil {
			_ = os.Remove(temporary)
			return err
		}
		p.say("%s %s", said, path)
	}
	p.say("Try: faas-cli pro auth --help")
	return nil
}

// isOurs tells whether a program is another version of this one.
func isOurs(path string) bool {
	info, err := buildinfo.ReadFile(path)
	return err == nil && info.Path == "github.com/gatehound/gatehound/auth/cmd/pro"
}
