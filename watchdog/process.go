package watchdog

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// runtime writes what Go tells of itself, by the names that Prometheus' library
// for Go gives.
func (e *exposition) runtime() {
	pauses := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&pauses)
	e.family("go_gc_duration_seconds", "summary", "How long garbage collections stopped the program.")
	for i, q := range []string{"0", "0.25", "0.5", "0.75", "1"} {
		e.sample("", pauses.PauseQuantiles[i].Seconds(), "quantile", q)
	}
	e.sample("_sum", pauses.PauseTotal.Seconds())
	e.sample("_count", float64(pauses.NumGC))
	e.gauge("go_gc_gogc_percent", "By how much the heap may grow before it is collected, as GOGC says.", gogc(os.Getenv("GOGC")))
	e.gauge("go_gc_gomemlimit_bytes", "The limit of memory that the runtime keeps to.", float64(debug.SetMemoryLimit(-1)))
	e.gauge("go_goroutines", "Goroutines that exist.", float64(runtime.NumGoroutine()))
	e.family("go_info", "gauge", "1, with the version of Go.")
	e.sample("", 1, "version", runtime.Version())

	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.gauge("go_memstats_alloc_bytes", "Heap in use by objects.", float64(m.Alloc))
	e.counter("go_memstats_alloc_bytes_total", "Heap allocated so far, freed or not.", float64(m.TotalAlloc))
	e.gauge("go_memstats_buck_hash_sys_bytes", "Memory of the profiler's hash table.", float64(m.BuckHashSys))
	e.counter("go_memstats_frees_total", "Objects freed so far.", float64(m.Frees))
	e.gauge("go_memstats_gc_sys_bytes", "Memory of what the garbage collector notes.", float64(m.GCSys))
	e.gauge("go_memstats_heap_alloc_bytes", "Heap in use by objects.", float64(m.HeapAlloc))
	e.gauge("go_memstats_heap_idle_bytes", "Heap that waits to be used.", float64(m.HeapIdle))
	e.gauge("go_memstats_heap_inuse_bytes", "Heap in use.", float64(m.HeapInuse))
	e.gauge("go_memstats_heap_objects", "Objects on the heap.", float64(m.HeapObjects))
	e.gauge("go_memstats_heap_released_bytes", "Heap given back to the system.", float64(m.HeapReleased))
	e.gauge("go_memstats_heap_sys_bytes", "Heap taken from the system.", float64(m.HeapSys))
	e.gauge("go_memstats_last_gc_time_seconds", "When garbage was last collected, in seconds since 1970.", float64(m.LastGC)/1e9)
	e.counter("go_memstats_mallocs_total", "Objects allocated so far, freed or not.", float64(m.Mallocs))
	e.gauge("go_memstats_mcache_inuse_bytes", "Memory in use by mcache structures.", float64(m.MCacheInuse))
	e.gauge("go_memstats_mcache_sys_bytes", "Memory taken for mcache structures.", float64(m.MCacheSys))
	e.gauge("go_memstats_mspan_inuse_bytes", "Memory in use by mspan structures.", float64(m.MSpanInuse))
	e.gauge("go_memstats_mspan_sys_bytes", "Memory taken for mspan structures.", float64(m.MSpanSys))
	e.gauge("go_memstats_next_gc_bytes", "At which heap garbage is collected next.", float64(m.NextGC))
	e.gauge("go_memstats_other_sys_bytes", "Memory of other things of the runtime.", float64(m.OtherSys))
	e.gauge("go_memstats_stack_inuse_bytes", "Memory in use by stacks.", float64(m.StackInuse))
	e.gauge("go_memstats_stack_sys_bytes", "Memory taken for stacks.", float64(m.StackSys))
	e.gauge("go_memstats_sys_bytes", "Memory taken from the system.", float64(m.Sys))
	e.gauge("go_sched_gomaxprocs_threads", "Threads that may run Go code at a time.", float64(runtime.GOMAXPROCS(0)))
	threads, _ := runtime.ThreadCreateProfile(nil)
	e.gauge("go_threads", "Threads made so far.", float64(threads))
}

// gogc reads GOGC as the runtime does. Package runtime/metrics knows what it is
// by now, but costs every start.
func gogc(s string) float64 {
	if s == "off" {
		return math.MaxUint64 // which is what runtime/metrics says
	}
	if percent, err := strconv.ParseInt(s, 10, 32); err == nil {
		return float64(uint64(percent))
	}
	return 100
}

// process writes what Linux tells of this process (proc(5)), by the names that
// Prometheus' libraries give; on other systems nothing.
func (e *exposition) process() {
	const ticks = 100 // a second, on every platform that Go runs on
	stat, _ := os.ReadFile("/proc/self/stat")
	// The second field is the program's name, which may have anything in it.
	stat = stat[bytes.LastIndexByte(stat, ')')+1:]
	if fields := bytes.Fields(stat); len(fields) > 21 {
		field := func(n int) float64 { return parseNumber(fields[n-3]) }
		e.counter("process_cpu_seconds_total", "Processor time used, in user space and the kernel.", (field(14)+field(15))/ticks)
		e.gauge("process_resident_memory_bytes", "Resident memory.", field(24)*float64(os.Getpagesize()))
		e.gauge("process_virtual_memory_bytes", "Virtual memory.", field(23))
		if booted, ok := after("/proc/stat", "btime"); ok {
			e.gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", booted+field(22)/ticks)
		}
	}
	if n, ok := after("/proc/self/limits", "Max open files"); ok {
		e.gauge("process_max_fds", "How many file descriptors may be open.", n)
	}
	if n, ok := after("/proc/self/limits", "Max address space"); ok {
		e.gauge("process_virtual_memory_max_bytes", "How much virtual memory there may be.", n)
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.gauge("process_open_fds", "File descriptors that are open.", float64(len(files)-1)) // without the folder's
	}
	// The network namespace's: a container's.
	if n, ok := octets("InOctets"); ok {
		e.counter("process_network_receive_bytes_total", "Bytes that came in by the network.", n)
	}
	if n, ok := octets("OutOctets"); ok {
		e.counter("process_network_transmit_bytes_total", "Bytes that went out by the network.", n)
	}
}

// after returns the number that follows prefix where a line of file begins with it.
func after(file, prefix string) (float64, bool) {
	text, _ := os.ReadFile(file)
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(prefix)); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				return parseNumber(fields[0]), true
			}
		}
	}
	return 0, false
}

// octets returns a number of the IP layer, whose names are in one line and whose
// values are in the next.
func octets(name string) (float64, bool) {
	text, _ := os.ReadFile("/proc/self/net/netstat")
	var names [][]byte
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("IpExt:"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		for i, n := range names {
			if string(n) == name && i < len(fields) {
				return parseNumber(fields[i]), true
			}
		}
		names = fields
	}
	return 0, false
}

// parseNumber reads a number of /proc's; whatever is none means unlimited.
func parseNumber(b []byte) float64 {
	if n, err := strconv.ParseUint(string(b), 10, 64); err == nil {
		return float64(n)
	}
	return math.MaxUint64
}
