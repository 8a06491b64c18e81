//go:build linux

package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what was measured on, and which programs.
type machine struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Memory   string   `json:"memory"`
	Kernel   string   `json:"kernel"`
	Date     string   `json:"date"`
	Programs []string `json:"programs"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s, Linux %s; load and servers share the cores. %s, %s.",
		m.CPU, m.Cores, m.Memory, m.Kernel, strings.Join(m.Programs, ", "), m.Date)
}

func describe(b *bench) machine {
	m := machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(),
		Kernel: field("/proc/sys/kernel/osrelease", ""), Date: time.Now().UTC().Format(time.DateOnly),
	}
	kib, _ := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	m.Memory = fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
	m.Programs = append(m.Programs, "gatehound "+commit(filepath.Join(b.binaries, "fwatchdog")), runtime.Version())
	for _, name := range []string{"haproxy", "nginx", "wrk"} {
		version := name + " MISSING"
		if program := b.programs[name]; program != "" {
			out, _ := exec.Command(program, "-v").CombinedOutput()
			version = strings.TrimPrefix(string(out), "nginx version: ")
			version = strings.TrimSpace(versionEnd.Split(version, 2)[0])
		}
		m.Programs = append(m.Programs, version)
	}
	if b.upstream == "" {
		m.Programs = append(m.Programs, "of-watchdog MISSING")
	} else {
		m.Programs = append(m.Programs, "of-watchdog "+commit(b.upstream))
	}
	return m
}

// versionEnd is where advertisements begin.
var versionEnd = regexp.MustCompile(` - | \[|\n`)

// field is what follows "name" and a colon in file, or its first line if there
// is no name.
func field(file, name string) string {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if name == "" {
			return strings.TrimSpace(line)
		}
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// commit is the one that a Go program was built from, and the Go it was built with.
func commit(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err.Error()
	}
	revision := "of an unknown commit"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))] + strings.TrimPrefix(revision, "of an unknown commit")
		case s.Key == "vcs.modified" && s.Value == "true":
			revision += " with changes"
		}
	}
	return revision + " (" + info.GoVersion + ")"
}
