package bench

import (
	"bytes"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"syscall"
	"time"
)

// cpuTime is what this process used so far, user and system.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// clockTicks is the unit of times in /proc, on every Linux that Go runs on: USER_HZ.
const clockTicks = 100

// cpuOf is what a process used so far, in seconds; 0 where there is no /proc.
func cpuOf(pid int) float64 {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// man 5 proc: utime and stime are the 14th and 15th field, the second one ends in the last parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, userErr := strconv.ParseFloat(string(fields[11]), 64)
	system, systemErr := strconv.ParseFloat(string(fields[12]), 64)
	if userErr != nil || systemErr != nil {
		return 0
	}
	return (user + system) / clockTicks
}

// watchCPU tells what each process used since, by name.
func watchCPU(pids map[string]int) func() map[string]float64 {
	before := map[string]float64{}
	for name, pid := range pids {
		before[name] = cpuOf(pid)
	}
	return func() map[string]float64 {
		used := map[string]float64{}
		for name, pid := range pids {
			used[name] = cpuOf(pid) - before[name]
		}
		return used
	}
}

// Names of runtime/metrics: objects that are live or not yet swept, those that the last collection found live,
// and what is reserved for stacks.
const (
	heapMetric   = "/memory/classes/heap/objects:bytes"
	liveMetric   = "/gc/heap/live:bytes"
	stacksMetric = "/memory/classes/heap/stacks:bytes"
)

// heapEvery is how often the heap is looked at: a peak shorter than that may be missed.
const heapEvery = 10 * time.Millisecond

// memoryWatch follows this process's memory until it is stopped.
type memoryWatch struct {
	reset bool
	stop  func()
	heap  uint64
}

// watchMemory gives back what earlier rounds left, sets the peak of the resident set back where the system
// can, and starts to look.
func watchMemory() *memoryWatch {
	debug.FreeOSMemory()
	const resetPeak = "5" // man 5 proc: clear_refs
	w := &memoryWatch{}
	w.reset = os.WriteFile("/proc/self/clear_refs", []byte(resetPeak), 0) == nil
	heap := []metrics.Sample{{Name: heapMetric}}
	look := func() {
		metrics.Read(heap)
		w.heap = max(w.heap, heap[0].Value.Uint64())
	}
	look()
	w.stop = repeat(heapEvery, look)
	return w
}

// end stops looking and returns the peaks.
func (w *memoryWatch) end() *Memory {
	w.stop()
	return &Memory{PeakRSSBytes: peakRSS(), HeapPeakBytes: int64(w.heap), ResetRSS: w.reset}
}

// peakRSS reads VmHWM, which the kernel gives in kB; 0 where there is no /proc.
func peakRSS() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
