package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// readProcesses reads /proc/*/stat: proc_pid_stat(5).
func readProcesses() (processes, error) {
	p := processes{own: make(map[int]consumption), children: make(map[int][]int)}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(paths) == 0 {
		return p, fmt.Errorf("no processes in /proc: %w", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if pid, parent, c, ok := parseStat(data); ok {
			p.own[pid] = c
			p.children[parent] = append(p.children[parent], pid)
		}
	}
	return p, nil
}

// clockTick is 1/sysconf(_SC_CLK_TCK), the same on all of Linux' architectures
// that Go runs on.
const clockTick = time.Second / 100

// parseStat reads one process' line. The name in it may hold anything, also
// parentheses.
func parseStat(data []byte) (pid, parent int, c consumption, ok bool) {
	begin, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if begin < 1 || end < begin {
		return 0, 0, c, false
	}
	fields := bytes.Fields(data[end+1:]) // from field 3 on, the state
	if len(fields) < 22 {
		return 0, 0, c, false
	}
	number := func(b []byte) uint64 {
		n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 63)
		ok = ok && err == nil
		return n
	}
	ok = true
	pid, parent = int(number(data[:begin])), int(number(fields[1]))
	ticks := number(fields[11]) + number(fields[12])
	// Those of children that have been waited for, signed in theory.
	for _, f := range fields[13:15] {
		if n, err := strconv.ParseInt(string(f), 10, 64); err == nil && n > 0 {
			ticks += uint64(n)
		}
	}
	c.cpu = time.Duration(ticks) * clockTick
	c.memory = number(fields[21]) * uint64(os.Getpagesize())
	return pid, parent, c, ok && pid != parent
}
