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
	// A process that starts reads what is stored, and nearly all of that stays: for so long, and up to so much
	// of a live heap, it collects less often.
	startFor, startUpTo, startPercent = 10 * time.Second, 512 << 20, 300
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
	last, started := usualPercent, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		if last == startPercent && time.Since(started) >= startFor {
			debug.FreeOSMemory() // what the start took and does not need any more
		}
		if percent := collectAt(live[0].Value.Uint64(), time.Since(started)); percent != last {
			last = percent
			debug.SetGCPercent(percent)
		}
	}
}

// collectAt is by how many percent the heap of a process of that age may grow before it is collected.
func collectAt(live uint64, age time.Duration) int {
	if age < startFor && live <= startUpTo {
		return startPercent
	}
	if live <= thriftFrom {
		return usualPercent
	}
	return max(leastPercent, int(usualPercent*thriftFrom/live))
}
