package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/gateway/provider"
)

// maxSecret bounds a secret's value, in bytes, as Kubernetes does.
const maxSecret = 1 << 20

// secretPattern is a DNS subdomain (RFC 1123): no path can be made of it.
var secretPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

func validSecret(name string) bool { return secretPattern.MatchString(name) }

func (p *Provider) secretPath(namespace, name string) string {
	return filepath.Join(p.config.StateDir, "secrets", namespace, name)
}

// Secrets implements provider.Provider.
func (p *Provider) Secrets(_ context.Context, namespace string) ([]types.Secret, error) {
	secrets := []types.Secret{}
	entries, err := os.ReadDir(p.secretPath(namespace, ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failed(err, "secrets of namespace %s cannot be listed", namespace)
	}
	for _, e := range entries {
		if validSecret(e.Name()) {
			secrets = append(secrets, types.Secret{Name: e.Name(), Namespace: namespace})
		}
	}
	return secrets, nil
}

// CreateSecret implements provider.Provider.
func (p *Provider) CreateSecret(ctx context.Context, s types.Secret) error {
	return p.putSecret(ctx, s, func(exists bool) error {
		if exists {
			return conflict("secret %s is already there in namespace %s", s.Name, s.Namespace)
		}
		if _, err := p.Namespace(ctx, s.Namespace); err != nil {
			return invalid("secret %s: there is no namespace %q: create it first, with faas-cli namespace create %[2]s", s.Name, s.Namespace)
		}
		return nil
	})
}

// UpdateSecret implements provider.Provider. Functions that run see the new
// value in their files at once.
func (p *Provider) UpdateSecret(ctx context.Context, s types.Secret) error {
	return p.putSecret(ctx, s, func(exists bool) error {
		if !exists {
			return provider.ErrNotFound
		}
		return nil
	})
}

func (p *Provider) putSecret(ctx context.Context, s types.Secret, allowed func(exists bool) error) error {
	if !validSecret(s.Name) {
		return invalid("secret %q: want lower case letters, digits, - and . as its name", s.Name)
	}
	value := s.RawValue
	if s.Value != "" {
		value = []byte(s.Value)
	}
	switch {
	case len(value) == 0:
		return invalid("secret %s: want a value that is not empty", s.Name)
	case len(value) > maxSecret:
		return invalid("secret %s: %d bytes are too many: want at most %d", s.Name, len(value), maxSecret)
	}
	done, err := p.exclusive(ctx, provider.Function{Namespace: s.Namespace})
	if err != nil {
		return err
	}
	defer done()
	path := p.secretPath(s.Namespace, s.Name)
	if err := allowed(isFile(path)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return failed(err, "secret %s cannot be kept", s.Name)
	}
	if err := writeFile(path, value); err != nil {
		return failed(err, "secret %s cannot be kept", s.Name)
	}
	return p.passOn(s.Namespace, s.Name)
}

// passOn gives running functions the new value of a secret.
func (p *Provider) passOn(namespace, name string) error {
	for _, f := range p.sorted(namespace) {
		if slices.Contains(f.deployment.Secrets, name) {
			// One whose folder is gone has been deleted meanwhile.
			if err := f.writeSecrets(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return failed(err, "secret %s is kept, and not passed on to function %s", name, f.name)
			}
		}
	}
	return nil
}

// DeleteSecret implements provider.Provider. Functions that run keep their copy,
// and do not start again without it.
func (p *Provider) DeleteSecret(ctx context.Context, namespace, name string) error {
	done, err := p.exclusive(ctx, provider.Function{Namespace: namespace})
	if err != nil {
		return err
	}
	defer done()
	path := p.secretPath(namespace, name)
	if !validSecret(name) || !isFile(path) {
		return provider.ErrNotFound
	}
	if err := removeFile(path); err != nil {
		return failed(err, "secret %s cannot be deleted", name)
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func (p *Provider) missingSecrets(namespace string, names []string) (missing []string) {
	for _, name := range names {
		if validSecret(name) && !isFile(p.secretPath(namespace, name)) {
			missing = append(missing, name)
		}
	}
	return missing
}

// createThem says how secrets are made.
func createThem(namespace string, names []string) string {
	return fmt.Sprintf("%s in namespace %s: create it first, with faas-cli secret create %s --namespace %[2]s",
		strings.Join(names, ", "), namespace, names[0])
}

// writeSecrets puts these of f's secrets into its folder.
func (f *function) writeSecrets(names ...string) error {
	f.secretsMu.Lock() // from reading to writing, so that no old value comes last
	defer f.secretsMu.Unlock()
	if err := os.Mkdir(f.secretsDir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range names {
		value, err := os.ReadFile(f.provider.secretPath(f.name.Namespace, name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no secret %s", createThem(f.name.Namespace, []string{name}))
		}
		if err == nil {
			err = writeFile(filepath.Join(f.secretsDir(), name), value)
		}
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
	return nil
}
