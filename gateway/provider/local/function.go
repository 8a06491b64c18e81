package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/gateway/provider"
)

// function is one version of a function with its replicas. An update makes
// another, which takes over the output.
type function struct {
	name       provider.Function
	deployment types.FunctionDeployment
	created    time.Time
	stack      bool          // from the stack file
	output     *ring         // what all versions have printed
	workDir    string        // "" = each replica's own folder
	dir        string        // has the secrets and the replicas' folders
	memory     int64         // limit for each replica, in bytes; 0 = none
	single     bool          // listens on a fixed address, so that there can be one process
	drain      time.Duration // for what a stopped watchdog may still have to do
	provider   *Provider
	log        zerolog.Logger

	mu       sync.Mutex
	wanted   uint64
	replicas []*replica
	next     int // for pick
	started  int // replicas so far
	closed   bool
	changed  chan struct{}  // closed, and another made, when one of these changes
	running  sync.WaitGroup // replicas, also those that are ending

	secretsMu sync.Mutex // for the files in secretsDir

	usageMu sync.Mutex
	used    time.Duration // CPU time at the last measurement
	usedAt  time.Time
}

// newFunction checks all that would keep r's replicas from starting, and makes
// their folder.
func (p *Provider) newFunction(r record) (*function, error) {
	d := normal(r.Deployment)
	name := provider.Function{Namespace: d.Namespace, Name: d.Service}
	f := &function{
		name:       name,
		deployment: d,
		created:    r.Created,
		stack:      r.Stack,
		wanted:     r.Replicas,
		output:     newRing(),
		usedAt:     time.Now(),
		provider:   p,
		log:        p.config.Log.With().Str("function", name.String()).Logger(),
		changed:    make(chan struct{}),
	}
	if err := f.check(r); err != nil {
		return nil, invalid("function %s: %v", name, err)
	}
	dir, err := p.newFolder()
	if err != nil {
		return nil, failed(err, "cannot make a folder for function %s", name)
	}
	f.dir = dir
	if longest := f.socket("100000"); len(longest) > maxSocketPath {
		os.Remove(dir)
		return nil, fmt.Errorf("socket path %q of function %s is longer than %d bytes: set TMPDIR to a shorter path", longest, name, maxSocketPath)
	}
	return f, nil
}

// maxSocketPath is what fits sun_path on Linux and on macOS.
const maxSocketPath = 103

// check says what is wrong with a deployment, and notes what follows from it.
func (f *function) check(r record) error {
	d := f.deployment
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !config.ValidName(d.Service) || !config.ValidName(d.Namespace) {
		fault("want DNS labels as name and namespace: lower case letters, digits and -")
	}
	for _, name := range slices.Sorted(maps.Keys(d.EnvVars)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(d.EnvVars[name], "\x00") {
			fault("environment variable %q: want a name without = and a value without NUL", name)
		}
	}
	if strings.Contains(d.EnvProcess, "\x00") {
		fault("envProcess: want no NUL")
	}
	for _, s := range d.Secrets {
		if !validSecret(s) {
			fault("secret %q: want lower case letters, digits, - and .", s)
		}
	}
	if d.Labels != nil {
		if v, ok := (*d.Labels)[minScaleLabel]; ok {
			if n, err := strconv.ParseUint(v, 10, 64); err != nil || n > maxReplicas {
				fault("label %s=%q: want a number, at most %d", minScaleLabel, v, maxReplicas)
			}
		}
	}
	limits, err := parseResources("limits", d.Limits)
	_, err2 := parseResources("requests", d.Requests)
	if err := errors.Join(err, err2); err != nil {
		faults = append(faults, err)
	}
	f.memory = limits

	// As its watchdog will do, but in time to be told.
	settings, err := config.ParseWatchdog(f.environment("/", "/"))
	if err != nil {
		faults = append(faults, err)
	} else {
		// The watchdog waits for calls that run, then for the function to end.
		f.drain = settings.WriteTimeout + 15*time.Second
		f.single = settings.Mode == config.HTTP && settings.Upstream.Scheme != "unix"
	}
	if f.single && r.Replicas > 1 {
		faults = append(faults, f.tooMany(r.Replicas))
	}
	if f.workDir, err = workDir(f.provider.config, d.Image); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// quantityPattern is wider than what a quantity may be, but for its size: of
// 1e-999999999 Kubernetes' parser would work out every digit.
var quantityPattern = regexp.MustCompile(`^[-+]?[0-9.]{1,20}([eE][-+]?[0-9]{1,2}|[a-zA-Z]{0,2})$`)

func (f *function) tooMany(replicas uint64) error {
	return fmt.Errorf("%d replicas cannot all listen on its upstream_url: leave the variable out, and each is given a Unix socket in it", replicas)
}

// parseResources reads quantities as Kubernetes does, and returns the bytes of
// memory; 0 = none are given.
func parseResources(field string, r *types.FunctionResources) (memory int64, err error) {
	if r == nil {
		return 0, nil
	}
	var faults []error
	for _, q := range []struct{ name, value string }{{"memory", r.Memory}, {"cpu", r.CPU}} {
		if q.value == "" {
			continue
		}
		var quantity resource.Quantity
		short := quantityPattern.MatchString(q.value)
		if short {
			quantity, err = resource.ParseQuantity(q.value)
		}
		switch {
		case !short || err != nil || quantity.Sign() <= 0:
			faults = append(faults, fmt.Errorf("%s.%s=%q: want a quantity, as 64Mi of memory or 100m of cpu", field, q.name, q.value))
		case q.name == "memory" && quantity.Value() < 1<<20:
			faults = append(faults, fmt.Errorf("%s.memory=%q: want at least 1Mi; m stands for thousandths, Mi for mebibytes", field, q.value))
		case q.name == "memory":
			memory = quantity.Value()
		}
	}
	return memory, errors.Join(faults...)
}

// workDir returns the folder in which a function with this image is started.
// The image's tag plays no part. Neither ".." nor a link leads out of
// FunctionsDir.
func workDir(c Config, image string) (string, error) {
	if c.FunctionsDir == "" {
		return c.WorkDir, nil
	}
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	root, err := os.OpenRoot(c.FunctionsDir)
	if err != nil {
		return "", fmt.Errorf("functions_dir: %w", err)
	}
	defer root.Close()
	if info, err := root.Stat(image); image == "" || filepath.Clean(image) == "." || err != nil || !info.IsDir() {
		return c.WorkDir, nil
	}
	return filepath.Join(c.FunctionsDir, image), nil
}

// secretsMount is where images expect their secrets. Variables that point there
// are pointed at the function's own folder instead.
const secretsMount = "/var/openfaas/secrets"

// environment is what a replica and its watchdog see. It is built from nothing:
// the gateway's own settings and secrets are not the functions'.
func (f *function) environment(replicaDir, secretsDir string) []string {
	c := f.provider.config
	values := make(map[string]string)
	for _, name := range []string{"HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			values[name] = v
		}
	}
	values["PATH"] = c.Path
	if f.deployment.EnvVars["jwt_auth_jwks_file"] == "" {
		values["jwt_auth_authority"] = c.Authority
	}
	if f.deployment.EnvVars["mode"] == "http" {
		values["upstream_url"] = "unix://" + filepath.Join(replicaDir, "function.sock")
	}
	for name, value := range f.deployment.EnvVars {
		if after, ok := strings.CutPrefix(value, secretsMount); ok && (after == "" || after[0] == '/') {
			value = filepath.Join(secretsDir, after)
		}
		values[name] = value
	}
	if f.deployment.EnvProcess != "" {
		values["fprocess"] = f.deployment.EnvProcess
	}

	// What the deployment cannot change: who the function is, where it is
	// reached, where its secrets are, and that no load balancer has to notice
	// its end.
	values["OPENFAAS_NAME"] = f.name.Name
	values["OPENFAAS_NAMESPACE"] = f.name.Namespace
	values["OPENFAAS_SECRETS"] = secretsDir
	values["TMPDIR"] = filepath.Join(replicaDir, "tmp")
	values["listen"] = "unix://" + filepath.Join(replicaDir, socketName)
	values["metrics_port"] = "0"
	values["healthcheck_interval"] = "0s"
	delete(values, "shutdown_min") // which that leaves no room for

	environ := make([]string, 0, len(values))
	for name, value := range values {
		environ = append(environ, name+"="+value)
	}
	return environ
}

const socketName = "watchdog.sock"

func (f *function) socket(replica string) string { return filepath.Join(f.dir, replica, socketName) }

func (f *function) secretsDir() string { return filepath.Join(f.dir, "secrets") }

// want sets how many replicas there should be; converge sees to it.
func (f *function) want(replicas uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted = replicas
}

func (f *function) wantedReplicas() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted
}

// converge starts the replicas that are missing and retires those that are too
// many, the newest first.
func (f *function) converge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && uint64(len(f.replicas)) < f.wanted {
		f.started++
		r := newReplica(f, strconv.Itoa(f.started))
		f.running.Add(1)
		if !f.provider.launch(func(ctx context.Context) { defer f.running.Done(); r.run(ctx) }) {
			f.running.Done()
			break
		}
		f.replicas = append(f.replicas, r)
	}
	for uint64(len(f.replicas)) > f.wanted {
		last := len(f.replicas) - 1
		f.replicas[last].retire()
		f.replicas = f.replicas[:last]
	}
	f.notify()
}

// close retires all replicas, and removes the folder when the last has ended.
// Nothing is started any more.
func (f *function) close() (ended <-chan struct{}) {
	f.mu.Lock()
	f.closed, f.wanted = true, 0
	f.mu.Unlock()
	f.converge()
	end := make(chan struct{})
	remove := func(context.Context) {
		defer close(end)
		f.running.Wait()
		f.secretsMu.Lock()
		defer f.secretsMu.Unlock()
		if err := os.RemoveAll(f.dir); err != nil {
			f.log.Warn().Msgf("its folder stays: %v", err)
		}
	}
	if !f.provider.launch(remove) {
		remove(context.Background()) // nothing of it runs, or is being waited for by Run
	}
	return end
}

// notify wakes everybody who waits for a change. f.mu is held.
func (f *function) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// pick returns a replica that is ready, each in turn; nil = there is none.
func (f *function) pick() *replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.replicas {
		f.next++
		if r := f.replicas[f.next%len(f.replicas)]; r.ready {
			return r
		}
	}
	return nil
}

// counts returns how many replicas there should be and are, and what is closed
// when that changes.
func (f *function) counts() (wanted, ready uint64, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		if r.ready {
			ready++
		}
	}
	return f.wanted, ready, f.changed
}

// failure returns why there is nothing to wait for: each replica has ended and
// is to be started again later; nil = some may become ready.
func (f *function) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	for _, r := range f.replicas {
		if err = r.failed; err == nil {
			return nil
		}
	}
	return err
}

func (f *function) status() types.FunctionStatus {
	wanted, ready, _ := f.counts()
	d := f.deployment
	return types.FunctionStatus{
		Name:                   f.name.Name,
		Namespace:              f.name.Namespace,
		Image:                  d.Image,
		EnvProcess:             d.EnvProcess,
		EnvVars:                d.EnvVars,
		Constraints:            d.Constraints,
		Secrets:                d.Secrets,
		Labels:                 d.Labels,
		Annotations:            d.Annotations,
		Limits:                 d.Limits,
		Requests:               d.Requests,
		ReadOnlyRootFilesystem: d.ReadOnlyRootFilesystem,
		Replicas:               wanted,
		AvailableReplicas:      ready,
		CreatedAt:              f.created,
	}
}
