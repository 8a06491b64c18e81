package config

import "runtime/debug"

// Version returns what the Go tool recorded in the binary: the module's
// version, such as "v1.2.0", or "dev" for a local build; and the git commit,
// or "unknown".
func Version() (version, revision string) {
	version, revision = "dev", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}
