package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The collector's settings. Go lets the heap grow by what is live before it collects: nothing for a small
// heap, and half of the memory where ten thousand calls are in flight, which allocate little.
const (
	// thriftFrom is the live heap from which on what waits to be collected is kept at about this size …
	thriftFrom = 128 << 20
	// … down to this part of what is live, in percent: below it, collecting would take the processor's time.
	leastPercent = 25
	// usualPercent is Go's own.
	usualPercent = 100
	thriftEvery  = 200 * time.Millisecond
)

// thrift adapts the collector to the live heap until ctx ends, unless the environment has settings of its own.
func thrift(ctx context.Context, getenv func(string) string) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return
	}
	tick := time.NewTicker(thriftEvery)
	defer tick.Stop()
	defer debug.SetGCPercent(usualPercent)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	last := usualPercent
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if percent := collectAt(live[0].Value.Uint64()); percent != last {
			last = percent
			debug.SetGCPercent(percent)
		}
	}
}

// collectAt is by how many percent a heap may grow before it is collected.
func collectAt(live uint64) int {
	if live <= thriftFrom {
		return usualPercent
	}
	return max(leastPercent, int(usualPercent*thriftFrom/live))
}
