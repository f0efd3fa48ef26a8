package bench

import (
	"bytes"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
)

// footprint is what this process takes, in bytes.
type footprint struct {
	// resident is 0 where there is no /proc.
	resident, live int64
}

func measureFootprint() footprint {
	now := []metrics.Sample{{Name: liveMetric}, {Name: stacksMetric}}
	metrics.Read(now)
	return footprint{residentBytes(), int64(now[0].Value.Uint64() + now[1].Value.Uint64())}
}

// residentBytes reads the second field of /proc/self/statm: pages of the resident set.
func residentBytes() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	const resident = 1
	fields := bytes.Fields(statm)
	if len(fields) <= resident {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[resident]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// growth follows this process's footprint until it is stopped.
type growth struct {
	before, peak footprint
	stop         func()
}

// watchGrowth gives back what earlier rounds left, and starts to look.
func watchGrowth() *growth {
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what pools hold takes two collections
	now := measureFootprint()
	g := &growth{before: now, peak: now}
	g.stop = repeat(heapEvery, func() {
		now := measureFootprint()
		g.peak.resident = max(g.peak.resident, now.resident)
		g.peak.live = max(g.peak.live, now.live)
	})
	return g
}

// end stops looking and tells what each of so many calls took.
func (g *growth) end(calls int) (resident *Growth, live Growth) {
	g.stop()
	live = growthOf(g.before.live, g.peak.live, calls)
	if g.before.resident > 0 {
		r := growthOf(g.before.resident, g.peak.resident, calls)
		resident = &r
	}
	return resident, live
}

func growthOf(before, peak int64, calls int) Growth {
	return Growth{Before: before, Peak: peak, PerCall: float64(peak-before) / float64(calls)}
}
