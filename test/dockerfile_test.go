package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/gatehound/gatehound/config"
)

// instruction is one of a Dockerfile's, with its continued lines joined.
type instruction struct {
	line    int
	keyword string
	rest    string
}

// stage is what follows one FROM.
type stage struct {
	name         string
	base         string // as written
	instructions []instruction
}

// dockerfile is the subset of the format that we write.
type dockerfile struct {
	args   map[string]string // before the first FROM, with their defaults
	stages []stage
}

// parseDockerfile is strict: what it does not know is an error.
func parseDockerfile(data string) (*dockerfile, error) {
	d := &dockerfile{args: make(map[string]string)}
	from := regexp.MustCompile(`^(?:--platform=\$BUILDPLATFORM )?(\S+)(?: AS ([a-z][a-z0-9-]*))?$`)
	all := strings.Split(strings.TrimSuffix(data, "\n"), "\n")
	for i := 0; i < len(all); i++ {
		text, n := all[i], i+1
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		for strings.HasSuffix(text, `\`) {
			if i++; i == len(all) || all[i] == "" || strings.HasPrefix(strings.TrimSpace(all[i]), "#") {
				return nil, fmt.Errorf("line %d: the instruction is not continued", n)
			}
			text = strings.TrimSuffix(text, `\`) + all[i]
		}
		keyword, rest, found := strings.Cut(text, " ")
		rest = strings.TrimSpace(rest)
		if !found || rest == "" || strings.TrimRight(text, " \t") != text {
			return nil, fmt.Errorf("line %d: %q: want KEYWORD arguments", n, text)
		}
		switch {
		case keyword == "FROM":
			m := from.FindStringSubmatch(rest)
			if m == nil {
				return nil, fmt.Errorf("line %d: FROM %s: want FROM [--platform=$BUILDPLATFORM] image [AS name]", n, rest)
			}
			d.stages = append(d.stages, stage{name: m[2], base: m[1]})
		case len(d.stages) == 0 && keyword == "ARG":
			name, value, found := strings.Cut(rest, "=")
			if !found {
				return nil, fmt.Errorf("line %d: ARG %s: want a default", n, rest)
			}
			d.args[name] = value
		case len(d.stages) == 0:
			return nil, fmt.Errorf("line %d: %s before the first FROM", n, keyword)
		case slices.Contains([]string{"ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD", "ENTRYPOINT"}, keyword):
			s := &d.stages[len(d.stages)-1]
			s.instructions = append(s.instructions, instruction{n, keyword, rest})
		default:
			return nil, fmt.Errorf("line %d: %s is not among the instructions that are used here", n, keyword)
		}
	}
	if len(d.stages) == 0 {
		return nil, fmt.Errorf("no FROM")
	}
	return d, nil
}

// stage returns the stage of that name; "" = the last.
func (d *dockerfile) stage(t *testing.T, name string) stage {
	t.Helper()
	if name == "" {
		return d.stages[len(d.stages)-1]
	}
	i := slices.IndexFunc(d.stages, func(s stage) bool { return s.name == name })
	require.GreaterOrEqual(t, i, 0, "no stage %s", name)
	return d.stages[i]
}

// environment returns what ENV sets, "name=value".
func (s stage) environment() []string {
	var all []string
	for _, i := range s.instructions {
		if i.keyword == "ENV" {
			name, value, _ := strings.Cut(i.rest, "=")
			all = append(all, name+"="+strings.Trim(value, `"`))
		}
	}
	return all
}

// last returns the arguments of the last instruction of that keyword.
func (s stage) last(keyword string) string {
	for _, i := range slices.Backward(s.instructions) {
		if i.keyword == keyword {
			return i.rest
		}
	}
	return ""
}

func readDockerfile(t *testing.T, path string) *dockerfile {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	d, err := parseDockerfile(string(data))
	require.NoError(t, err, path)
	return d
}

func TestDockerfileParserIsStrict(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                    "no FROM",
		"RUN true\nFROM scratch\n":            "before the first FROM",
		"FROM scratch\nADD a b\n":             "ADD is not among",
		"FROM scratch\nrun true\n":            "run is not among",
		"FROM scratch\nRUN true \\\n":         "not continued",
		"FROM scratch\nRUN a \\\n\n b\n":      "not continued",
		"FROM scratch\nRUN\n":                 "want KEYWORD",
		"FROM --platform=linux/amd64 scratch": "want FROM",
		"ARG A\nFROM scratch\n":               "want a default",
	} {
		_, err := parseDockerfile(text)
		require.ErrorContains(t, err, want, text)
	}
}

// TestDockerfiles checks the rules that all our Dockerfiles keep.
func TestDockerfiles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../template/*/Dockerfile")
	require.NoError(t, err)
	require.Len(t, paths, len(templates))
	for _, path := range append(paths, "../Dockerfile") {
		t.Run(strings.TrimPrefix(path, "../"), func(t *testing.T) {
			t.Parallel()
			d := readDockerfile(t, path)
			for name, image := range d.args {
				// A bare name or user/name, so that the builder says from where.
				require.Regexp(t, `^[a-z0-9-]+(/[a-z0-9-]+)?:[a-z0-9.-]+$`, image, name)
			}
			seen := []string{"scratch"}
			for _, s := range d.stages {
				if name := strings.TrimSuffix(strings.TrimPrefix(s.base, "${"), "}"); name != s.base {
					require.Contains(t, d.args, name)
				} else {
					require.Contains(t, seen, s.base, "images are named by ARG")
				}
				seen = append(seen, s.name)
				for _, i := range s.instructions {
					checkInstruction(t, i, seen, filepath.Dir(path))
				}
			}
		})
	}
}

func checkInstruction(t *testing.T, i instruction, stages []string, context string) {
	switch i.keyword {
	case "ARG":
		require.Regexp(t, `^[A-Z]+(_[A-Z]+)*(=[a-z]+)?$`, i.rest)
	case "ENV":
		require.Regexp(t, `^[A-Za-z_]+=("[^"$]*"|[^" $]+)$`, i.rest)
	case "CMD", "ENTRYPOINT":
		// The shell form puts a shell before the watchdog, which swallows SIGTERM.
		var words []string
		require.NoError(t, json.Unmarshal([]byte(i.rest), &words), "line %d", i.line)
	case "USER":
		// A number: Kubernetes cannot tell that a name is not root's.
		require.Equal(t, "65532:65532", i.rest)
	case "EXPOSE":
		require.Regexp(t, `^\d+( \d+)*$`, i.rest)
	case "RUN":
		require.NoError(t, exec.Command("sh", "-n", "-c", i.rest).Run(), "line %d", i.line)
		require.NotRegexp(t, `;|\|`, strings.ReplaceAll(i.rest, "||", ""), "line %d: a failure would go unnoticed", i.line)
	case "COPY":
		words := strings.Fields(i.rest)
		if from, ok := strings.CutPrefix(words[0], "--from="); ok {
			require.Contains(t, stages, from)
			return
		}
		for _, source := range words[:len(words)-1] {
			require.NotContains(t, source, "--", "line %d", i.line)
			_, err := os.Stat(filepath.Join(context, source))
			require.NoError(t, err, "line %d", i.line)
		}
	}
}

// TestImages checks what the images' users rely on.
func TestImages(t *testing.T) {
	t.Parallel()
	d := readDockerfile(t, "../Dockerfile")
	require.Equal(t, "watchdog", d.stage(t, "").name, "docker build . makes the image that functions copy from")
	require.Equal(t, stage{name: "watchdog", base: "scratch", instructions: []instruction{
		{keyword: "COPY", rest: "--from=build-watchdog /out/fwatchdog /fwatchdog"},
		{keyword: "ENTRYPOINT", rest: `["/fwatchdog"]`},
	}}, withoutLines(d.stage(t, "watchdog")))

	gateway := d.stage(t, "gateway")
	require.Equal(t, "scratch", gateway.base)
	require.Equal(t, `["/gateway"]`, gateway.last("ENTRYPOINT"))
	require.NotEmpty(t, gateway.last("USER"))
	c, err := config.ParseGateway(append(gateway.environment(),
		"functions_provider_url=http://provider:8081", "system_issuer=https://gateway.example.com"))
	require.NoError(t, err)
	require.Equal(t, "/var/lib/gatehound", c.DataDir)
}

func withoutLines(s stage) stage {
	s.instructions = slices.Clone(s.instructions)
	for i := range s.instructions {
		s.instructions[i].line = 0
	}
	return s
}

// allPlatforms is set by .ci/run: everything is compiled once more for each
// platform, which takes minutes on a small machine.
const allPlatforms = "GATEHOUND_ALL_PLATFORMS"

// TestImageBuildCommands runs the Dockerfile's own build commands, in two
// copies of what .dockerignore lets through: the binaries are static, know
// their version, and are the same byte for byte.
func TestImageBuildCommands(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("builds by the Dockerfile's command, which is the same without the race detector")
	}
	d := readDockerfile(t, "../Dockerfile")
	copies := []string{contextCopy(t), contextCopy(t)}
	for _, b := range []struct{ stage, binary, arch, variant, header string }{
		{"build-watchdog", "fwatchdog", "amd64", "", "\x7fELF\x02\x01"},
		{"build-watchdog", "fwatchdog", "arm64", "v8", "\x7fELF\x02\x01"},
		{"build-watchdog", "fwatchdog", "arm", "v7", "\x7fELF\x01\x01"},
		{"build-gateway", "gateway", "amd64", "", "\x7fELF\x02\x01"},
		{"build-federated-gateway", "federated-gateway", "amd64", "", "\x7fELF\x02\x01"},
	} {
		if b.arch != runtime.GOARCH && os.Getenv(allPlatforms) == "" {
			t.Logf("NOT BUILT for %s: %s is not set", b.arch, allPlatforms)
			continue
		}
		var built [][]byte
		for _, dir := range copies {
			out := t.TempDir()
			i := slices.IndexFunc(d.stage(t, b.stage).instructions, func(i instruction) bool { return i.keyword == "RUN" })
			command := d.stage(t, b.stage).instructions[i].rest
			require.Equal(t, 1, strings.Count(command, "-o /out/"))
			cmd := exec.Command("sh", "-euc", strings.Replace(command, "-o /out/", "-o "+out+"/", 1))
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+b.arch, "TARGETVARIANT="+b.variant, "VERSION=v9.8.7", "REVISION=abcdef")
			printed, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", printed)
			data, err := os.ReadFile(filepath.Join(out, b.binary))
			require.NoError(t, err)
			built = append(built, data)
			if b.binary == "fwatchdog" && b.arch == "amd64" {
				if runtime.GOOS+"/"+runtime.GOARCH == "linux/amd64" {
					version, err := exec.Command(filepath.Join(out, b.binary), "-version").Output()
					require.NoError(t, err)
					require.Equal(t, "Version: v9.8.7\tSHA: abcdef\n", string(version))
				}
			}
		}
		require.True(t, bytes.HasPrefix(built[0], []byte(b.header)), b.arch)
		require.NotContains(t, string(built[0]), "/ld-linux", "it is static")
		require.NotContains(t, string(built[0]), copies[0], "it names the folder it was built in")
		require.True(t, bytes.Equal(built[0], built[1]), "%s for %s differs with the folder", b.binary, b.arch)
	}
}

// contextCopy returns a folder with what .dockerignore sends to the builder.
func contextCopy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile("../.dockerignore")
	require.NoError(t, err)
	require.Contains(t, string(data), "\n*\n", "everything is left out that is not named")
	for _, line := range lines(string(data)) {
		name, ok := strings.CutPrefix(line, "!")
		if !ok {
			continue
		}
		info, err := os.Stat(filepath.Join("..", name))
		require.NoError(t, err)
		if info.IsDir() {
			require.NoError(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("..", name))))
			continue
		}
		file, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), file, 0o600))
	}
	return dir
}

// templateFile is faas-cli's template.yml.
type templateFile struct {
	Language       string `yaml:"language"`
	FProcess       string `yaml:"fprocess"`
	WelcomeMessage string `yaml:"welcome_message"`
}

// TestTemplates checks what faas-cli and the images' users rely on.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, name := range templates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join("../template", name)
			var y templateFile
			decodeFile(t, filepath.Join(dir, "template.yml"), &y)
			require.Equal(t, name, y.Language)
			require.Contains(t, y.WelcomeMessage, "jwt_auth: true")

			final := readDockerfile(t, filepath.Join(dir, "Dockerfile")).stage(t, "")
			require.Equal(t, `["fwatchdog"]`, final.last("CMD"))
			require.NotEmpty(t, final.last("USER"))
			environment := final.environment()
			if y.FProcess != "" {
				// faas-cli sets it over the image's own.
				require.Contains(t, environment, "fprocess="+y.FProcess)
			}
			if name != "go-inproc" {
				require.Contains(t, final.instructions[0].rest, "--from=watchdog /fwatchdog /usr/bin/fwatchdog")
				_, err := config.ParseWatchdog(environment)
				require.NoError(t, err)
			}

			var stack map[string]any
			decodeFile(t, filepath.Join(dir, "example", "stack.yml"), &stack)
			for _, f := range stack["functions"].(map[string]any) {
				f := f.(map[string]any)
				require.Equal(t, name, f["lang"])
				require.DirExists(t, filepath.Join("..", f["handler"].(string)))
				require.Equal(t, map[string]any{"jwt_auth": true}, f["environment"])
			}
			require.FileExists(t, filepath.Join(dir, "README.md"))
		})
	}
}

func decodeFile(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	require.NoError(t, d.Decode(into), path)
}
