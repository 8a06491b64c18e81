package local

import (
	"time"

	"github.com/openfaas/faas-provider/types"
)

// consumption is what a process and its descendants use.
type consumption struct {
	cpu    time.Duration // since their start, with children that have ended
	memory uint64        // resident, in bytes
}

// usage returns what all replicas use: memory, and CPU since the last call, or
// since the function's start, in thousandths of a CPU; nil = it is not known.
func (f *function) usage() *types.FunctionUsage {
	processes, err := readProcesses()
	if err != nil {
		return nil
	}
	var total consumption
	f.mu.Lock()
	for _, r := range f.replicas {
		if pid := int(r.pid.Load()); pid != 0 {
			c := processes.tree(pid)
			total.cpu += c.cpu
			total.memory += c.memory
		}
	}
	f.mu.Unlock()

	now := time.Now()
	f.usageMu.Lock()
	defer f.usageMu.Unlock()
	since := now.Sub(f.usedAt)
	// A replica that has ended takes what it had used along.
	spent := max(total.cpu-f.used, 0)
	f.used, f.usedAt = total.cpu, now
	return &types.FunctionUsage{
		CPU:              1000 * spent.Seconds() / max(since.Seconds(), 0.001),
		TotalMemoryBytes: float64(total.memory),
	}
}

// processes are all of this machine, by number.
type processes struct {
	own      map[int]consumption
	children map[int][]int
}

// tree returns what pid and its descendants use, of which each counts once: they
// are not read at one moment, so with a number that is used again one can be its
// own descendant.
func (p processes) tree(pid int) consumption {
	total, children := p.own[pid], p.children[pid]
	delete(p.own, pid)
	delete(p.children, pid)
	for _, child := range children {
		c := p.tree(child)
		total.cpu += c.cpu
		total.memory += c.memory
	}
	return total
}
