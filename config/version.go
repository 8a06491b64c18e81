package config

import "runtime/debug"

// release and commit are set by the linker where the sources are built without
// their git folder, as in an image: see the Dockerfile.
var release, commit string

// Version returns what the linker was told, else what the Go tool recorded in
// the binary: the module's version, such as "v1.2.0", or "dev" for a local
// build; and the git commit, or "unknown".
func Version() (version, revision string) {
	if release != "" && commit != "" {
		return release, commit
	}
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
