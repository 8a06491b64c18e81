package local

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/openfaas/faas-provider/types"
	"go.yaml.in/yaml/v3"

	"github.com/gatehound/gatehound/config"
)

// stack is faas-cli's stack.yml. Fields of type any are read and not used:
// they say how to build an image, and processes need none. The decoder refuses
// fields that are not listed, since a misspelt "environment" would silently
// drop a jwt_auth.
type stack struct {
	Version       string                   `yaml:"version"`
	Provider      any                      `yaml:"provider"`
	Configuration any                      `yaml:"configuration"`
	Functions     map[string]stackFunction `yaml:"functions"`
}

type stackFunction struct {
	Namespace       string                   `yaml:"namespace"`
	Image           string                   `yaml:"image"`
	FProcess        string                   `yaml:"fprocess"`
	Environment     map[string]string        `yaml:"environment"`
	EnvironmentFile []string                 `yaml:"environment_file"`
	Labels          *map[string]string       `yaml:"labels"`
	Annotations     *map[string]string       `yaml:"annotations"`
	Limits          *types.FunctionResources `yaml:"limits"`
	Requests        *types.FunctionResources `yaml:"requests"`
	Secrets         []string                 `yaml:"secrets"`

	Lang         any `yaml:"lang"`
	Handler      any `yaml:"handler"`
	SkipBuild    any `yaml:"skip_build"`
	Constraints  any `yaml:"constraints"`
	ReadOnlyRoot any `yaml:"readonly_root_filesystem"`
	BuildOptions any `yaml:"build_options"`
	BuildArgs    any `yaml:"build_args"`
	BuildSecrets any `yaml:"build_secrets"`
	Platforms    any `yaml:"platforms"`
}

// maxStack bounds a stack file, in bytes.
const maxStack = 256 << 10

// ReadStack reads the functions of a stack.yml, sorted by name. Functions
// without a namespace get defaultNamespace. Errors name the file and, where
// YAML knows it, the line.
func ReadStack(path, defaultNamespace string) ([]types.FunctionDeployment, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the stack file: %w", err)
	}
	if len(data) > maxStack {
		return nil, fmt.Errorf("%s: %d bytes are too many for a stack file: want at most %d", path, len(data), maxStack)
	}
	return ParseStack(path, data, defaultNamespace)
}

// ParseStack is ReadStack for data already read from path, beside which
// environment files are looked for.
func ParseStack(path string, data []byte, defaultNamespace string) ([]types.FunctionDeployment, error) {
	var s stack
	if err := decodeStrict(path, data, &s); err != nil {
		return nil, err
	}
	if len(s.Functions) == 0 {
		return nil, fmt.Errorf("%s: no functions: want at least one below \"functions:\"", path)
	}
	var (
		deployments []types.FunctionDeployment
		problems    []error
	)
	for _, name := range slices.Sorted(maps.Keys(s.Functions)) {
		f := s.Functions[name]
		if f.Namespace == "" {
			f.Namespace = defaultNamespace
		}
		environment, err := readEnvironment(filepath.Dir(path), f)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("%s: function %q: %w", path, name, err))
			continue
		case !config.ValidName(name):
			problems = append(problems, fmt.Errorf("%s: function %q: want a DNS label: lower case letters, digits and -", path, name))
			continue
		case !config.ValidName(f.Namespace):
			problems = append(problems, fmt.Errorf("%s: function %q: namespace %q: want a DNS label: lower case letters, digits and -", path, name, f.Namespace))
			continue
		}
		deployments = append(deployments, types.FunctionDeployment{
			Service:     name,
			Image:       f.Image,
			Namespace:   f.Namespace,
			EnvProcess:  f.FProcess,
			EnvVars:     environment,
			Labels:      f.Labels,
			Annotations: f.Annotations,
			Limits:      f.Limits,
			Requests:    f.Requests,
			Secrets:     f.Secrets,
		})
	}
	return deployments, errors.Join(problems...)
}

// readEnvironment merges f's environment files and its environment, which wins
// as in faas-cli.
func readEnvironment(dir string, f stackFunction) (map[string]string, error) {
	merged := make(map[string]string)
	for _, name := range f.EnvironmentFile {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("environment_file: %w", err)
		}
		var file struct {
			Environment map[string]string `yaml:"environment"`
		}
		if err := decodeStrict(name, data, &file); err != nil {
			return nil, err
		}
		maps.Copy(merged, file.Environment)
	}
	maps.Copy(merged, f.Environment)
	for name, value := range merged {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return nil, fmt.Errorf("environment variable %q: want a name without = and a value without NUL", name)
		}
	}
	return merged, nil
}

func decodeStrict(path string, data []byte, into any) error {
	if line, err := syntaxError(data); err != nil {
		return fmt.Errorf("%s: line %d: %s", path, line, yamlLine.ReplaceAllString(err.Error(), ""))
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		message := strings.TrimPrefix(err.Error(), "yaml: ")
		return fmt.Errorf("%s: %s", path, goType.ReplaceAllString(message, "is unknown here"))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: want one YAML document, without a second one after ---", path)
	}
	return nil
}

// syntaxError returns what is wrong with data as YAML and in which line. The
// library's own line is that of the block around the error, often the first of
// the file, so the line is found by asking which beginnings of the file are
// good: the error is after the longest. That takes a while for each line, so
// only the first maxLines are told apart.
func syntaxError(data []byte) (line int, err error) {
	parse := func(data []byte) error { return yaml.Unmarshal(data, new(yaml.Node)) }
	if err = parse(data); err == nil {
		return 0, nil
	}
	lines := bytes.SplitAfterN(data, []byte("\n"), maxLines)
	for n, end := len(lines), len(data); n > 0; n-- {
		end -= len(lines[n-1])
		if parse(data[:end]) == nil {
			return n, err
		}
	}
	return 1, err
}

const maxLines = 2000

// yamlLine is the library's mention of a line in a syntax error.
var yamlLine = regexp.MustCompile(`^yaml: (line \d+: )?`)

// goType is what the decoder says of an unknown field: a type of ours, which
// tells the author of the file nothing.
var goType = regexp.MustCompile(`not found in type \S+`)
