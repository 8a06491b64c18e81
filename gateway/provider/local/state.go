package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// StateDir holds, each thing in a file of its own, so that one that is damaged
// harms no other:
//
//	<name>.<namespace>.json        a function: its record
//	namespaces/<name>.json         a namespace's labels and annotations
//	secrets/<namespace>/<name>     a secret's value

// record is what is kept of a function. Its environment may hold what others
// should not read.
type record struct {
	Deployment types.FunctionDeployment `json:"deployment"`
	Created    time.Time                `json:"created"`
	Replicas   uint64                   `json:"replicas"`
	// Stack says that it came from the stack file, and goes with it.
	Stack bool `json:"stack,omitempty"`
}

// normal is d as it comes back from a file: without empty maps and lists.
func normal(d types.FunctionDeployment) (n types.FunctionDeployment) {
	data, err := json.Marshal(d)
	if err != nil || json.Unmarshal(data, &n) != nil {
		return d
	}
	return n
}

func (p *Provider) recordPath(f provider.Function) string {
	return filepath.Join(p.config.StateDir, f.String()+".json")
}

func (p *Provider) namespacePath(name string) string {
	return filepath.Join(p.config.StateDir, "namespaces", name+".json")
}

// save keeps f for the next start.
func (p *Provider) save(f *function) error {
	r := record{Deployment: f.deployment, Created: f.created, Replicas: f.wantedReplicas(), Stack: f.stack}
	if err := writeJSON(p.recordPath(f.name), r); err != nil {
		return failed(err, "function %s cannot be kept", f.name)
	}
	return nil
}

func (p *Provider) forget(name provider.Function) error {
	if err := removeFile(p.recordPath(name)); err != nil {
		return failed(err, "function %s cannot be deleted", name)
	}
	return nil
}

// load reads what StateDir holds.
func (p *Provider) load() error {
	for _, dir := range []string{"", "namespaces", "secrets"} {
		if err := os.MkdirAll(filepath.Join(p.config.StateDir, dir), 0o700); err != nil {
			return fmt.Errorf("cannot make a folder for what is deployed: %w", err)
		}
	}
	// What was cut short in writing a secret holds a value that nobody could delete.
	if leftovers, err := filepath.Glob(p.secretPath("*", temporaryPrefix+"*")); err == nil {
		for _, path := range leftovers {
			_ = os.Remove(path)
		}
	}
	err := p.eachFile("namespaces", func(path string, data []byte) error {
		var n types.FunctionNamespace
		if err := json.Unmarshal(data, &n); err != nil {
			return err
		}
		if !config.ValidName(n.Name) || p.namespacePath(n.Name) != path {
			return fmt.Errorf("it is of namespace %q, want the file's name", n.Name)
		}
		p.namespaces[n.Name] = n
		return nil
	})
	if err != nil {
		return err
	}
	return p.eachFile("", func(path string, data []byte) error {
		var r record
		if err := json.Unmarshal(data, &r); err != nil {
			return err
		}
		r.Replicas = min(r.Replicas, maxReplicas)
		name := provider.Function{Namespace: r.Deployment.Namespace, Name: r.Deployment.Service}
		if p.recordPath(name) != path {
			return fmt.Errorf("it is of function %s, want the file's name", name)
		}
		f, err := p.newFunction(r)
		if err != nil {
			return err
		}
		p.functions[name] = f
		if _, exists := p.namespaces[name.Namespace]; !exists {
			p.config.Log.Warn().Msgf("namespace %s has a function and no file of its own: it is there again, without labels", name.Namespace)
			p.namespaces[name.Namespace] = types.FunctionNamespace{Name: name.Namespace}
		}
		return nil
	})
}

// eachFile has use read each JSON file of a folder of StateDir. What it refuses
// is reported and left as it is, for somebody to mend.
func (p *Provider) eachFile(dir string, use func(path string, data []byte) error) error {
	dir = filepath.Join(p.config.StateDir, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read what is deployed: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), temporaryPrefix) {
			_ = os.Remove(path) // of a write that was cut short
			continue
		}
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = use(path, data)
		}
		if err != nil {
			p.config.Log.Warn().Msgf("%s is ignored: %s; mend it and start again, or delete it", path, message(err))
		}
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

const temporaryPrefix = ".new-"

// writeFile replaces a file at once and for good: after a crash, of the machine
// even, there is the one or the other. It is for this user alone.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, temporaryPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
